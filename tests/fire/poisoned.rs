//! One upload kills, at the same byte each time, the whole fflow replica that it is fed to; others share the farm.

use std::time::Duration;

use peers::recording::{CallKind, Fault, FaultRule};

use crate::browsers::{Browsers, Manner};
use crate::outcome::{all_distributed, each_fed_whole_and_once, hashing, of, sessions};
use crate::size::{pick, settings};
use crate::world::{LATE, Upload, World, bytes};

/// The replica dies of the block that comes after so many bytes.
const DEADLY: u64 = 512 * 1024;
/// The three strikes with their default waits of 30 s and 2 minutes take this long with certainty.
const PARKED_WITHIN: Duration = Duration::from_secs(300);
/// The first death counts as progress, and then come three strikes. What succeeds elsewhere is written down each second:
/// after the shortest of pauses there may be no evidence yet, and the upload is tried again without a strike.
const MOST_DEATHS: usize = 8;

/// Gives every replica that dies a successor, as its orchestrator does, until the upload is given up.
async fn tend(world: &World, poisoned: &Upload) {
    let over = async || {
        for replica in 1..=3 {
            world.fflow.revive_replica(replica);
        }
        world.state(poisoned).await.as_deref() == Some("FAILED")
    };
    world.wait("the poisoned upload to be given up", PARKED_WITHIN, over).await;
}

#[tokio::test]
async fn an_upload_that_kills_its_fflow_is_given_up_and_harms_no_other() {
    let brief = settings(&[("UPLOADER_FEED_STRIKE_WAITS", "1s,4s")]);
    let world = World::with(hashing(), &brief).await;
    let _replicas = [world.replica("one").await, world.replica("two").await];
    let client = world.client().await;
    // The good ones go on for as long as the poisoned one has not been given up.
    let pause = Duration::from_millis(pick(150, 500));
    let manner = Manner { sessions: pick(8, 20), file: pick(4, 16) << 20, pause, ..Manner::default() };
    let mut browsers = Browsers::start(&world, &client, manner).await;
    browsers.reach(&world, 12).await;
    let poisoned = world.announce_one(1 << 20).await;
    let deadly = FaultRule::on(CallKind::Push, Fault::KillReplica).after_bytes(DEADLY);
    let deadly = world.fflow.inject(deadly.name(poisoned.session.to_string()));
    client.upload(&poisoned, &bytes(8, 1 << 20), 64 * 1024).await;

    let begun = std::time::Instant::now();
    tend(&world, &poisoned).await;
    let given_up = begun.elapsed();
    assert!(
        browsers.acks().iter().all(|acks| *acks < manner.file / manner.chunk),
        "the good ones ended first"
    );
    browsers.hurry();
    let seen = browsers.end().await;
    all_distributed(&world, manner.sessions, LATE).await;

    let flows = world.fflow.flows();
    let again = flows.iter().filter(|flow| flow.name.contains('~')).count();
    let deaths = world.fflow.struck(deadly);
    // A bystander whose push was in flight at a death may be struck by it, but gets farther before the next one.
    let struck = sessions(&world, "state = 'DONE' AND strikes > 0").await;
    let reason = "SELECT last_error FROM uploader.session WHERE session_id = $1";
    let reason = world.text(reason, poisoned.session).await.unwrap();
    println!(
        "FIRE poisoned: 1 poisoned and {} good uploads: {} DISTRIBUTED, 1 FAILED after {:.1} s and {deaths} deaths of a \
         replica of fflow ({again} processes were begun again, {struck} good uploads were struck): {seen}; reason: {reason}",
        manner.sessions,
        manner.sessions,
        given_up.as_secs_f64()
    );
    seen.assert_nothing_but_acks(&manner);
    assert_eq!(world.video_status(&poisoned).await.as_deref(), Some("BLOCKED"));
    assert_eq!(world.flow_status(&poisoned).await.as_deref(), Some("HIDDEN"));
    assert!(
        deaths <= MOST_DEATHS && of(&flows, &poisoned.session.to_string()).count() == deaths,
        "{deaths} deaths"
    );
    assert!(reason.contains("3 times while others succeeded"), "{reason}");
    each_fed_whole_and_once(&world, &browsers);
}
