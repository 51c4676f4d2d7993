//! A spool that is not what PostgreSQL says: found and named, never a silent wrong video.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use devstack::Signal;
use futures_util::future::join_all;
use peers::recording::{CallKind, Fault, FaultRule, RecordingOptions};
use uuid::Uuid;

use crate::client::Client;
use crate::world::{LATE, Replica, SOON, Upload, World, bytes, sha256};

const CHUNK: usize = 100_000;
const FILE: usize = 1_200_000;
/// Bytes of a record before its body.
const HEADER: u64 = 20;

const SETTINGS: [(&str, &str); 4] = [
    ("UPLOADER_LEASE", "3s"),
    ("UPLOADER_REPLICA_HEARTBEAT", "1s"),
    ("UPLOADER_SPOOL_READ_RETRY", "1s"),
    ("UPLOADER_FEED_BACKOFF_MAX", "1s"),
];

/// The one file that holds a session's bytes.
fn spool_file(world: &World, upload: &Upload) -> PathBuf {
    let folder = world.spool.join(upload.session.to_string());
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

fn cut(path: &Path, by: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - by).unwrap();
}

fn flip(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

async fn reason(world: &World, upload: &Upload) -> String {
    let sql = "SELECT last_error FROM uploader.session WHERE session_id = $1";
    world.text(sql, upload.session).await.unwrap_or_default()
}

/// Waits until an upload is given up, and returns why. Nobody can play anything of it, and no process was fed a byte
/// that was not uploaded.
async fn given_up(world: &World, upload: &Upload, file: &[u8]) -> String {
    let failed = async || world.state(upload).await.as_deref() == Some("FAILED");
    world.wait(&format!("session {} to be FAILED", upload.session), LATE, failed).await;
    assert_eq!(world.video_status(upload).await.as_deref(), Some("BLOCKED"));
    assert_eq!(world.flow_status(upload).await.as_deref(), Some("HIDDEN"));
    let flows = world.fflow.flows();
    for flow in flows.iter().filter(|flow| flow.name.starts_with(&upload.session.to_string())) {
        assert!(!flow.finished, "{} was finished", flow.name);
        let fed = usize::try_from(flow.bytes).unwrap();
        assert!(fed < file.len() && flow.sha256 == sha256(&file[..fed]), "{} got other bytes", flow.name);
    }
    let reason = reason(world, upload).await;
    assert!(reason.contains("spool is damaged"), "{reason}");
    assert!(reason.contains(&upload.session.to_string()), "{reason}");
    reason
}

/// An upload of which `stored` bytes are stored and fed, and whose replica lost its power then.
async fn broken_off(world: &World, client: &Client, seed: u64, stored: usize) -> (Upload, Vec<u8>) {
    let replica: Replica = world.replica("one").await;
    let file = bytes(seed, FILE);
    let upload = world.announce_one(FILE).await;
    client.upload_range(&upload, &file, CHUNK, 0, stored).await;
    let name = upload.session.to_string();
    let fed = async || world.fflow.flow(&name).is_some_and(|flow| flow.bytes == stored as u64);
    world.wait("all stored bytes to be fed", SOON, fed).await;
    replica.process.kill().await.unwrap();
    (upload, file)
}

#[tokio::test]
async fn a_spool_file_shorter_than_postgresql_says_is_found_and_named() {
    let world = World::with(RecordingOptions::default(), &SETTINGS).await;
    let client = world.client().await;
    let (upload, file) = broken_off(&world, &client, 100, 1_000_000).await;
    cut(&spool_file(&world, &upload), 4096);
    let _two = world.replica("two").await;
    let reason = given_up(&world, &upload, &file).await;
    assert!(reason.contains("the file ends too early"), "{reason}");
    let next = client.send(&upload, 1_000_000, &file[1_000_000..1_100_000]).await;
    assert!(next.reason().contains("ends too early"), "its client is told: {next:?}");
    assert_eq!(next.retryable, Some(false));
}

#[tokio::test]
async fn each_damage_to_a_stored_file_is_named_and_its_neighbour_plays() {
    let world = World::with(RecordingOptions::default(), &SETTINGS).await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let no_fflow = world.fflow.inject(FaultRule::on(CallKind::Create, Fault::Status(500)));
    let mut uploads = Vec::new();
    for seed in 110..116 {
        let (file, upload) = (bytes(seed, FILE), world.announce_one(FILE).await);
        client.upload(&upload, &file, CHUNK).await;
        uploads.push((upload, file));
    }
    let paths: Vec<PathBuf> = uploads.iter().map(|(upload, _)| spool_file(&world, upload)).collect();
    let record = HEADER + CHUNK as u64;
    flip(&paths[0], 7 * record + HEADER + 1234);
    flip(&paths[1], 3 * record + 9);
    fs::remove_file(&paths[2]).unwrap();
    // The records of both lie alike, their bytes are others.
    fs::copy(&paths[5], &paths[3]).unwrap();
    cut(&paths[4], FILE as u64);
    world.fflow.disarm(no_fflow);

    let words = [
        "the record's checksum differs",
        "another record than the committed one",
        "the file is missing",
        "the record's checksum differs",
        "the file ends too early",
    ];
    for ((upload, file), words) in uploads.iter().zip(words) {
        let reason = given_up(&world, upload, file).await;
        assert!(reason.contains(words), "{reason}");
    }
    let (sound, file) = &uploads[5];
    world.distributed(sound).await;
    let whole = world.fflow.flows().into_iter().find(|flow| flow.finished).unwrap();
    assert_eq!(whole.sha256, sha256(file));
}

#[tokio::test]
async fn bytes_that_show_up_late_are_waited_for() {
    let mut world = World::with(RecordingOptions::default(), &SETTINGS).await;
    world.set("UPLOADER_SPOOL_READ_RETRY", "2m".to_owned());
    let client = world.client().await;
    let (upload, file) = broken_off(&world, &client, 101, 1_000_000).await;
    let path = spool_file(&world, &upload);
    let whole = fs::read(&path).unwrap();
    cut(&path, 300_000);
    let _two = world.replica("two").await;
    let second = format!("{}~2", upload.session);
    let fed = async || world.fflow.flow(&second).is_some_and(|flow| flow.bytes == 512 << 10);
    world.wait("everything before the hole to be fed", SOON, fed).await;
    fs::write(&path, whole).unwrap();
    client.upload_range(&upload, &file, CHUNK, 1_000_000, FILE).await;
    world.distributed(&upload).await;
    assert_eq!(world.fflow.flow(&second).unwrap().sha256, sha256(&file), "the same generation went on");
}

#[tokio::test]
async fn what_was_written_and_never_committed_is_ignored() {
    let world = World::with(RecordingOptions::default(), &SETTINGS).await;
    let client = world.client().await;
    let (upload, file) = broken_off(&world, &client, 102, 1_000_000).await;
    let path = spool_file(&world, &upload);
    let torn = [fs::read(&path).unwrap(), bytes(103, 5000)].concat();
    fs::write(&path, torn).unwrap();
    let _two = world.replica("two").await;
    client.upload_range(&upload, &file, CHUNK, 1_000_000, FILE).await;
    world.distributed(&upload).await;
    let second = world.fflow.flow(&format!("{}~2", upload.session)).unwrap();
    assert_eq!(second.sha256, sha256(&file));
}

/// Bytes of an entry of the journal before its record, after magic and lap session, writer, position and checksum.
const ENTRY: usize = 52;
/// What is written at once is filled up to a multiple of this.
const BLOCK: usize = 4096;

/// Where the records of a journal belong: file and offset.
fn journaled(world: &World) -> BTreeSet<(PathBuf, u64)> {
    let folder = fs::read_dir(world.spool.join("journal")).unwrap();
    let mut records = BTreeSet::new();
    for segment in folder {
        let bytes = fs::read(segment.unwrap().path()).unwrap();
        let mut at = 0;
        while at + ENTRY < bytes.len() {
            let entry = &bytes[at..];
            if !entry.starts_with(b"USj\x02") {
                assert!(at % BLOCK > 0, "no entry at {at}");
                at = at.next_multiple_of(BLOCK);
                continue;
            }
            let id = |from: usize| Uuid::from_slice(&entry[from..from + 16]).unwrap().to_string();
            let position = u64::from_be_bytes(entry[40..48].try_into().unwrap());
            let length = u32::from_be_bytes(entry[ENTRY + 12..ENTRY + 16].try_into().unwrap());
            records.insert((world.spool.join(id(8)).join(id(24)), position));
            at += ENTRY + HEADER as usize + length as usize;
        }
    }
    records
}

/// The machine loses its power: of each file nothing is left that no sync was for, the records at its end that only the
/// journal has. Tells how many those were.
fn forget_unsynced(world: &World, uploads: &[Upload], record: u64) -> usize {
    let journaled = journaled(world);
    let mut forgotten = 0;
    for upload in uploads {
        let path = spool_file(world, upload);
        let length = fs::metadata(&path).unwrap().len();
        let ends = (0..length / record).map(|number| number * record).rev();
        let unsynced = ends.take_while(|at| journaled.contains(&(path.clone(), *at))).count();
        cut(&path, unsynced as u64 * record);
        forgotten += unsynced;
    }
    forgotten
}

#[tokio::test]
async fn small_chunks_that_only_the_journal_has_are_fed_after_the_machine_lost_its_power() {
    const SMALL: usize = 8_000;
    const COUNT: usize = 24;
    const BEFORE: usize = 20 * SMALL;
    let world = World::with(RecordingOptions::default(), &SETTINGS).await;
    let no_fflow = world.fflow.inject(FaultRule::on(CallKind::Create, Fault::Status(500)));
    let replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(104, 30 * SMALL);
    let mut uploads = Vec::new();
    for _ in 0..COUNT {
        uploads.push(world.announce_one(file.len()).await);
    }
    join_all(uploads.iter().map(|upload| client.upload_range(upload, &file, SMALL, 0, BEFORE))).await;
    replica.process.kill().await.unwrap();
    let forgotten = forget_unsynced(&world, &uploads, HEADER + SMALL as u64);
    assert!(forgotten > 0, "no record was in the journal only");

    let two = world.replica("two").await;
    assert!(two.process.log_tail(200).contains("what journals had was written"), "said so");
    assert_eq!(fs::read_dir(world.spool.join("journal")).unwrap().count(), 0, "and settled them");
    world.fflow.disarm(no_fflow);
    join_all(uploads.iter().map(|upload| client.upload_range(upload, &file, SMALL, BEFORE, file.len())))
        .await;
    for upload in &uploads {
        world.distributed(upload).await;
    }
    let whole = sha256(&file);
    let finished: Vec<_> = world.fflow.flows().into_iter().filter(|flow| flow.finished).collect();
    assert!(finished.len() == COUNT && finished.iter().all(|flow| flow.sha256 == whole));
    two.process.stop(Signal::SIGTERM, SOON).await.unwrap();
    assert_eq!(
        fs::read_dir(world.spool.join("journal")).unwrap().count(),
        0,
        "a clean exit leaves nothing to settle"
    );
}
