//! RabbitMQ is under its memory alarm: it takes nothing from those who publish, replies included.

use std::time::{Duration, Instant};

use devstack::{Endpoints, QueueDepth, RabbitMq, Workspace};

use crate::browsers::{Browsers, Manner};
use crate::outcome::{all_distributed, each_fed_whole_and_once, hashing, never, sessions};
use crate::size::{pick, settings};
use crate::world::{LATE, Plan, World};

/// Deliveries that one replica holds at once: fewer than what waits, so that draining takes more than one fill.
const PREFETCH: usize = 16;

#[tokio::test]
async fn a_broker_under_alarm_drains_by_itself_and_every_answer_comes_when_it_lifts() {
    let alarm = Duration::from_secs(pick(12, 60));
    let workspace = Workspace::new("broker-alarm").unwrap();
    let broker = RabbitMq::start(&workspace).await.unwrap();
    let world = world_on(&broker).await;
    let replica = world.replica("one").await;
    let client = world.client().await;
    // Without a pause: every upload has a chunk on its way whenever the alarm comes.
    let (sessions_at_once, patience) = (pick(100, 200), alarm + Duration::from_secs(60));
    let steady = Manner { file: 800_000, pause: Duration::ZERO, ..Manner::default() };
    let manner = Manner { sessions: sessions_at_once, patience, ..steady };
    let mut browsers = Browsers::start(&world, &client, manner).await;
    browsers.reach(&world, 4).await;

    broker.memory_alarm(true).await.unwrap();
    let raised = Instant::now();
    let waiting = async || depth(&world).await.ready > 0;
    world.wait("the queue to fill", LATE, waiting).await;
    let filled = depth(&world).await;
    let empty = async || {
        let left = depth(&world).await;
        left.ready + left.unacked == 0
    };
    world.wait("the queue to drain under the alarm", LATE, empty).await;
    let drained = raised.elapsed();
    let said = replica.readyz().await;
    let harm = async || browsers.hurt() > 0;
    never("a chunk refused", alarm.saturating_sub(raised.elapsed()), harm).await;
    let acked = browsers.acks();
    broker.memory_alarm(false).await.unwrap();
    let answered = browsers.all_move(&world).await;
    let seen = browsers.end().await;
    all_distributed(&world, manner.sessions, LATE).await;

    println!(
        "FIRE broker-alarm: {} uploads, memory alarm for {} s with {} chunks in the queue: drained {:.1} s after the \
         alarm; {seen}; every client had its answer within {:.1} s of its end",
        manner.sessions,
        alarm.as_secs(),
        filled.ready + filled.unacked,
        drained.as_secs_f64(),
        answered.as_secs_f64()
    );
    assert!(filled.ready as usize + filled.unacked as usize > PREFETCH, "{filled:?}: one fill was all");
    assert!(said.0 == 200 && said.1.contains("alarm"), "{said:?}");
    assert!(drained < alarm, "it drained before the alarm was lifted");
    assert!(acked.iter().sum::<usize>() < seen.acks, "the uploads were over");
    seen.assert_nothing_but_acks(&manner);
    assert_eq!(sessions(&world, "generation <> 1").await, 0);
    each_fed_whole_and_once(&world, &browsers);
}

/// A world whose broker is its own: an alarm is for all who publish.
async fn world_on(broker: &RabbitMq) -> World {
    let mut endpoints = Endpoints::from_env().expect("the tests need servers: run `make test`");
    endpoints.amqp_url = broker.amqp_url("").trim_end_matches('/').to_owned();
    endpoints.amqp_management_url = broker.management_url();
    let mut own = settings(&[("UPLOADER_AMQP_BLOCKED_GRACE", "4s")]);
    own.push(("UPLOADER_PREFETCH", "16"));
    let plan = Plan { endpoints: Some(endpoints), settings: own, fflow: hashing(), ..Plan::default() };
    World::planned(plan).await
}

/// What lies in the queue of chunks.
async fn depth(world: &World) -> QueueDepth {
    world.sandbox.queue_depth("chunk-upload").await.unwrap().unwrap()
}
