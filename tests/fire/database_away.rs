//! PostgreSQL ends without a word in the middle of uploads, and comes back.

use std::time::{Duration, Instant};

use devstack::{Endpoints, Kill, Postgres, Workspace};

use crate::browsers::{Browsers, Manner};
use crate::outcome::{all_distributed, each_fed_whole_and_once, hashing, never, sessions};
use crate::size::{SHORT_LEASE, pick, settings};
use crate::world::{LATE, Plan, World};

#[tokio::test]
async fn a_database_that_is_away_is_not_noticed_but_for_the_wait_and_costs_no_generation() {
    // With what the server takes to come up again: 10 s, or the 40 s of a restart on another machine.
    let kept_away = Duration::from_secs(pick(8, 40));
    let workspace = Workspace::new("database-away").unwrap();
    let mut database = Postgres::start(&workspace).await.unwrap();
    let shared = Endpoints::from_env().expect("the tests need servers: run `make test`");
    let endpoints = Some(Endpoints { postgres_url: database.url("postgres"), ..shared });
    let world = World::planned(Plan {
        endpoints,
        settings: settings(&SHORT_LEASE),
        fflow: hashing(),
        ..Plan::default()
    })
    .await;
    let _replicas = [world.replica("one").await, world.replica("two").await];
    let client = world.client().await;
    let manner = Manner { sessions: pick(40, 100), ..Manner::default() };
    let mut browsers = Browsers::start(&world, &client, manner).await;
    browsers.reach(&world, 12).await;
    world.wait("every upload to be fed", LATE, async || world.fflow.flows().len() == manner.sessions).await;

    let stopped = Instant::now();
    database.stop(Kill::Immediate).await.unwrap();
    let harm = async || browsers.hurt() > 0 || world.fflow.flows().len() > manner.sessions;
    never("a chunk refused, or a process given up", kept_away, harm).await;
    database.restart().await.unwrap();
    let away = stopped.elapsed();
    let recovered = browsers.all_move(&world).await;
    browsers.hurry();
    let seen = browsers.end().await;
    all_distributed(&world, manner.sessions, LATE).await;

    println!(
        "FIRE database-away: {} uploads, PostgreSQL away for {:.0} s: {seen}; every upload went on within {:.1} s of its \
         return, every generation is 1",
        manner.sessions,
        away.as_secs_f64(),
        recovered.as_secs_f64()
    );
    seen.assert_nothing_but_acks(&manner);
    assert!(seen.largest_gap >= kept_away, "the outage was in the middle");
    assert_eq!(sessions(&world, "generation <> 1").await, 0);
    assert_eq!(world.fflow.flows().len(), manner.sessions);
    each_fed_whole_and_once(&world, &browsers);
}
