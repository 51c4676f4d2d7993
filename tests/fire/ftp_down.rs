//! fflow cannot ship for long: every finish is answered 500 and its process is gone.

use std::time::Duration;

use peers::recording::CallKind;

use crate::browsers::{Browsers, Manner};
use crate::outcome::{all_distributed, each_fed_whole_and_once, hashing, never, nothing_left, sessions};
use crate::size::{pick, settings};
use crate::world::{LATE, World};

/// The longest pause between two attempts, and the slack that the attempt itself may take.
const BACK_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test]
async fn while_nothing_can_be_shipped_uploads_go_on_and_nobody_is_struck() {
    let down = Duration::from_secs(pick(20, 600));
    let brief = settings(&[("UPLOADER_FEED_BACKOFF_MAX", "2s")]);
    let world = World::with(hashing(), &brief).await;
    let _replicas = [world.replica("one").await, world.replica("two").await];
    let client = world.client().await;
    world.fflow.set_ftp_down(true);
    let manner = Manner { sessions: pick(8, 20), file: 600_000, pause: Duration::ZERO, ..Manner::default() };
    let mut browsers = Browsers::start(&world, &client, manner).await;
    let seen = browsers.end().await;
    let sealed = async || sessions(&world, "state = 'SEALED'").await == manner.sessions;
    world.wait("every session to be sealed", LATE, sealed).await;

    let harm = async || sessions(&world, "strikes > 0 OR state <> 'SEALED'").await > 0;
    never("a strike, or the end of a session", down, harm).await;
    let calls = world.fflow.calls();
    let finishes = calls.iter().filter(|call| call.kind == CallKind::Finish).count();
    assert!(finishes > 2 * manner.sessions, "only {finishes} finishes were tried");
    world.fflow.set_ftp_down(false);
    let recovered = all_distributed(&world, manner.sessions, BACK_WITHIN).await;

    println!(
        "FIRE ftp-down: {} sealed sessions, no shipping for {} s: {seen}; {finishes} finishes failed, 0 strikes; all \
         DISTRIBUTED within {:.1} s of its return",
        manner.sessions,
        down.as_secs(),
        recovered.as_secs_f64()
    );
    seen.assert_nothing_but_acks(&manner);
    assert_eq!(sessions(&world, "strikes > 0").await, 0);
    each_fed_whole_and_once(&world, &browsers);
    nothing_left(&world, &browsers).await;
}
