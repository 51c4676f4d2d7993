//! A replica is frozen in the middle of uploads, and wakes when others have long taken its place.

use std::collections::HashMap;
use std::time::Duration;

use devstack::Signal;

use crate::browsers::{Browsers, Manner};
use crate::client::Client;
use crate::outcome::{all_distributed, each_fed_whole_and_once, hashing, never, nothing_left, sessions};
use crate::size::{AFTER_A_DEATH, SHORT_LEASE, pick, settings};
use crate::world::World;

/// From the delivery to another replica to the answer; with the default heartbeat the promise of 25 s is met.
const COMMITTED_WITHIN: Duration = Duration::from_secs(4);

/// So many replies came a second time, each like the first.
fn repeated_replies(client: &Client) -> usize {
    let seen = client.seen.lock().unwrap();
    let mut first = HashMap::new();
    let repeated = seen.iter().filter(|(correlation, answer)| {
        let known = first.insert(correlation.clone(), answer.clone());
        assert!(known.as_ref().is_none_or(|known| known == answer), "{known:?}, then {answer:?}");
        known.is_some()
    });
    repeated.count()
}

#[tokio::test]
async fn a_frozen_replicas_chunks_are_answered_by_others_and_awake_it_doubles_nothing() {
    // The broker gives a silent connection up after two to three heartbeats; what it held is delivered to the others.
    let heartbeat = Duration::from_secs(pick(3, 7));
    let (frozen_for, answered_within) = (Duration::from_secs(pick(15, 40)), 3 * heartbeat + COMMITTED_WITHIN);
    let mut brief = SHORT_LEASE.to_vec();
    brief.push(("UPLOADER_AMQP_HEARTBEAT", "3s"));
    let world = World::with(hashing(), &settings(&brief)).await;
    let one = world.replica("one").await;
    let _two = world.replica("two").await;
    let client = world.client().await;
    let manner = Manner { sessions: pick(20, 60), ..Manner::default() };
    let mut browsers = Browsers::start(&world, &client, manner).await;
    browsers.reach(&world, 12).await;

    one.process.signal(Signal::SIGSTOP).unwrap();
    let asleep = async {
        let harm = async || browsers.hurt() > 0;
        never("a chunk refused", frozen_for, harm).await;
    };
    let (answered, ()) = tokio::join!(browsers.all_move(&world), asleep);
    let taken = sessions(&world, "epoch > 1").await;
    one.process.signal(Signal::SIGCONT).unwrap();
    one.ready().await;
    browsers.hurry();
    let seen = browsers.end().await;
    all_distributed(&world, manner.sessions, AFTER_A_DEATH).await;

    println!(
        "FIRE frozen: {} uploads, one of two replicas frozen for {} s: {seen}; every client had its next ack within \
         {:.1} s, {taken} feeds were taken over, {} replies came twice",
        manner.sessions,
        frozen_for.as_secs(),
        answered.as_secs_f64(),
        repeated_replies(&client)
    );
    seen.assert_nothing_but_acks(&manner);
    assert!(answered <= answered_within, "{answered:?}");
    assert!(taken > 0, "it fed nothing");
    each_fed_whole_and_once(&world, &browsers);
    nothing_left(&world, &browsers).await;
}
