//! From the queue into the spool, and back with an answer.

use crate::client::{answer, headers};
use crate::world::{SOON, World, bytes};

#[tokio::test]
async fn the_statuses_follow_the_chunks() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(1, 300_000);
    let upload = world.announce_one(file.len()).await;
    assert_eq!(world.video_status(&upload).await.as_deref(), Some("CREATED"));

    assert!(client.send(&upload, 0, &file[..8192]).await.is_ack());
    assert_eq!(world.video_status(&upload).await.as_deref(), Some("UPLOADING"));
    assert_eq!(world.flow_status(&upload).await.as_deref(), Some("UPLOADING"));
    assert_eq!(world.committed(&upload).await, 8192);

    world.fflow.set_holder_down(true);
    client.upload_range(&upload, &file, 8192, 8192, file.len()).await;
    assert_eq!(world.flow_status(&upload).await.as_deref(), Some("PROCESSING"));
    world.fflow.set_holder_down(false);

    world.distributed(&upload).await;
    assert_eq!(world.flow_status(&upload).await.as_deref(), Some("DISTRIBUTED"));
    world.nothing_left(&upload).await;
}

#[tokio::test]
async fn the_same_chunk_is_answered_alike_at_once_and_later_and_stored_once() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(2, 40_000);
    let upload = world.announce_one(file.len()).await;
    let session = upload.session.to_string();

    let first = client.begin(&session, 0, &file[..10_000]).await;
    let twin = client.begin(&session, 0, &file[..10_000]).await;
    assert!(answer(first).await.is_ack());
    assert!(answer(twin).await.is_ack());
    assert_eq!(world.committed(&upload).await, 10_000);

    client.upload_range(&upload, &file, 10_000, 10_000, file.len()).await;
    assert!(client.send(&upload, 10_000, &file[10_000..20_000]).await.is_ack());
    world.distributed(&upload).await;
    assert!(client.send(&upload, 30_000, &file[30_000..]).await.is_ack(), "a duplicate of an ended session");
    let other = bytes(3, 10_000);
    assert!(client.send(&upload, 30_000, &other).await.reason().contains("complete"));
}

#[tokio::test]
async fn four_chunks_in_flight_over_two_replicas_in_any_order() {
    let world = World::new().await;
    let _one = world.replica("one").await;
    let _two = world.replica("two").await;
    let client = world.client().await;
    let file = bytes(4, 64 * 4096);
    let upload = world.announce_one(file.len()).await;
    let session = upload.session.to_string();
    for group in 0..16 {
        let mut waiting = Vec::new();
        for slot in [2, 0, 3, 1] {
            let start = (group * 4 + slot) * 4096;
            waiting.push(client.begin(&session, start as i64, &file[start..start + 4096]).await);
        }
        for receiver in waiting {
            let got = answer(receiver).await;
            assert!(got.is_ack(), "{got:?}");
        }
    }
    world.distributed(&upload).await;
    let flow = world.fflow.flow(&session).unwrap();
    assert_eq!(flow.sha256, crate::world::sha256(&file));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_its_reason_and_harms_nobody() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(5, 30_000);
    let upload = world.announce_one(file.len()).await;
    assert!(client.send(&upload, 0, &file[..10_000]).await.is_ack());

    let overlap = client.send(&upload, 5_000, &file[5_000..12_000]).await;
    assert_eq!(overlap.expected, Some(10_000), "{overlap:?}");
    let past = client.send(&upload, 10_000, &bytes(6, 25_000)).await;
    assert!(past.reason().contains("past the end"), "{past:?}");
    let far = answer(client.begin(&upload.session.to_string(), 9 << 30, b"far").await).await;
    assert!(far.reason().contains("past the end"), "{far:?}");
    let unknown = answer(client.begin(&uuid::Uuid::new_v4().to_string(), 0, b"hello").await).await;
    assert!(unknown.reason().contains("unknown"), "{unknown:?}");

    let upper = upload.session.to_string().to_uppercase();
    assert!(answer(client.begin(&upper, 10_000, &file[10_000..20_000]).await).await.is_ack());
    assert!(client.send(&upload, 20_000, &file[20_000..]).await.is_ack());
    world.distributed(&upload).await;
}

#[tokio::test]
async fn a_lie_about_the_size_stores_nothing_and_is_not_requeued() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let upload = world.announce_one(30_000).await;
    for (start, size) in [(0, 99), (0, 101), (0, -100), (0, 0), (-1, 100), (i64::MAX, 100)] {
        let correlation = uuid::Uuid::new_v4().to_string();
        let receiver = client.expect(&correlation);
        client.publish(headers(&upload.session.to_string(), start, size, &correlation), &[7; 100]).await;
        assert!(!answer(receiver).await.reason().is_empty(), "start {start}, size {size}");
    }
    let mut nameless = headers(&upload.session.to_string(), 0, 100, "x");
    nameless.insert("x-correlation-id".into(), lapin::types::AMQPValue::LongInt(7));
    client.publish(nameless, &[7; 100]).await;
    assert!(client.send(&upload, 0, &[7; 100]).await.is_ack());
    assert_eq!(world.committed(&upload).await, 100);
    world
        .wait("the queue to be empty", SOON, async || {
            world
                .sandbox
                .queue_depth("chunk-upload")
                .await
                .unwrap()
                .is_some_and(|depth| depth.ready + depth.unacked == 0)
        })
        .await;
}
