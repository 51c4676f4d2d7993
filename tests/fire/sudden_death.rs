//! One process dies without a word while uploads are under way: a replica of fflow, of the service, or Redis.

use std::time::{Duration, Instant};

use devstack::{Endpoints, Redis, Workspace};
use peers::recording::{FlowState, RecordedFlow};

use crate::browsers::{Browsers, Manner};
use crate::outcome::{all_distributed, each_fed_whole_and_once, hashing, of, sessions};
use crate::size::{AFTER_A_DEATH, SHORT_LEASE, pick, settings};
use crate::world::{LATE, Plan, Replica, SOON, World};

/// A chunk that a dead replica held is delivered to another one at once.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

fn manner() -> Manner {
    Manner { sessions: pick(20, 60), file: pick(1_200_000, 3_000_000), ..Manner::default() }
}

/// All uploads are being fed.
async fn under_way(world: &World, browsers: &Browsers) {
    browsers.reach(world, 12).await;
    let fed = async || {
        let flows = world.fflow.flows();
        browsers
            .uploads
            .iter()
            .all(|upload| of(&flows, &upload.session.to_string()).any(|flow| flow.bytes > 0))
    };
    world.wait("every upload to be fed", LATE, fed).await;
}

/// The processes of this list have successors that were fed at least as much.
fn replaced(world: &World, lost: &[RecordedFlow]) -> bool {
    let flows = world.fflow.flows();
    lost.iter().all(|lost| {
        let session = lost.name.split('~').next().unwrap_or_default();
        of(&flows, session)
            .any(|flow| flow.name != lost.name && flow.bytes >= lost.bytes && flow.state != FlowState::Lost)
    })
}

#[tokio::test]
async fn the_death_of_an_fflow_replica_is_not_noticed_by_any_client() {
    let world = World::with(hashing(), &[]).await;
    let _replicas = [world.replica("one").await, world.replica("two").await];
    let (client, manner) = (world.client().await, manner());
    let mut browsers = Browsers::start(&world, &client, manner).await;
    under_way(&world, &browsers).await;

    world.fflow.kill_replica(1);
    let killed = Instant::now();
    let lost: Vec<_> = world.fflow.flows().into_iter().filter(|flow| flow.state == FlowState::Lost).collect();
    world.wait("what was lost to be fed again", LATE, async || replaced(&world, &lost)).await;
    let recovered = killed.elapsed();
    world.fflow.revive_replica(1);
    browsers.hurry();
    let seen = browsers.end().await;
    all_distributed(&world, manner.sessions, LATE).await;

    println!(
        "FIRE fflow-killed: {} uploads, {} processes lost: {seen}; all of them fed again as far within {:.1} s",
        manner.sessions,
        lost.len(),
        recovered.as_secs_f64()
    );
    assert!(!lost.is_empty(), "nothing was lost");
    seen.assert_nothing_but_acks(&manner);
    assert_eq!(sessions(&world, "strikes > 0").await, 0);
    each_fed_whole_and_once(&world, &browsers);
}

/// How many sessions a replica feeds.
async fn fed_by(world: &World, name: &str) -> usize {
    let owned = format!(
        "state IN ('OPEN', 'SEALED') AND owner IN (SELECT replica_id FROM uploader.replica WHERE name = '{name}')"
    );
    sessions(world, &owned).await
}

#[tokio::test]
async fn the_death_of_a_replica_is_not_noticed_by_any_client() {
    let world = World::with(hashing(), &settings(&SHORT_LEASE)).await;
    let one = world.replica("one").await;
    let _two = world.replica("two").await;
    let (client, manner) = (world.client().await, manner());
    let mut browsers = Browsers::start(&world, &client, manner).await;
    under_way(&world, &browsers).await;

    let orphans = fed_by(&world, "one").await;
    one.process.kill().await.unwrap();
    let killed = Instant::now();
    let answered = browsers.all_move(&world).await;
    world.wait("its feeds to have another owner", LATE, async || fed_by(&world, "one").await == 0).await;
    let recovered = killed.elapsed();
    browsers.hurry();
    let seen = browsers.end().await;
    all_distributed(&world, manner.sessions, AFTER_A_DEATH).await;

    println!(
        "FIRE uploader-killed: {} uploads, {orphans} of them fed by it: {seen}; every client had its next ack within \
         {:.1} s, every feed another owner within {:.1} s",
        manner.sessions,
        answered.as_secs_f64(),
        recovered.as_secs_f64()
    );
    assert!(orphans > 0, "it fed nothing");
    seen.assert_nothing_but_acks(&manner);
    assert!(answered < ANSWERED_WITHIN, "{answered:?}");
    each_fed_whole_and_once(&world, &browsers);
}

async fn degraded(replica: &Replica) -> bool {
    let (status, body) = replica.readyz().await;
    status == 200 && body.contains("degraded") && body.contains("redis")
}

#[tokio::test]
async fn the_death_of_redis_is_not_noticed_by_any_client() {
    let workspace = Workspace::new("redis-killed").unwrap();
    let mut redis = Redis::start(&workspace).await.unwrap();
    let shared = Endpoints::from_env().expect("the tests need servers: run `make test`");
    let endpoints = Some(Endpoints { redis_port: redis.port(), ..shared });
    let world = World::planned(Plan { endpoints, fflow: hashing(), ..Plan::default() }).await;
    let replicas = [world.replica("one").await, world.replica("two").await];
    let (client, manner) = (world.client().await, manner());
    let mut browsers = Browsers::start(&world, &client, manner).await;
    under_way(&world, &browsers).await;

    redis.process().kill().await.unwrap();
    let killed = Instant::now();
    let answered = browsers.all_move(&world).await;
    world.wait("readiness to say so", SOON, async || degraded(&replicas[0]).await).await;
    let noticed = killed.elapsed();
    redis.restart().await.unwrap();
    let back = Instant::now();
    let well = async || !degraded(&replicas[0]).await && !degraded(&replicas[1]).await;
    world.wait("readiness to be well", LATE, well).await;
    let recovered = back.elapsed();
    browsers.hurry();
    let seen = browsers.end().await;
    all_distributed(&world, manner.sessions, LATE).await;

    println!(
        "FIRE redis-killed: {} uploads: {seen}; every client had its next ack within {:.1} s, readiness said degraded \
         after {:.1} s and well {:.1} s after its return, every generation is 1",
        manner.sessions,
        answered.as_secs_f64(),
        noticed.as_secs_f64(),
        recovered.as_secs_f64()
    );
    seen.assert_nothing_but_acks(&manner);
    assert!(answered < ANSWERED_WITHIN, "{answered:?}");
    assert_eq!(sessions(&world, "generation <> 1").await, 0);
    each_fed_whole_and_once(&world, &browsers);
}
