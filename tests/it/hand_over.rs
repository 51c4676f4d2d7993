//! What is handed over when replicas leave: uploads in every stage, slow neighbours, and signals in every phase.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use devstack::Signal;
use peers::recording::{CallKind, Fault, FaultRule, RecordingOptions};

use crate::client::{Client, answer};
use crate::world::{Replica, SOON, Upload, World, bytes, sha256};

/// Uploads under way at once during a rolling restart, one chunk in flight each.
const UPLOADS: usize = 60;
const CHUNK: usize = 8 * 1024;
/// The default `shutdown_deadline`, and what the process around it may take.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(8);
/// The longest that a client may wait for a reply.
const REPLY_WITHIN: Duration = Duration::from_secs(5);

/// A file under way, and how long each of its replies took.
struct Run {
    upload: Upload,
    file: Vec<u8>,
    waits: Vec<Duration>,
    ended: Instant,
}

/// Sends a file chunk by chunk, each after the reply to the one before.
async fn send_paced(client: &Client, upload: Upload, file: Vec<u8>, done: &AtomicUsize) -> Run {
    let mut waits = Vec::new();
    for (number, chunk) in file.chunks(CHUNK).enumerate() {
        let sent = Instant::now();
        let reply = client.send(&upload, number * CHUNK, chunk).await;
        waits.push(sent.elapsed());
        assert!(reply.is_ack(), "chunk {number} of {}: {reply:?}", upload.session);
    }
    done.fetch_add(1, Ordering::SeqCst);
    Run { upload, file, waits, ended: Instant::now() }
}

/// Asks a replica to leave, waits for it and starts its successor; says how long leaving took.
async fn restart(world: &World, old: Replica, settings: &[(&str, &str)]) -> (Replica, Duration) {
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

fn percentile(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

#[tokio::test]
async fn a_rolling_restart_while_uploads_are_fed_finish_and_begin_to_ship_replays_nothing() {
    const JANITOR: [(&str, &str); 1] = [("SCHEDULER_CLEAR_UPLOAD_RESOURCES_ENABLED", "true")];
    let world = World::with(RecordingOptions::default(), &[("UPLOADER_LOG_FILTER", "info")]).await;
    let roles: [(&str, &[(&str, &str)]); 3] = [("one", &[]), ("two", &[]), ("standalone", &JANITOR)];
    let mut replicas = Vec::new();
    for (name, settings) in roles {
        let replica = world.replica_unready(name, settings).await;
        replica.ready().await;
        replicas.push(replica);
    }
    let client = world.client().await;
    // From small ones that finish while replicas leave to large ones that outlast the restart; all of them are fed.
    let sizes: Vec<i64> = (0..UPLOADS).map(|n| 264_001 + n as i64 * 16_000).collect();
    let slow = |kind, millis| FaultRule::on(kind, Fault::DelayThen(Duration::from_millis(millis)));
    world.fflow.inject(slow(CallKind::Push, 200));
    world.fflow.inject(slow(CallKind::Finish, 1500));
    let mut uploads = Vec::new();
    for size in &sizes {
        uploads.push(world.announce(&[*size]).await[0]);
    }

    let done = AtomicUsize::new(0);
    let sending = uploads.iter().zip(&sizes).enumerate().map(|(seed, (upload, size))| {
        send_paced(&client, *upload, bytes(seed as u64, *size as usize), &done)
    });
    let rolling = async {
        world.wait("the feeds to be under way", SOON, async || world.fflow.flows().len() >= UPLOADS).await;
        let before = done.load(Ordering::SeqCst);
        let (began, mut drains, mut back) = (Instant::now(), Vec::new(), Vec::new());
        for (old, (name, settings)) in replicas.into_iter().zip(roles) {
            let (new, drained) = restart(&world, old, settings).await;
            drains.push((name, drained));
            back.push(new);
        }
        (back, drains, began, Instant::now(), before, done.load(Ordering::SeqCst))
    };
    let (runs, (_back, drains, began, ended, before, after)) =
        tokio::join!(futures_util::future::join_all(sending), rolling);
    for run in &runs {
        world.distributed(&run.upload).await;
    }

    let mut waits: Vec<Duration> = runs.iter().flat_map(|run| run.waits.iter().copied()).collect();
    waits.sort();
    let max = waits[waits.len() - 1];
    println!(
        "rolling restart of 3 replicas in {:.1} s, {} chunks of {} uploads; replies p50 {:?}, p99 {:?}, max {max:?}",
        ended.duration_since(began).as_secs_f64(),
        waits.len(),
        runs.len(),
        percentile(&waits, 0.50),
        percentile(&waits, 0.99),
    );
    drains.iter().for_each(|(name, drained)| println!("  {name} left within {drained:?}"));
    println!("  uploads sealed: {before} before, {after} when all were back");
    assert!(after > before + 2, "some were finishing meanwhile");
    assert!(runs.iter().any(|run| run.ended > ended), "the restart happened in the middle");
    assert!(max < REPLY_WITHIN, "{max:?}");
    for run in &runs {
        let flow = world.fflow.flow(&run.upload.session.to_string()).unwrap();
        assert_eq!(flow.sha256, sha256(&run.file), "{}", run.upload.session);
    }
    let generations = "SELECT session_id::text, generation::text, strikes::text, last_error FROM uploader.session \
                       WHERE generation <> 1 AND $1::bool";
    let replayed: Vec<String> = world
        .query(generations, vec![true.into()])
        .await
        .iter()
        .map(|row| {
            format!(
                "{:?}",
                (0..4).map(|n| row.try_get_by_index::<Option<String>>(n).unwrap()).collect::<Vec<_>>()
            )
        })
        .collect();
    assert!(replayed.is_empty(), "replays: {replayed:#?}");
    assert_eq!(world.fflow.flows().len(), UPLOADS, "one process each");
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

/// Sends one part of every file, chunk by chunk; says in `acked` how far all have come.
async fn send_part(
    client: &Client,
    files: &[(Upload, Vec<u8>)],
    part: std::ops::Range<usize>,
    acked: &AtomicUsize,
) {
    let all = files.iter().map(async |(upload, file)| {
        for start in part.clone().step_by(CHUNK) {
            let end = (start + CHUNK).min(part.end);
            let reply = client.send(upload, start, &file[start..end]).await;
            assert!(reply.is_ack(), "{start} of {}: {reply:?}", upload.session);
            acked.fetch_add(1, Ordering::SeqCst);
        }
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn a_second_signal_in_each_phase_of_leaving_costs_no_upload_anything() {
    const PART: usize = 300_000;
    let lease = [("UPLOADER_LEASE", "3s"), ("UPLOADER_REPLICA_HEARTBEAT", "1s")];
    let world = Arc::new(World::with(RecordingOptions::default(), &lease).await);
    let client = world.client().await;
    let mut files = Vec::new();
    for seed in 0..12 {
        let file = bytes(200 + seed, 3 * PART + 1);
        files.push((world.announce_one(file.len()).await, file));
    }
    let acked = AtomicUsize::new(0);
    let chunks_of_a_part = files.len() * PART.div_ceil(CHUNK);
    let held = world.announce_one(200_000).await;
    let body = bytes(300, 200_000);

    // While tickets are drained: one chunk waits for a row that somebody else holds.
    let one = world.replica("one").await;
    client.upload_range(&held, &body, 100_000, 0, 100_000).await;
    let leave = async {
        let lock = "SELECT 1 FROM uploader.session WHERE session_id = $1 FOR UPDATE";
        let row = world.hold(lock, held.session).await;
        let waits = client.begin(&held.session.to_string(), 100_000, &body[100_000..]).await;
        world.wait("chunks to flow", SOON, async || acked.load(Ordering::SeqCst) > 50).await;
        one.process.signal(Signal::SIGTERM).unwrap();
        world.wait("it to be leaving", SOON, async || one.readyz().await.1.contains("leaving")).await;
        leaves_at_once(&one, "while tickets are drained").await;
        assert!(!said(&one, TICKETS_DRAINED), "the phase was missed");
        assert!(acked.load(Ordering::SeqCst) < chunks_of_a_part, "nothing was under way");
        row.rollback().await.unwrap();
        let two = world.replica("two").await;
        assert!(answer(waits).await.is_ack(), "given back and answered by another");
        two
    };
    let (two, ()) = tokio::join!(leave, send_part(&client, &files, 0..PART, &acked));

    // While feeds are handed over: some of them wait for a push that never answers.
    let stuck = files[0].0.session.to_string();
    let rule = world.fflow.inject(FaultRule::on(CallKind::Push, Fault::HangAfterEffect(None)).name(stuck));
    let leave = async {
        world.wait("a push to hang", SOON, async || world.fflow.struck(rule) > 0).await;
        two.process.signal(Signal::SIGTERM).unwrap();
        world.wait("its tickets to be settled", SOON, async || said(&two, TICKETS_DRAINED)).await;
        leaves_at_once(&two, "while feeds are handed over").await;
        assert!(!said(&two, FEEDS_DRAINED), "the phase was missed");
        world.fflow.disarm(rule);
        world.replica("three").await
    };
    let (three, ()) = tokio::join!(leave, send_part(&client, &files, PART..2 * PART, &acked));

    // With the first: no phase is reached at all.
    let before = acked.load(Ordering::SeqCst);
    let leave = async {
        world.wait("chunks to flow", SOON, async || acked.load(Ordering::SeqCst) > before + 50).await;
        three.process.signal(Signal::SIGTERM).unwrap();
        leaves_at_once(&three, "with the first one").await;
        assert!(acked.load(Ordering::SeqCst) < before + chunks_of_a_part, "nothing was under way");
        world.replica("four").await
    };
    let (_four, ()) = tokio::join!(leave, send_part(&client, &files, 2 * PART..3 * PART + 1, &acked));

    world.distributed(&held).await;
    for (upload, file) in &files {
        world.distributed(upload).await;
        let name = upload.session.to_string();
        let whole =
            world.fflow.flows().into_iter().find(|flow| flow.finished && flow.name.starts_with(&name));
        assert_eq!(whole.unwrap().sha256, sha256(file), "{name}");
    }
}
