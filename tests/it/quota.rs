//! More uploads begin at once than the spool may hold: some are taken and finish, the others are refused for now, and
//! taken when there is room again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use peers::recording::RecordingOptions;

use crate::client::Client;
use crate::crowd::{fire, full};
use crate::world::{LATE, SOON, Upload, World, bytes, sha256};

const MIB: usize = 1 << 20;
/// Bytes of each file; the quota has room for `ROOM` of them.
const FILE: usize = MIB;
const ROOM: usize = 10;

/// Tries the first chunk of each at once; those that were taken, and those that were refused for want of room.
async fn all_begin(client: &Client, uploads: &[Upload], file: &[u8]) -> (Vec<Upload>, VecDeque<Upload>) {
    let first = uploads.iter().map(|upload| client.send(upload, 0, &file[..FILE / 4]));
    let answers = futures_util::future::join_all(first).await;
    let (mut taken, mut refused) = (Vec::new(), VecDeque::new());
    for (upload, answer) in uploads.iter().zip(answers) {
        if answer.is_ack() {
            taken.push(*upload);
        } else {
            assert!(answer.reason().contains("storage full"), "{answer:?}");
            assert_eq!(answer.retryable, Some(true), "{answer:?}");
            refused.push_back(*upload);
        }
    }
    (taken, refused)
}

#[tokio::test]
async fn a_full_quota_is_never_overdrawn_and_everybody_gets_a_turn() {
    let uploads = if full() { 80 } else { 18 };
    let world = World::with(RecordingOptions::default(), &[("UPLOADER_SPOOL_MAX_BYTES", "10MiB")]).await;
    let _replicas = [world.replica("one").await, world.replica("two").await, world.replica("three").await];
    let client = world.client().await;
    let file = bytes(330, FILE);
    let mut all = Vec::new();
    for _ in 0..uploads {
        all.push(world.announce_one(FILE).await);
    }
    let began = Instant::now();
    let (taken, mut refused) = all_begin(&client, &all, &file).await;
    assert!(taken.len() <= ROOM, "{} sessions of 1 MiB in 10 MiB", taken.len());
    assert_eq!(taken.len() + refused.len(), uploads);
    let at_once = refused.len();
    // No chunk of those that were taken is refused for want of room, nor waits for it.
    for upload in &taken {
        client.upload_range(upload, &file, FILE / 4, FILE / 4, FILE).await;
    }
    let mut attempts = 0;
    while let Some(upload) = refused.pop_front() {
        world
            .wait("room for one more", LATE, async || {
                attempts += 1;
                client.send(&upload, 0, &file[..FILE / 4]).await.is_ack()
            })
            .await;
        client.upload_range(&upload, &file, FILE / 4, FILE / 4, FILE).await;
    }
    for upload in &all {
        world.distributed(upload).await;
        assert_eq!(world.fflow.flow(&upload.session.to_string()).unwrap().sha256, sha256(&file));
    }
    let took: Duration = began.elapsed();
    fire(
        "quota",
        &format!(
            "{uploads} uploads at once, {} taken and {at_once} refused, all DISTRIBUTED in {took:.1?} \
             after {attempts} further attempts",
            taken.len()
        ),
    );
    world.wait("the spool to be empty", SOON, async || folders(&world) == 0).await;
}

/// Folders of sessions in the spool.
fn folders(world: &World) -> usize {
    let entries = std::fs::read_dir(&world.spool).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
}
