//! A hundred people who upload all the time, one chunk in flight each, and how long their answers took: with it two times
//! of one run are compared, a calm one and one in which somebody does something to the service.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::world::{SOON, Upload, World, bytes};

/// Sessions that upload at once.
pub const MEMBERS: usize = 100;
/// One chunk of each in so long: the farm is busy and has room.
const EVERY: Duration = Duration::from_secs(1);
/// What a browser sends at once.
const CHUNK: usize = 8192;
/// More than a member sends in the longest run.
const CHUNKS: usize = 1_000;
/// What the machine's other work may do to an answer: times so much, and so much more. The full sizes run alone, beside the
/// brief ones run other tests; what is looked for, a wait for the time of a whole stretch, is seconds long in both.
const ALONE: (f64, Duration) = (1.5, Duration::from_millis(50));
const BESIDE_OTHERS: (f64, Duration) = (3.0, Duration::from_millis(500));
/// A calm stretch and another one after it, so often: what else the machine does falls on both.
pub const ROUNDS: usize = 2;

/// Whether the full sizes are asked for: `FIRE=full`.
pub fn full() -> bool {
    std::env::var("FIRE").is_ok_and(|size| size == "full")
}

/// A line for whoever keeps the figures.
pub fn fire(name: &str, figures: &str) {
    println!("FIRE {name}: {figures}");
}

/// See the file's first lines.
pub struct Crowd {
    members: Vec<Upload>,
    body: Vec<u8>,
    waits: Mutex<Vec<Duration>>,
    arrived: AtomicUsize,
}

/// How long answers took in one stretch of time.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    pub answers: usize,
    pub p50: Duration,
    pub p99: Duration,
    pub longest: Duration,
}

impl Crowd {
    pub async fn gather(world: &World) -> Self {
        let mut members = Vec::new();
        for _ in 0..MEMBERS {
            members.push(world.announce_one(CHUNK * CHUNKS).await);
        }
        let (waits, arrived) = (Mutex::default(), AtomicUsize::new(0));
        Crowd { members, body: bytes(300, CHUNK), waits, arrived }
    }

    /// Everybody uploads while `time` goes on.
    pub async fn during<T>(&self, client: &Client, time: impl Future<Output = T>) -> T {
        let all = self.members.iter().map(|member| self.upload(client, member));
        tokio::select! {
            _ = futures_util::future::join_all(all) => unreachable!("nobody comes to an end"),
            done = time => done,
        }
    }

    async fn upload(&self, client: &Client, member: &Upload) {
        // Not all in the same moment: each has its own beat.
        tokio::time::sleep(EVERY.mul_f64(fastrand::f64())).await;
        for number in 0..CHUNKS {
            let sent = Instant::now();
            let answer = client.send(member, number * CHUNK, &self.body).await;
            assert!(answer.is_ack(), "chunk {number}: {answer:?}");
            self.waits.lock().unwrap().push(sent.elapsed());
            if number == 0 {
                self.arrived.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(EVERY.saturating_sub(sent.elapsed())).await;
        }
        panic!("more chunks than were planned");
    }

    /// Waits until everybody has a chunk stored.
    pub async fn all_here(&self, world: &World) {
        let here = async || self.arrived.load(Ordering::Relaxed) == MEMBERS;
        world.wait("everybody's first answer", SOON, here).await;
    }

    /// Notes the answers of the next `span`.
    pub async fn watch(&self, span: Duration, noted: &mut Vec<Duration>) {
        self.waits.lock().unwrap().clear();
        tokio::time::sleep(span).await;
        noted.append(&mut self.waits.lock().unwrap());
    }
}

impl Waits {
    pub fn of(mut noted: Vec<Duration>) -> Self {
        noted.sort();
        assert!(!noted.is_empty(), "nobody was answered");
        let at = |share: f64| noted[((noted.len() - 1) as f64 * share) as usize];
        Waits { answers: noted.len(), p50: at(0.5), p99: at(0.99), longest: at(1.0) }
    }

    /// Nobody feels what was done meanwhile: neither how soon answers come nor how many.
    pub fn assert_unharmed(&self, calm: &Waits) {
        let (times, more) = if full() { ALONE } else { BESIDE_OTHERS };
        let bound = calm.p99.mul_f64(times) + more;
        assert!(self.p99 <= bound, "p99 {:?}, in calm {:?}", self.p99, calm.p99);
        assert!(self.answers * 2 >= calm.answers, "{} answers, in calm {}", self.answers, calm.answers);
    }

    pub fn figures(&self) -> String {
        let millis = |wait: Duration| wait.as_secs_f64() * 1e3;
        format!(
            "{} answers, p50 {:.0} ms, p99 {:.0} ms, longest {:.0} ms",
            self.answers,
            millis(self.p50),
            millis(self.p99),
            millis(self.longest)
        )
    }
}
