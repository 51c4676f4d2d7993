//! What is handed over when replicas leave: uploads in every stage, slow neighbours, and signals in every phase.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use devstack::Signal;
use peers::recording::{CallKind, Fault, FaultRule, RecordingOptions};
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use crate::client::{Client, answer};
use crate::world::{Replica, SOON, Upload, World, bytes, sha256};

/// Uploads under way at once during a rolling restart.
const UPLOADS: usize = 60;
const CHUNK: usize = 8 * 1024;
/// What a client sends at a time, and how often: an uplink of 320 kbit/s. They take turns, so that some of their chunks are
/// in flight whenever a replica is told to leave. If they sent as fast as they can they would take the whole machine, and
/// what takes long then is everything.
const PACED_CHUNK: usize = 16 * 1024;
const PACE: Duration = Duration::from_millis(400);
/// The default `shutdown_deadline`, and what the process around it may take.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(8);
/// The longest that a client may wait for a reply.
const REPLY_WITHIN: Duration = Duration::from_secs(5);

/// Environment variables of one replica.
type Settings = &'static [(&'static str, &'static str)];

/// A file under way, and how long each of its replies took.
struct Run {
    upload: Upload,
    file: Vec<u8>,
    waits: Vec<Duration>,
    ended: Instant,
}

/// Sends a file chunk by chunk, each at its time and after the reply to the one before.
async fn send_paced(
    client: &Client,
    mut pace: Interval,
    upload: Upload,
    file: Vec<u8>,
    done: &AtomicUsize,
) -> Run {
    let mut waits = Vec::new();
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for (number, chunk) in file.chunks(PACED_CHUNK).enumerate() {
        pace.tick().await;
        let sent = Instant::now();
        let reply = client.send(&upload, number * PACED_CHUNK, chunk).await;
        waits.push(sent.elapsed());
        assert!(reply.is_ack(), "chunk {number} of {}: {reply:?}", upload.session);
    }
    done.fetch_add(1, Ordering::SeqCst);
    Run { upload, file, waits, ended: Instant::now() }
}

/// Asks a replica to leave, waits for it and starts its successor; says how long leaving took.
async fn restart(world: &World, old: Replica, settings: Settings) -> (Replica, Duration) {
    let asked = Instant::now();
    let name = old.process.name().to_owned();
    old.process.signal(Signal::SIGTERM).unwrap();
    let status = old.process.wait_exit(SHUTDOWN_DEADLINE).await.unwrap();
    let drained = asked.elapsed();
    assert!(status.success(), "{name}: {status}\n{}", old.process.log_tail(20));
    drop(old);
    let new = world.replica_unready(&name, settings).await;
    new.ready().await;
    (new, drained)
}

/// What a rolling restart was like.
struct Rolled {
    back: Vec<Replica>,
    drains: Vec<(String, Duration)>,
    ended: Instant,
}

/// Restarts all replicas, one after the other.
async fn roll(world: &World, replicas: Vec<(Replica, Settings)>) -> Rolled {
    let (mut drains, mut back) = (Vec::new(), Vec::new());
    for (old, settings) in replicas {
        let name = old.process.name().to_owned();
        let (new, drained) = restart(world, old, settings).await;
        drains.push((name, drained));
        back.push(new);
    }
    Rolled { back, drains, ended: Instant::now() }
}

/// Two plain replicas and the one with the janitor.
async fn replicas(world: &World) -> Vec<(Replica, Settings)> {
    const JANITOR: Settings = &[("SCHEDULER_CLEAR_UPLOAD_RESOURCES_ENABLED", "true")];
    let mut replicas = Vec::new();
    for (name, settings) in [("one", &[] as Settings), ("two", &[]), ("standalone", JANITOR)] {
        let replica = world.replica_unready(name, settings).await;
        replica.ready().await;
        replicas.push((replica, settings));
    }
    replicas
}

/// Prints what clients saw; returns the longest wait.
fn tell(runs: &[Run], rolled: &Rolled) -> Duration {
    let mut waits: Vec<Duration> = runs.iter().flat_map(|run| run.waits.iter().copied()).collect();
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    println!(
        "{} uploads, {} chunks: replies p50 {:?}, p99 {:?}, max {:?}; left within {:?}",
        runs.len(),
        waits.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        rolled.drains
    );
    at(1.0)
}

/// One process for each, with exactly its bytes.
async fn assert_fed_once(world: &World, runs: &[Run]) {
    for run in runs {
        world.distributed(&run.upload).await;
        let flow = world.fflow.flow(&run.upload.session.to_string()).unwrap();
        assert_eq!(flow.sha256, sha256(&run.file), "{}", run.upload.session);
    }
    let replayed = "SELECT session_id || ' ' || generation || ' ' || coalesce(last_error, 'without an error') \
                    FROM uploader.session WHERE generation <> 1";
    let replayed: Vec<String> =
        world.query(replayed, Vec::new()).await.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
    assert!(replayed.is_empty(), "every session keeps its generation: {replayed:?}");
    assert_eq!(world.fflow.flows().len(), runs.len(), "one process each");
}

#[tokio::test]
async fn a_rolling_restart_while_uploads_are_fed_finish_and_begin_to_ship_replays_nothing() {
    let world = World::alone(&[("UPLOADER_LOG_FILTER", "info")]).await;
    let replicas = replicas(&world).await;
    let client = world.client().await;
    let slow = |kind, millis| FaultRule::on(kind, Fault::DelayThen(Duration::from_millis(millis)));
    world.fflow.inject(slow(CallKind::Push, 200));
    world.fflow.inject(slow(CallKind::Finish, 1500));
    // From small ones that finish while replicas leave to large ones that outlast the restart; all of them are fed.
    let mut files = Vec::new();
    for number in 0..UPLOADS {
        let file = bytes(number as u64, 264_001 + number * 16_000);
        files.push((world.announce_one(file.len()).await, file));
    }
    let done = AtomicUsize::new(0);
    let begin = tokio::time::Instant::now();
    let turn = |number: usize| interval_at(begin + PACE * number as u32 / UPLOADS as u32, PACE);
    let sending = (0..)
        .zip(files)
        .map(|(number, (upload, file))| send_paced(&client, turn(number), upload, file, &done));
    let rolling = async {
        world.wait("the feeds to be under way", SOON, async || world.fflow.flows().len() >= UPLOADS).await;
        let before = done.load(Ordering::SeqCst);
        let rolled = roll(&world, replicas).await;
        (rolled, done.load(Ordering::SeqCst) - before)
    };
    let (runs, (rolled, sealed)) = tokio::join!(futures_util::future::join_all(sending), rolling);

    let longest = tell(&runs, &rolled);
    assert!(longest < REPLY_WITHIN, "{longest:?}");
    assert!(sealed > 2, "{sealed} were sealed meanwhile");
    assert!(runs.iter().any(|run| run.ended > rolled.ended), "the restart happened in the middle");
    assert_eq!(rolled.back.len(), 3);
    assert_fed_once(&world, &runs).await;
}

/// A log line that tells that the tickets are settled, and one that the feeds are handed over.
const TICKETS_DRAINED: &str = "chunk road drained";
const FEEDS_DRAINED: &str = "feed road drained";

fn said(replica: &Replica, what: &str) -> bool {
    std::fs::read_to_string(replica.process.log_path().unwrap()).unwrap().contains(what)
}

/// Sends a second signal and sees the process end at once, with success.
async fn leaves_at_once(replica: &Replica, phase: &str) {
    let second = Instant::now();
    replica.process.signal(Signal::SIGINT).unwrap();
    let status = replica.process.wait_exit(Duration::from_millis(500)).await;
    assert!(status.as_ref().is_ok_and(|status| status.success()), "{phase}: {status:?}");
    println!("{phase}: gone {:?} after the second signal", second.elapsed());
}

/// Several files on their way, part by part.
struct Load {
    client: Arc<Client>,
    files: Vec<(Upload, Vec<u8>)>,
    acked: AtomicUsize,
}

impl Load {
    const PART: usize = 300_000;

    async fn new(world: &World) -> Self {
        let mut files = Vec::new();
        for seed in 0..12 {
            let file = bytes(200 + seed, 3 * Self::PART);
            files.push((world.announce_one(file.len()).await, file));
        }
        Load { client: world.client().await, files, acked: AtomicUsize::new(0) }
    }

    /// Sends one part of every file, chunk by chunk, while `leave` goes on; returns what that comes to.
    async fn part<T>(&self, number: usize, leave: impl Future<Output = T>) -> T {
        self.acked.store(0, Ordering::SeqCst);
        let sending = self.files.iter().map(|(upload, file)| self.send(upload, file, number * Self::PART));
        tokio::join!(leave, futures_util::future::join_all(sending)).0
    }

    async fn send(&self, upload: &Upload, file: &[u8], from: usize) {
        for start in (from..from + Self::PART).step_by(CHUNK) {
            let end = (start + CHUNK).min(from + Self::PART);
            let reply = self.client.send(upload, start, &file[start..end]).await;
            assert!(reply.is_ack(), "{start} of {}: {reply:?}", upload.session);
            self.acked.fetch_add(1, Ordering::SeqCst);
        }
    }

    async fn flows(&self, world: &World) {
        world.wait("chunks to flow", SOON, async || self.acked.load(Ordering::SeqCst) > 50).await;
    }

    fn assert_under_way(&self) {
        let all = self.files.len() * Self::PART.div_ceil(CHUNK);
        assert!(self.acked.load(Ordering::SeqCst) < all, "nothing was under way");
    }
}

/// One chunk waits for a row that somebody else holds.
async fn leave_while_tickets_are_drained(world: &World, load: &Load, one: Replica) -> Replica {
    let (held, body) = (world.announce_one(200_000).await, bytes(300, 200_000));
    load.client.upload_range(&held, &body, 100_000, 0, 100_000).await;
    let lock = "SELECT 1 FROM uploader.session WHERE session_id = $1 FOR UPDATE";
    let row = world.hold(lock, held.session).await;
    let waits = load.client.begin(&held.session.to_string(), 100_000, &body[100_000..]).await;
    load.flows(world).await;
    one.process.signal(Signal::SIGTERM).unwrap();
    world.wait("it to be leaving", SOON, async || one.readyz().await.1.contains("leaving")).await;
    leaves_at_once(&one, "while tickets are drained").await;
    assert!(!said(&one, TICKETS_DRAINED), "the phase was missed");
    load.assert_under_way();
    row.rollback().await.unwrap();
    let two = world.replica("two").await;
    assert!(answer(waits).await.is_ack(), "given back and answered by another");
    two
}

/// One of the feeds waits for a push that never answers.
async fn leave_while_feeds_are_handed_over(world: &World, load: &Load, two: Replica) -> Replica {
    let stuck = load.files[0].0.session.to_string();
    let rule = world.fflow.inject(FaultRule::on(CallKind::Push, Fault::HangAfterEffect(None)).name(stuck));
    world.wait("a push to hang", SOON, async || world.fflow.struck(rule) > 0).await;
    two.process.signal(Signal::SIGTERM).unwrap();
    world.wait("its tickets to be settled", SOON, async || said(&two, TICKETS_DRAINED)).await;
    leaves_at_once(&two, "while feeds are handed over").await;
    assert!(!said(&two, FEEDS_DRAINED), "the phase was missed");
    world.fflow.disarm(rule);
    world.replica("three").await
}

async fn leave_with_the_first_signal(world: &World, load: &Load, three: Replica) -> Replica {
    load.flows(world).await;
    three.process.signal(Signal::SIGTERM).unwrap();
    leaves_at_once(&three, "with the first one").await;
    load.assert_under_way();
    world.replica("four").await
}

#[tokio::test]
async fn a_second_signal_in_each_phase_of_leaving_costs_no_upload_anything() {
    let lease = [("UPLOADER_LEASE", "3s"), ("UPLOADER_REPLICA_HEARTBEAT", "1s")];
    let world = World::with(RecordingOptions::default(), &lease).await;
    let load = Load::new(&world).await;
    let one = world.replica("one").await;
    let two = load.part(0, leave_while_tickets_are_drained(&world, &load, one)).await;
    let three = load.part(1, leave_while_feeds_are_handed_over(&world, &load, two)).await;
    let _four = load.part(2, leave_with_the_first_signal(&world, &load, three)).await;
    for (upload, file) in &load.files {
        world.distributed(upload).await;
        let name = upload.session.to_string();
        let whole =
            world.fflow.flows().into_iter().find(|flow| flow.finished && flow.name.starts_with(&name));
        assert_eq!(whole.unwrap().sha256, sha256(file), "{name}");
    }
}
