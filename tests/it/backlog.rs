//! More chunks than are taken at once: memory stays within what the settings say, and their order stays what it was.
//! `BACKLOG_CHUNKS=10000` runs the one about memory with 10 GiB.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use devstack::TcpProxy;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use peers::recording::RecordingOptions;
use tokio::sync::oneshot;
use uploader_v4::allocator;
use url::Url;
use uuid::Uuid;

use crate::client::{Answer, Client, answer, headers};
use crate::world::{Replica, SOON, Upload, World, bytes, sha256};

/// Chunks, unless `BACKLOG_CHUNKS` says otherwise.
const CHUNKS: usize = 600;
const CHUNK: usize = 1 << 20;
const PREFETCH: u64 = 64;
const INFLIGHT: u64 = 32 << 20;
/// What a replica has beside the bodies of chunks: itself, half-read records (64 MiB at most), and for each of 32 feeds
/// the record and the block that it is reading.
const BASE: u64 = 160 << 20;

/// Publishes whose confirms are awaited together.
const WINDOW: usize = 16;
const LONG: Duration = Duration::from_secs(1800);

const SETTINGS: [(&str, &str); 6] = [
    ("UPLOADER_PREFETCH", "64"),
    ("UPLOADER_INFLIGHT_BYTES", "32MiB"),
    ("UPLOADER_CHUNK_DEADLINE", "10m"),
    ("UPLOADER_SPOOL_MAX_BYTES", "16GiB"),
    ("UPLOADER_MAX_FEEDS", "32"),
    ("UPLOADER_LOG_FILTER", "info"),
];

fn chunks() -> usize {
    std::env::var("BACKLOG_CHUNKS").ok().map_or(CHUNKS, |text| text.parse().expect("a number of chunks"))
}

/// A file's bytes tell whose they are; the same for the same number.
fn body(number: usize) -> Vec<u8> {
    (number as u64).to_le_bytes().repeat(CHUNK / 8)
}

/// Memory of a replica in bytes: `VmHWM` the most it ever had, `VmRSS` now.
fn memory(replica: &Replica, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", replica.process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// The queue keeps its messages on disk: what waits is not to fill the broker's memory either.
async fn on_disk(world: &World) {
    let endpoints = world.sandbox.endpoints();
    let url = format!("{}/api/policies/{}/lazy", endpoints.amqp_management_url, world.sandbox.vhost);
    let policy = r#"{"pattern":"^chunk-upload$","definition":{"queue-mode":"lazy"},"apply-to":"queues"}"#;
    devstack::http::request("PUT", &url, Some(policy), SOON).await.unwrap().success().unwrap();
}

/// A channel of its own whose publishes are confirmed: nothing gathers in the test.
async fn publisher(world: &World) -> (Connection, Channel) {
    let connection =
        Connection::connect(&world.sandbox.amqp_url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

/// Publishes each upload's one chunk; each answer's receiver. Clients have one chunk in flight, so many chunks that wait
/// are those of many uploads.
async fn fill(world: &World, client: &Client, uploads: &[Upload]) -> Vec<oneshot::Receiver<Answer>> {
    let (_connection, channel) = publisher(world).await;
    let (mut answers, mut confirms) = (Vec::new(), Vec::new());
    for (number, upload) in uploads.iter().enumerate() {
        let correlation = Uuid::new_v4().to_string();
        answers.push(client.expect(&correlation));
        let headers = headers(&upload.session.to_string(), 0, CHUNK as i64, &correlation);
        let properties = BasicProperties::default().with_headers(headers);
        let (exchange, key) = ("chunk-exchange".into(), format!("chunk.{correlation}").into());
        let options = BasicPublishOptions::default();
        confirms
            .push(channel.basic_publish(exchange, key, options, &body(number), properties).await.unwrap());
        if confirms.len() == WINDOW {
            futures_util::future::try_join_all(confirms.drain(..)).await.unwrap();
        }
    }
    futures_util::future::try_join_all(confirms).await.unwrap();
    answers
}

/// Every upload plays, and its ffmpeg was fed exactly its file.
async fn all_play(world: &World, uploads: &[Upload]) {
    let left = "SELECT id FROM flows WHERE status <> 'DISTRIBUTED' LIMIT 1";
    world
        .wait("every flow to be DISTRIBUTED", LONG, async || world.query(left, Vec::new()).await.is_empty())
        .await;
    let finished = world.fflow.flows().into_iter().filter(|flow| flow.finished);
    let session = |name: &str| name.split('~').next().unwrap_or_default().to_owned();
    let fed: HashMap<String, String> = finished.map(|flow| (session(&flow.name), flow.sha256)).collect();
    for (number, upload) in uploads.iter().enumerate() {
        assert_eq!(fed[&upload.session.to_string()], sha256(&body(number)), "upload {number}");
    }
}

/// A replica whose line to PostgreSQL is in the test's hand.
async fn on_a_line(world: &World) -> (TcpProxy, Replica) {
    let mut url = Url::parse(&world.sandbox.database_url).unwrap();
    let target = format!("127.0.0.1:{}", url.port().unwrap());
    let line = TcpProxy::start(target.parse().unwrap()).await.unwrap();
    url.set_port(Some(line.port())).unwrap();
    let replica = world.replica_unready("one", &[("DB_CONNECTION_STRING", url.as_str())]).await;
    replica.ready().await;
    (line, replica)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_chunks_in_the_queue_stay_there_while_postgresql_stands_still() {
    let options = RecordingOptions { keep_bytes: 0, ..RecordingOptions::default() };
    let world = World::with(options, &SETTINGS).await;
    let client = world.client().await;
    on_disk(&world).await;
    let (line, replica) = on_a_line(&world).await;
    // A video each: uploads of one video take turns at their ends.
    let mut uploads = Vec::new();
    for _ in 0..chunks() {
        uploads.push(world.announce_one(CHUNK).await);
    }
    let idle = memory(&replica, "VmHWM:");

    line.stall(true);
    let begun = Instant::now();
    let filling = tokio::time::timeout(LONG, fill(&world, &client, &uploads));
    let answers = filling.await.expect("the broker takes every chunk in time");
    let (filled, all) = (begun.elapsed(), answers.len());
    world
        .wait("the prefetch to be used up and the rest to wait", SOON, async || {
            let depth = world.sandbox.queue_depth("chunk-upload").await.unwrap().unwrap_or_default();
            depth.unacked > INFLIGHT / CHUNK as u64 && depth.ready >= all as u64 - 2 * PREFETCH
        })
        .await;
    let stalled = memory(&replica, "VmHWM:");
    line.delay(Duration::from_millis(5));
    line.stall(false);

    let begun = Instant::now();
    let acked = async {
        for (number, answer) in answers.into_iter().enumerate() {
            let answer = answer.await.unwrap();
            assert!(answer.is_ack(), "chunk {number}: {answer:?}");
        }
    };
    tokio::time::timeout(LONG, acked).await.expect("every chunk is answered in time");
    let drained = begun.elapsed();
    all_play(&world, &uploads).await;
    let played = begun.elapsed();
    let peak = memory(&replica, "VmHWM:");
    let bound = INFLIGHT + PREFETCH * CHUNK as u64 + BASE;
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "{all} chunks of 1 MiB: published in {filled:.1?}, answered in {drained:.1?}, all play after {played:.1?}; \
         memory {} MiB idle, {} MiB while PostgreSQL stood still, {} MiB at its peak, at most {} MiB allowed",
        mib(idle),
        mib(stalled),
        mib(peak),
        mib(bound)
    );
    assert!(peak <= bound, "{} of {} MiB", mib(peak), mib(bound));
}

#[tokio::test]
async fn chunks_keep_their_order_however_often_consuming_pauses() {
    const SMALL: usize = 20_000;
    const COUNT: usize = 300;
    // Two chunks are over the budget, and not one may be early.
    let settings = [
        ("UPLOADER_MAX_CHUNK_BYTES", "20000"),
        ("UPLOADER_INFLIGHT_BYTES", "20000"),
        ("UPLOADER_PREFETCH", "8"),
        ("UPLOADER_CHUNK_REORDER_PER_SESSION", "0"),
        ("UPLOADER_LOG_FILTER", "info"),
    ];
    let world = World::with(RecordingOptions::default(), &settings).await;
    let replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(120, COUNT * SMALL);
    let upload = world.announce_one(file.len()).await;
    let mut answers = Vec::new();
    for (number, chunk) in file.chunks(SMALL).enumerate() {
        answers.push(client.begin(&upload.session.to_string(), (number * SMALL) as i64, chunk).await);
    }
    for (number, waiting) in answers.into_iter().enumerate() {
        let answer = answer(waiting).await;
        assert!(answer.is_ack(), "chunk {number}: {answer:?}");
    }
    world.distributed(&upload).await;
    let pauses = std::fs::read_to_string(world.workspace.log("one")).unwrap();
    let pauses = pauses.lines().filter(|line| line.contains("consuming=false")).count();
    assert!(pauses > 10, "{pauses} pauses");
    assert!(replica.process.is_running());
}

#[tokio::test]
async fn a_replica_sets_its_allocator_up_unless_an_operator_has() {
    let world = World::new().await;
    // glibc ends each of its settings where it read it: what parts them is a zero by then.
    let environment = |replica: &Replica| {
        let whole = std::fs::read(format!("/proc/{}/environ", replica.process.pid())).unwrap();
        String::from_utf8(whole).unwrap().replace('\0', ":")
    };
    let own = world.replica("own").await;
    let expected = format!(":{}={}:", allocator::VARIABLE, allocator::TUNABLES);
    assert!(environment(&own).contains(&expected), "{}", environment(&own));
    let choice = "glibc.malloc.arena_max=1";
    let chosen = world.replica_unready("chosen", &[(allocator::VARIABLE, choice)]).await;
    chosen.ready().await;
    assert!(environment(&chosen).contains(&format!(":{}={choice}:", allocator::VARIABLE)));
}
