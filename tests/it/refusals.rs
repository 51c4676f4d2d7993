//! Every state in which a chunk is refused: a clear reason, nothing stored, and the next good chunk unharmed.

use migration::ByteColumns;

use crate::client::answer;
use crate::world::{Plan, Upload, World, bytes, sha256};

/// A session with its first chunk stored.
async fn begun(world: &World, client: &crate::client::Client, file: &[u8]) -> Upload {
    let upload = world.announce_one(file.len()).await;
    assert!(client.send(&upload, 0, &file[..1000]).await.is_ack());
    upload
}

#[tokio::test]
async fn rows_that_take_no_chunks_say_why() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(30, 5000);
    let cases = [
        ("UPDATE videos SET status = 'BLOCKED' WHERE id = $1", "blocked"),
        ("UPDATE videos SET status = 'DISTRIBUTED' WHERE id = $1", "distributed"),
        ("UPDATE flows SET status = 'HIDDEN' WHERE video_id = $1", "hidden"),
        ("UPDATE flows SET status = 'DISTRIBUTED' WHERE video_id = $1", "distributed"),
        ("DELETE FROM videos WHERE id = $1", "removed"),
        ("DELETE FROM flows WHERE video_id = $1", "removed"),
        (
            "UPDATE upload_sessions SET uploaded_bytes = 7 WHERE flow_id IN (SELECT id FROM flows WHERE video_id = $1)",
            "7 bytes",
        ),
        (
            "UPDATE upload_sessions SET total_bytes = 0 WHERE flow_id IN (SELECT id FROM flows WHERE video_id = $1)",
            "empty",
        ),
        ("UPDATE uploader.session SET state = 'EXPIRED' WHERE video_id = $1", "expired"),
        (
            "UPDATE uploader.session SET state = 'FAILED', last_error = 'bad luck' WHERE video_id = $1",
            "bad luck",
        ),
    ];
    for (change, reason) in cases {
        let upload = begun(&world, &client, &file).await;
        world.execute(change, vec![upload.video.into()]).await;
        let refused = client.send(&upload, 1000, &file[1000..2000]).await;
        assert!(refused.reason().contains(reason), "{change}: {refused:?}");
        let again = client.send(&upload, 0, &file[..1000]).await;
        assert!(again.is_ack(), "a duplicate is answered as the first time: {change}: {again:?}");
        let stored = "SELECT committed::text FROM uploader.session WHERE session_id = $1";
        assert_eq!(world.text(stored, upload.session).await.as_deref(), Some("1000"), "{change}");
    }
    let healthy = begun(&world, &client, &file).await;
    assert!(client.send(&healthy, 1000, &file[1000..]).await.is_ack());
    world.distributed(&healthy).await;
}

#[tokio::test]
async fn bytes_of_another_uploader_are_not_taken_for_ours() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(31, 5000);
    let upload = world.announce_one(file.len()).await;
    let change = "UPDATE upload_sessions SET uploaded_bytes = 1000 WHERE id = $1";
    world.execute(change, vec![upload.session.into()]).await;
    let refused = client.send(&upload, 1000, &file[1000..2000]).await;
    assert!(refused.reason().contains("another uploader"), "{refused:?}");
    assert!(
        !world.spool.join(upload.session.to_string()).exists(),
        "a refused chunk never touches the spool"
    );
}

#[tokio::test]
async fn a_chunk_without_its_predecessor_is_refused_when_its_wait_is_over() {
    let world = World::with(Default::default(), &[("UPLOADER_REORDER_WAIT", "1s")]).await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(32, 20_000);
    let upload = world.announce_one(file.len()).await;
    let early = client.send(&upload, 10_000, &file[10_000..]).await;
    assert_eq!((early.expected, early.retryable), (Some(0), Some(true)), "{early:?}");
    client.upload(&upload, &file, 10_000).await;
    world.distributed(&upload).await;
}

#[tokio::test]
async fn more_early_chunks_than_fit_are_refused_and_the_others_go_on() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(33, 20_000);
    let upload = world.announce_one(file.len()).await;
    let session = upload.session.to_string();
    let mut early = Vec::new();
    for slot in 1..20 {
        let start = slot * 1000;
        early.push(client.begin(&session, start as i64, &file[start..start + 1000]).await);
    }
    let (mut waiting, mut crowded) = (Vec::new(), 0);
    for receiver in early {
        match tokio::time::timeout(std::time::Duration::from_secs(3), receiver).await {
            Ok(refused) => {
                let refused = refused.unwrap();
                assert_eq!(refused.retryable, Some(true), "{refused:?}");
                crowded += 1;
            }
            Err(_) => waiting.push(()),
        }
    }
    assert_eq!((waiting.len(), crowded), (8, 11));
    let other = begun(&world, &client, &file).await;
    assert!(client.send(&other, 1000, &file[1000..]).await.is_ack(), "a crowded session holds up nobody");
    world.distributed(&other).await;
}

#[tokio::test]
async fn a_full_quota_refuses_new_sessions_and_lets_old_ones_finish() {
    let world = World::with(Default::default(), &[("UPLOADER_SPOOL_MAX_BYTES", "10MiB")]).await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(34, 6_000_000);
    let first = world.announce_one(file.len()).await;
    assert!(client.send(&first, 0, &file[..1_000_000]).await.is_ack());
    let second = world.announce_one(file.len()).await;
    let full = client.send(&second, 0, &file[..1_000_000]).await;
    assert!(full.reason().contains("storage full") && full.retryable == Some(true), "{full:?}");
    client.upload_range(&first, &file, 1_000_000, 1_000_000, file.len()).await;
    world.distributed(&first).await;
    world.nothing_left(&first).await;
    client.upload(&second, &file, 1_000_000).await;
    world.distributed(&second).await;
}

#[tokio::test]
async fn bigint_byte_columns_are_read_and_written_alike() {
    let world = World::planned(Plan { columns: Some(ByteColumns::BigInt), ..Plan::default() }).await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(35, 600_000);
    let upload = world.announce_one(file.len()).await;
    client.upload(&upload, &file, 100_000).await;
    world.distributed(&upload).await;
    assert_eq!(world.fflow.flow(&upload.session.to_string()).unwrap().sha256, sha256(&file));

    let huge = world.announce(&[5_000_000_000_000]).await[0];
    let refused = answer(client.begin(&huge.session.to_string(), 4_000_000_000_000, b"far").await).await;
    assert_eq!(refused.expected, Some(0), "{refused:?}");
}

/// Header tables as gateway's own encoder writes them, each with what must come of it.
const VECTORS: &str = include_str!("../vectors/chunk-headers.json");

#[tokio::test]
async fn every_header_table_of_the_contract_is_answered_as_it_says() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let vectors: Vec<serde_json::Value> = serde_json::from_str(VECTORS).unwrap();
    // An infinite double does not come through RabbitMQ, nor does what is published after it; the decoder's own test
    // has it.
    for vector in vectors.iter().filter(|vector| vector["name"] != "infinite size") {
        let before = client.seen.lock().unwrap().len();
        client.publish(table(vector["table_hex"].as_str().unwrap()), b"x").await;
        // A probe behind it: one consumer takes both in order, so its answer comes after the vector's, if any.
        let probe = answer(client.begin(&uuid::Uuid::new_v4().to_string(), 0, b"x").await).await;
        assert!(probe.reason().contains("unknown"), "{vector}: {probe:?}");
        let rejected = vector["want"]["reject"] == true;
        world
            .wait("the vector's answer", crate::world::SOON, async || {
                rejected || client.seen.lock().unwrap().len() == before + 2
            })
            .await;
        let seen = client.seen.lock().unwrap()[before..].to_vec();
        assert_eq!(seen.len(), if rejected { 1 } else { 2 }, "{vector}: {seen:?}");
        assert!(seen.iter().all(|(_, answer)| answer.status == "nack"), "{vector}: {seen:?}");
    }
    world
        .wait("nothing to be requeued", crate::world::SOON, async || {
            world
                .sandbox
                .queue_depth("chunk-upload")
                .await
                .unwrap()
                .is_some_and(|depth| depth.ready + depth.unacked == 0)
        })
        .await;
}

fn table(hex: &str) -> lapin::types::FieldTable {
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let (rest, table) = lapin::types::parsing::parse_field_table(bytes.as_slice()).unwrap();
    assert!(rest.is_empty());
    table
}
