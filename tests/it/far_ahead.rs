//! One session sends chunks far ahead of what is stored, as fast as it is answered: it is refused, others feel nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::client::{Client, answer};
use crate::crowd::{Crowd, ROUNDS, Waits, fire, full};
use crate::world::{Upload, World, bytes};

/// Requests that it has in flight at once; a browser has one.
const IN_FLIGHT: usize = 32;
/// The size of its file: most of it lies further ahead than any chunk may.
const TOTAL: i64 = 2_000_000_000;
/// Beyond what an early chunk may be ahead by.
const FAR: i64 = 1_000_000_000;

/// What became of its chunks.
#[derive(Default)]
struct Flood {
    refused: AtomicUsize,
    crowded: AtomicUsize,
}

impl Flood {
    /// Sends for ever, each lane its next chunk when the last one is answered; every second lane sends chunks that are
    /// early enough to wait.
    async fn run(&self, client: &Client, upload: &Upload) {
        let body = bytes(320, 8192);
        let lane = async |lane: usize| {
            for number in 1.. {
                let far = if lane.is_multiple_of(2) { FAR } else { 0 };
                let start = far + (number * IN_FLIGHT + lane) as i64 * 8192;
                let refused = answer(client.begin(&upload.session.to_string(), start, &body).await).await;
                let as_it_should =
                    if far > 0 { refused.expected == Some(0) } else { refused.retryable == Some(true) };
                assert!(refused.status == "nack" && as_it_should, "{refused:?}");
                let count = if far > 0 { &self.refused } else { &self.crowded };
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        futures_util::future::join_all((0..IN_FLIGHT).map(lane)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_floods_with_far_chunks_is_refused_and_harms_no_other() {
    let span = Duration::from_secs(if full() { 10 } else { 3 });
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let crowd = Crowd::gather(&world).await;
    let upload = world.announce(&[TOTAL]).await[0];
    let flood = Flood::default();

    let (mut calm, mut meanwhile) = (Vec::new(), Vec::new());
    let compared = async {
        crowd.all_here(&world).await;
        for _ in 0..ROUNDS {
            crowd.watch(span, &mut calm).await;
            tokio::select! {
                () = flood.run(&client, &upload) => unreachable!("it floods for ever"),
                () = crowd.watch(span, &mut meanwhile) => {}
            }
        }
    };
    crowd.during(&client, compared).await;
    let (calm, meanwhile) = (Waits::of(calm), Waits::of(meanwhile));
    let (far, early) = (flood.refused.load(Ordering::Relaxed), flood.crowded.load(Ordering::Relaxed));
    let refused = format!("{far} far and {early} early chunks refused in {ROUNDS} times {span:?}");
    fire("far ahead", &format!("calm: {}; {refused}: {}", calm.figures(), meanwhile.figures()));
    assert!(far > IN_FLIGHT && early > 0, "it was a flood: {far} and {early}");
    meanwhile.assert_unharmed(&calm);
    assert!(!world.spool.join(upload.session.to_string()).exists(), "nothing of it was stored");
}
