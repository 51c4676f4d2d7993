//! Replicas that leave and come back, one version beside the other, and nobody notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use devstack::{Signal, TcpProxy};
use futures_util::future::join_all;
use peers::recording::{CallKind, Fault, FaultRule};
use sea_orm::{ConnectionTrait, TransactionTrait};
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use crate::client::Client;
use crate::faults::{database_address, through};
use crate::world::{LATE, Replica, SOON, Upload, World, bytes, sha256};

const UPLOADS: usize = 100;
const CHUNK: usize = 16 * 1024;
const FILE: usize = 1_000_000;
/// The pace of one client while replicas leave and come: what a reply waits for is their leaving, not a queue of chunks
/// that an unoptimised build on a small machine cannot keep up with. Nothing keeps real clients in step, so they take turns.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest that a reply may take during a rolling restart.
const REPLY_WITHIN: Duration = Duration::from_secs(5);
const LEAVE_WITHIN: Duration = Duration::from_secs(8);

/// Uploads one file, one chunk in flight, at a client's pace unless in a `hurry`; tells how long each reply to a chunk at
/// a client's pace took. In a hurry all of them queue for a debug build, which says nothing of a restart.
async fn upload(
    client: &Client,
    upload: &Upload,
    file: &[u8],
    mut pace: Interval,
    hurry: &AtomicBool,
) -> Vec<Duration> {
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut waits = Vec::new();
    for (number, body) in file.chunks(CHUNK).enumerate() {
        let paced = !hurry.load(Ordering::Relaxed);
        if paced {
            pace.tick().await;
        }
        let began = Instant::now();
        let answer = client.send(upload, number * CHUNK, body).await;
        assert!(answer.is_ack(), "chunk {number}: {answer:?}");
        if paced {
            waits.push(began.elapsed());
        }
    }
    waits
}

/// When each client sends: one after the other, all of them once in a pause.
fn turns() -> impl Fn(usize) -> Interval {
    let begin = tokio::time::Instant::now();
    move |number| interval_at(begin + PAUSE * number as u32 / UPLOADS as u32, PAUSE)
}

async fn all_committed(world: &World, bytes: i64) -> bool {
    let query = format!("SELECT 1 FROM uploader.session WHERE committed >= {bytes}");
    world.query(&query, Vec::new()).await.len() == UPLOADS
}

/// Stops every replica in turn and starts it again; tells how long each took to leave.
async fn roll(world: &World, replicas: Vec<Replica>) -> (Vec<Replica>, Vec<Duration>) {
    let (mut fresh, mut left) = (Vec::new(), Vec::new());
    for old in replicas {
        let began = Instant::now();
        old.process.stop(Signal::SIGTERM, SOON).await.unwrap();
        left.push(began.elapsed());
        assert!(old.process.exit_status().unwrap().success(), "a clean exit: {}", old.process.log_tail(5));
        let name = old.process.name().to_owned();
        drop(old);
        fresh.push(world.replica(&name).await);
    }
    (fresh, left)
}

#[tokio::test]
async fn a_rolling_restart_under_a_hundred_uploads_is_noticed_by_nobody() {
    let world = World::alone(&[]).await;
    let replicas = join_all(["one", "two", "standalone"].map(|name| world.replica(name))).await;
    let client = world.client().await;
    let file = Arc::new(bytes(100, FILE));
    let hurry = Arc::new(AtomicBool::new(true));
    let mut uploads = Vec::new();
    for _ in 0..UPLOADS {
        uploads.push(world.announce_one(FILE).await);
    }
    let turn = turns();
    let tasks: Vec<_> = (0..)
        .zip(&uploads)
        .map(|(number, one)| {
            let (client, one, file, hurry) = (client.clone(), *one, file.clone(), hurry.clone());
            let pace = turn(number);
            tokio::spawn(async move { upload(&client, &one, &file, pace, &hurry).await })
        })
        .collect();
    world.wait("every upload to be fed", LATE, async || all_committed(&world, 300_000).await).await;
    hurry.store(false, Ordering::Relaxed);
    let (_replicas, left) = roll(&world, replicas).await;
    hurry.store(true, Ordering::Relaxed);
    let mut waits: Vec<Duration> = join_all(tasks).await.into_iter().flat_map(Result::unwrap).collect();
    for one in &uploads {
        world
            .wait("the flow to play", LATE, async || {
                world.flow_status(one).await.as_deref() == Some("DISTRIBUTED")
            })
            .await;
    }
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    println!(
        "{UPLOADS} uploads, {} chunks meanwhile: replies p50 {:?}, p99 {:?}, max {:?}; replicas left within {left:?}",
        waits.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    assert!(waits.len() >= UPLOADS, "each sent something meanwhile: {}", waits.len());
    assert!(at(1.0) <= REPLY_WITHIN, "{:?}", at(1.0));
    assert!(left.iter().all(|left| *left <= LEAVE_WITHIN), "{left:?}");
    let flows = world.fflow.flows();
    let replays: Vec<&str> =
        flows.iter().filter(|flow| flow.name.contains('~')).map(|flow| flow.name.as_str()).collect();
    assert!(replays.is_empty(), "handed over settled: {replays:?}");
    let whole = sha256(&file);
    assert!(
        flows.len() == UPLOADS && flows.iter().all(|flow| flow.sha256 == whole && flow.finish_calls == 1)
    );
}

/// While tickets are drained, and while feeds are handed over.
#[tokio::test]
async fn a_second_signal_in_any_phase_ends_it_at_once_and_loses_nothing() {
    let world = World::new().await;
    let file = bytes(101, 900_000);
    for held_feed in [true, false] {
        let one = world.replica("one").await;
        let client = world.client().await;
        let upload = world.announce_one(file.len()).await;
        let name = upload.session.to_string();
        let rule = FaultRule::on(CallKind::Push, Fault::HangAfterEffect(None)).name(name);
        let rule = held_feed.then(|| world.fflow.inject(rule));
        client.upload_range(&upload, &file, 100_000, 0, 500_000).await;
        if let Some(rule) = rule {
            world.wait("a push to hang", SOON, async || world.fflow.struck(rule) > 0).await;
        }
        // Without its row this chunk cannot be committed: its ticket stays out.
        let lock = "SELECT 1 FROM uploader.session WHERE session_id = $1 FOR UPDATE";
        let held = world.hold(lock, upload.session).await;
        let early = client.begin(&upload.session.to_string(), 500_000, &file[500_000..600_000]).await;
        one.process.signal(Signal::SIGTERM).unwrap();
        world.wait("it to be leaving", SOON, async || one.readyz().await.1.contains("leaving")).await;
        let second = Instant::now();
        one.process.signal(Signal::SIGTERM).unwrap();
        one.process.wait_exit(Duration::from_secs(2)).await.unwrap();
        println!("gone {:?} after the second signal", second.elapsed());
        held.rollback().await.unwrap();
        world.fflow.disarm_all();
        let _two = world.replica("two").await;
        assert!(crate::client::answer(early).await.is_ack(), "given back and answered by another");
        client.upload_range(&upload, &file, 100_000, 600_000, file.len()).await;
        world.distributed(&upload).await;
        let whole = world.fflow.flows().into_iter().rfind(|flow| flow.finished).unwrap();
        assert_eq!(whole.sha256, sha256(&file));
    }
}

/// What the next version's migration does: a version more, and only things added.
const NEXT_VERSION: [&str; 3] = [
    "ALTER TABLE uploader.session ADD COLUMN of_the_next_version text DEFAULT 'something'",
    "CREATE TABLE uploader.of_the_next_version (id uuid PRIMARY KEY)",
    "UPDATE uploader.service SET schema_version = schema_version + 1",
];

#[tokio::test]
async fn on_a_schema_one_version_newer_old_replicas_go_on_and_start() {
    let world = World::new().await;
    let _old = world.replica("old").await;
    let client = world.client().await;
    let file = bytes(102, 1_200_000);
    let upload = world.announce_one(file.len()).await;
    client.upload_range(&upload, &file, 50_000, 0, 400_000).await;
    for step in NEXT_VERSION {
        world.execute(step, Vec::new()).await;
    }
    client.upload_range(&upload, &file, 50_000, 400_000, 800_000).await;
    // Rolling back while the schema stays: a replica of this version starts beside the other.
    let _back = world.replica("back").await;
    client.upload_range(&upload, &file, 50_000, 800_000, file.len()).await;
    world.distributed(&upload).await;
    assert_eq!(world.fflow.flows().len(), 1);
    let migrate = world.command(&["migrate", "--json"]).await;
    assert!(migrate.code == 0 && migrate.stdout.contains("Newer"), "{migrate:?}");
    let version = "SELECT 1 FROM uploader.service WHERE schema_version = 2";
    assert_eq!(world.query(version, Vec::new()).await.len(), 1, "nothing was taken back");
    let check = world.command(&["check", "--json"]).await;
    assert_eq!(check.code, 0, "{check:?}");
}

#[tokio::test]
async fn a_schema_that_is_too_new_or_too_old_is_refused_and_the_mend_is_named() {
    let world = World::new().await;
    drop(world.replica("one").await);
    for (version, settings, mend) in [
        ("3", &[("UPLOADER_DATABASE_MIGRATE", "true")][..], "version 3"),
        ("3", &[("UPLOADER_DATABASE_MIGRATE", "false")][..], "TooNew"),
        ("0", &[("UPLOADER_DATABASE_MIGRATE", "false")][..], "uploader-v4 migrate"),
    ] {
        let set = format!("UPDATE uploader.service SET schema_version = {version}");
        world.execute(&set, Vec::new()).await;
        let refused = world.replica_unready("refused", settings).await;
        let status = refused.process.wait_exit(SOON).await.unwrap();
        let said = refused.process.log_tail(5);
        assert!(!status.success() && said.contains(mend), "{version} {settings:?}: {said}");
    }
}

/// Makes every claim wait while the test holds an advisory lock.
const SLOW_CLAIMS: [&str; 2] = [
    "CREATE FUNCTION uploader.slow_claim() RETURNS trigger LANGUAGE plpgsql AS \
     $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END $$",
    "CREATE TRIGGER slow_claim BEFORE UPDATE OF owner ON uploader.session \
     FOR EACH ROW EXECUTE FUNCTION uploader.slow_claim()",
];

#[tokio::test]
async fn a_session_whose_claim_is_in_flight_at_a_signal_is_handed_back() {
    let world = World::new().await;
    let one = world.replica("one").await;
    for statement in SLOW_CLAIMS {
        world.execute(statement, Vec::new()).await;
    }
    let client = world.client().await;
    let file = bytes(103, 600_000);
    let upload = world.announce_one(file.len()).await;
    let lock = world.hold("SELECT pg_advisory_xact_lock(7) WHERE $1::uuid IS NOT NULL", upload.session).await;
    client.upload_range(&upload, &file, 100_000, 0, 400_000).await;
    world.waits_for_a_lock().await;
    one.process.signal(Signal::SIGTERM).unwrap();
    world.wait("it to be leaving", SOON, async || one.readyz().await.1.contains("leaving")).await;
    let began = Instant::now();
    lock.rollback().await.unwrap();
    one.process.wait_exit(LEAVE_WITHIN).await.unwrap();
    println!("gone {:?} after its claim was answered", began.elapsed());
    let owned = "SELECT owner::text FROM uploader.session WHERE session_id = $1";
    assert_eq!(world.text(owned, upload.session).await, None, "nobody has to wait for a lease");
    let _two = world.replica("two").await;
    client.upload_range(&upload, &file, 100_000, 400_000, file.len()).await;
    world.distributed(&upload).await;
    let whole = world.fflow.flows().into_iter().find(|flow| flow.finished).unwrap();
    assert_eq!(whole.sha256, sha256(&file));
}

#[tokio::test]
async fn a_replica_whose_database_is_silent_leaves_cleanly_all_the_same() {
    let world = World::new().await;
    let proxy = TcpProxy::start(database_address(&world)).await.unwrap();
    let url = through(&world, proxy.port());
    // Something is asked all the time, so that there is a question without an answer when it leaves.
    let settings = [("DB_CONNECTION_STRING", url.as_str()), ("UPLOADER_FEED_STRAY_INTERVAL", "100ms")];
    let replica = world.replica_unready("one", &settings).await;
    replica.ready().await;
    proxy.stall(true);
    world.wait("readiness to notice", LATE, async || replica.readyz().await.0 == 503).await;
    replica.process.signal(Signal::SIGTERM).unwrap();
    let status = replica.process.wait_exit(SOON).await.unwrap();
    assert!(status.success(), "{status}: {}", replica.process.log_tail(40));
}

#[tokio::test]
async fn a_replica_whose_last_questions_are_not_answered_in_time_leaves_cleanly_all_the_same() {
    let world = World::new().await;
    let settings = [
        ("UPLOADER_SHUTDOWN_DEADLINE", "2s"),
        ("UPLOADER_REPLICA_SHUTDOWN_SETTLE", "1s"),
        ("UPLOADER_REPLICA_SHUTDOWN_RELEASE", "1s"),
    ];
    let replica = world.replica_unready("one", &settings).await;
    replica.ready().await;
    let locked = world.db.begin().await.unwrap();
    locked.execute_unprepared("LOCK TABLE uploader.replica IN ACCESS EXCLUSIVE MODE").await.unwrap();
    world.waits_for_a_lock().await;
    replica.process.signal(Signal::SIGTERM).unwrap();
    let status = replica.process.wait_exit(SOON).await.unwrap();
    let log = replica.process.log_tail(40);
    assert!(status.success() && !log.contains("panicked"), "{status}: {log}");
    locked.rollback().await.unwrap();
}
