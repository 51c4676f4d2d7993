//! The spool on a real directory, with files that are cut, damaged and full.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use rustix::io::{ReadWriteFlags, preadv2};

use super::*;
use crate::domain::ids::ReplicaId;
use crate::gateways::spool::RecordPlace;
use crate::testkit::memory_spool::admitted;

/// A session's upload as a caller would drive it: appends in order, runs kept as the database keeps them.
struct Upload {
    session: SessionId,
    runs: Vec<Run>,
    bytes: Vec<u8>,
}

impl Upload {
    fn new() -> Self {
        Upload { session: SessionId(Uuid::new_v4()), runs: Vec::new(), bytes: Vec::new() }
    }

    async fn append(&mut self, spool: &FileSpool, body: &[u8]) -> RecordPlace {
        let start = self.bytes.len() as i64;
        let admission = admitted(self.session, start, body.len() as u32).unwrap();
        let stored = spool.append(admission, Bytes::copy_from_slice(body)).await.unwrap();
        self.bytes.extend_from_slice(body);
        self.note(start, body.len() as i64, stored.place());
        stored.place()
    }

    fn note(&mut self, start: i64, length: i64, place: RecordPlace) {
        match self.runs.last_mut() {
            Some(run) if run.place.writer == place.writer && run.place.record_end == place.position => {
                run.length += length;
                run.place.record_end = place.record_end;
            }
            _ => self.runs.push(Run { start, length, place }),
        }
    }

    async fn read(&self, spool: &FileSpool, from: usize, length: usize) -> Result<Bytes, SpoolError> {
        spool.read(self.session, &self.runs, from as i64, length).await
    }

    async fn check_in_blocks(&self, spool: &FileSpool, block: usize) {
        for from in (0..self.bytes.len()).step_by(block) {
            let length = block.min(self.bytes.len() - from);
            let read = self.read(spool, from, length).await.unwrap();
            assert_eq!(read, self.bytes[from..from + length], "block at {from}");
        }
    }

    fn path(&self, dir: &Path, writer: ReplicaId) -> PathBuf {
        dir.join(self.session.to_string()).join(writer.to_string())
    }
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..length).map(|_| random.u8(..)).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn damage(outcome: Result<Bytes, SpoolError>) -> String {
    match outcome {
        Err(SpoolError::Damaged(reason)) => reason,
        other => panic!("expected damage, got {other:?}"),
    }
}

#[tokio::test]
async fn many_appends_read_back_in_blocks_of_any_size() {
    let dir = tempfile::tempdir().unwrap();
    let spool = FileSpool::new(dir.path());
    let mut upload = Upload::new();
    for n in 0..200 {
        upload.append(&spool, &noise(n, 1 + (n as usize * 37) % 900)).await;
    }
    assert_eq!(upload.runs.len(), 1);
    for block in [7, 512, 1000, 64 * 1024, 1 << 20] {
        upload.check_in_blocks(&spool, block).await;
    }
}

#[tokio::test]
async fn a_record_larger_than_its_blocks_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let spool = FileSpool::new(dir.path());
    let mut upload = Upload::new();
    upload.append(&spool, &noise(1, 3 << 20)).await;
    upload.append(&spool, &noise(2, 1 << 20)).await;
    upload.check_in_blocks(&spool, 500_000).await;
    assert_eq!(upload.read(&spool, 3 << 20, 10).await.unwrap(), upload.bytes[3 << 20..(3 << 20) + 10]);
    assert_eq!(upload.read(&spool, 5, 10).await.unwrap(), upload.bytes[5..15]);
}

#[tokio::test]
async fn a_kept_record_before_the_block_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let spool = FileSpool::new(dir.path());
    let mut upload = Upload::new();
    for n in 0..4 {
        upload.append(&spool, &noise(n, 100)).await;
    }
    upload.read(&spool, 0, 10).await.unwrap();
    assert_eq!(upload.read(&spool, 250, 100).await.unwrap(), upload.bytes[250..350]);
}

#[tokio::test]
async fn the_runs_of_two_writers_are_read_as_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (FileSpool::new(dir.path()), FileSpool::new(dir.path()));
    let mut upload = Upload::new();
    for n in 0..60 {
        let spool = if n % 3 == 0 { &one } else { &two };
        upload.append(spool, &noise(n, 333)).await;
    }
    assert_eq!(upload.runs.len(), 40);
    upload.check_in_blocks(&one, 1000).await;
    upload.check_in_blocks(&two, 128).await;
}

#[tokio::test]
async fn a_truncated_file_is_damaged_and_never_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let spool = FileSpool::new(dir.path());
    let mut upload = Upload::new();
    upload.append(&spool, &noise(1, 1000)).await;
    let place = upload.append(&spool, &noise(2, 1000)).await;
    let path = upload.path(dir.path(), place.writer);
    File::options().write(true).open(&path).unwrap().set_len(place.record_end as u64 - 1).unwrap();
    assert_eq!(upload.read(&spool, 0, 1000).await.unwrap(), upload.bytes[..1000]);
    let reason = damage(upload.read(&spool, 1000, 1000).await);
    assert!(reason.contains(&upload.session.to_string()), "{reason}");
    assert!(reason.contains(&place.writer.to_string()), "{reason}");
    assert!(reason.contains(&place.position.to_string()), "{reason}");
    fs::remove_file(path).unwrap();
    let other = FileSpool::new(dir.path());
    assert!(damage(upload.read(&other, 0, 10).await).contains("missing"));
}

#[tokio::test]
async fn what_this_process_stored_a_moment_ago_is_read_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, other) = (FileSpool::new(dir.path()), FileSpool::new(dir.path()));
    let mut upload = Upload::new();
    for n in 0..3 {
        upload.append(&spool, &noise(n, 1000)).await;
    }
    let place = upload.runs[0].place;
    let from_memory = |spool: &FileSpool, from, length| {
        spool.read_from_memory(upload.session, &upload.runs, from, length, None).map(|(bytes, _)| bytes)
    };
    // Not every file system tells what it has in memory; then a reading waits as it did.
    let file = File::open(upload.path(dir.path(), place.writer)).unwrap();
    let mut byte = [0];
    let told = preadv2(&file, &mut [IoSliceMut::new(&mut byte)], 0, ReadWriteFlags::NOWAIT).is_ok();
    assert_eq!(from_memory(&spool, 500, 2000).as_deref(), told.then_some(&upload.bytes[500..2500]));
    assert_eq!(from_memory(&other, 500, 2000), None, "a file that another process appends to");
    assert_eq!(from_memory(&spool, 0, AT_ONCE_BYTES + 1), None);
    let writer = locked(&spool.shared.writers).take(upload.session).unwrap();
    assert_eq!(from_memory(&spool, 500, 2000), None, "somebody appends to it");
    let closing = FileSpool::with(dir.path(), 0, 0);
    locked(&closing.shared.writers).put(upload.session, writer);
    assert_eq!(from_memory(&closing, 500, 2000), None, "it is closed");
    assert_eq!(upload.read(&spool, 500, 2000).await.unwrap(), upload.bytes[500..2500]);
}

#[tokio::test]
async fn one_flipped_bit_anywhere_in_a_record_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let spool = FileSpool::new(dir.path());
    let mut upload = Upload::new();
    let place = upload.append(&spool, &noise(1, 50)).await;
    let path = upload.path(dir.path(), place.writer);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    for at in 0..place.record_end as u64 {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        damage(upload.read(&spool, 0, 50).await);
        file.write_all_at(&byte, at).unwrap();
        assert_eq!(upload.read(&spool, 0, 50).await.unwrap(), upload.bytes);
    }
}

#[tokio::test]
async fn a_record_of_another_place_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let spool = FileSpool::new(dir.path());
    let (mut upload, mut other) = (Upload::new(), Upload::new());
    let place = upload.append(&spool, &noise(1, 50)).await;
    other.append(&spool, &noise(2, 10)).await;
    let foreign = other.append(&spool, &noise(3, 50)).await;
    let bytes = fs::read(other.path(dir.path(), foreign.writer)).unwrap();
    fs::write(upload.path(dir.path(), place.writer), &bytes[foreign.position as usize..]).unwrap();
    assert!(damage(upload.read(&spool, 0, 50).await).contains("another record"));
    fs::write(upload.path(dir.path(), place.writer), noise(4, 500)).unwrap();
    assert!(damage(upload.read(&spool, 0, 50).await).contains("no record"));
}

#[tokio::test]
async fn another_sessions_file_that_lies_alike_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let spool = FileSpool::new(dir.path());
    let (mut upload, mut other) = (Upload::new(), Upload::new());
    for n in 0..3 {
        upload.append(&spool, &noise(n, 100)).await;
        other.append(&spool, &noise(10 + n, 100)).await;
    }
    let [ours, foreign] =
        [&upload, &other].map(|upload| upload.path(dir.path(), upload.runs[0].place.writer));
    let bytes = fs::read(&ours).unwrap();
    fs::copy(foreign, &ours).unwrap();
    assert!(damage(upload.read(&spool, 0, 300).await).contains("checksum"));
    fs::write(ours, bytes).unwrap();
    assert_eq!(upload.read(&spool, 0, 300).await.unwrap(), upload.bytes);
}

#[tokio::test]
async fn a_range_that_no_run_holds_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let spool = FileSpool::new(dir.path());
    let mut upload = Upload::new();
    upload.append(&spool, &noise(1, 50)).await;
    assert!(damage(upload.read(&spool, 40, 20).await).contains("byte 50"));
}

#[tokio::test]
async fn after_a_failed_append_the_session_goes_on_in_another_file() {
    let dir = tempfile::tempdir().unwrap();
    let spool = FileSpool::new(dir.path());
    let mut upload = Upload::new();
    let first = upload.append(&spool, b"one").await;
    fs::remove_dir_all(dir.path().join(upload.session.to_string())).unwrap();
    let admission = admitted(upload.session, 3, 3).unwrap();
    let failed = spool.append(admission, Bytes::from_static(b"two")).await;
    assert!(matches!(failed, Err(SpoolError::Io(_))), "{failed:?}");
    let place = upload.append(&spool, b"two").await;
    assert_ne!(place.writer, first.writer);
    assert_eq!(place.position, 0);
    assert_eq!(upload.read(&spool, 3, 3).await.unwrap(), "two");
}

#[tokio::test]
async fn a_missing_directory_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let spool = FileSpool::new(dir.path().join("absent"));
    let admission = admitted(SessionId(Uuid::new_v4()), 0, 3).unwrap();
    assert!(matches!(spool.append(admission, Bytes::from_static(b"abc")).await, Err(SpoolError::Io(_))));
    assert!(spool.folders(None, 10).await.is_err());
    assert_eq!(spool.marker().await.unwrap(), None);
}

#[tokio::test]
async fn closed_files_are_opened_again_only_as_they_were_left() {
    let dir = tempfile::tempdir().unwrap();
    let spool = FileSpool::with(dir.path(), 2, 0);
    let mut uploads: Vec<Upload> = (0..5).map(|_| Upload::new()).collect();
    for round in 0..4 {
        for upload in &mut uploads {
            upload.append(&spool, &noise(round, 100)).await;
        }
    }
    for upload in &uploads {
        assert_eq!(upload.runs.len(), 1, "one file goes on being used");
        upload.check_in_blocks(&spool, 64).await;
    }
    let touched = &mut uploads[0];
    let writer = touched.runs[0].place.writer;
    let path = touched.path(dir.path(), writer);
    File::options().append(true).open(path).unwrap().write_all(b"torn").unwrap();
    assert_ne!(touched.append(&spool, b"next").await.writer, writer);
    touched.check_in_blocks(&spool, 64).await;
}

#[tokio::test]
async fn appends_that_overlap_in_one_session_never_share_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let spool = FileSpool::new(dir.path());
    let session = SessionId(Uuid::new_v4());
    let append = |start| spool.append(admitted(session, start, 2).unwrap(), Bytes::from_static(b"ab"));
    let (one, two) = tokio::join!(append(0), append(2));
    assert_ne!(one.unwrap().place().writer, two.unwrap().place().writer);
}

#[tokio::test]
async fn folders_come_in_order_and_go_when_removed() {
    let dir = tempfile::tempdir().unwrap();
    let spool = FileSpool::new(dir.path());
    let mut sessions = Vec::new();
    for _ in 0..5 {
        let mut upload = Upload::new();
        upload.append(&spool, b"x").await;
        sessions.push(upload.session);
    }
    sessions.sort();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    fs::create_dir(dir.path().join("A48A81DA-0C3B-4F0E-9D55-0D6F3C1C2B11")).unwrap();
    assert_eq!(spool.folders(None, 10).await.unwrap(), sessions);
    assert_eq!(spool.folders(Some(sessions[1]), 2).await.unwrap(), sessions[2..4]);
    spool.remove(sessions[0]).await.unwrap();
    spool.remove(sessions[0]).await.unwrap();
    assert_eq!(spool.folders(None, 10).await.unwrap(), sessions[1..]);
}

#[tokio::test]
async fn the_marker_is_read_back_and_missed_where_sessions_lie() {
    let dir = tempfile::tempdir().unwrap();
    let spool = FileSpool::new(dir.path().join("spool"));
    let id = Uuid::new_v4();
    spool.set_marker(id).await.unwrap();
    assert_eq!(spool.marker().await.unwrap(), Some(id));
    Upload::new().append(&spool, b"x").await;
    fs::remove_file(dir.path().join("spool").join(MARKER)).unwrap();
    assert!(matches!(spool.marker().await, Err(SpoolError::Foreign(_))));
    fs::write(dir.path().join("spool").join(MARKER), "something else").unwrap();
    assert!(matches!(spool.marker().await, Err(SpoolError::Foreign(_))));
}

#[tokio::test]
async fn the_volume_has_a_size() {
    let dir = tempfile::tempdir().unwrap();
    let volume = FileSpool::new(dir.path()).volume().await.unwrap();
    assert!(volume.total > 0 && volume.free <= volume.total);
}

#[test]
fn a_full_volume_is_told_from_a_failing_one() {
    assert!(matches!(sorted(&io::Error::from_raw_os_error(28)), SpoolError::Full(_)));
    assert!(matches!(sorted(&io::Error::from_raw_os_error(122)), SpoolError::Full(_)));
    assert!(matches!(sorted(&io::Error::from_raw_os_error(5)), SpoolError::Io(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_range_of_any_upload_reads_back(
        sizes in prop::collection::vec((1usize..5000, any::<bool>()), 1..40),
        reads in prop::collection::vec((0.0..1.0f64, 1usize..9000), 1..20),
    ) {
        runtime().block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let spools = [FileSpool::new(dir.path()), FileSpool::with(dir.path(), 0, 0)];
            let mut upload = Upload::new();
            for (n, (size, which)) in sizes.into_iter().enumerate() {
                upload.append(&spools[usize::from(which)], &noise(n as u64, size)).await;
            }
            for (share, length) in reads {
                let from = (share * upload.bytes.len() as f64) as usize;
                let length = length.min(upload.bytes.len() - from);
                let read = upload.read(&spools[0], from, length).await.unwrap();
                assert_eq!(read, upload.bytes[from..from + length]);
            }
        });
    }
}
