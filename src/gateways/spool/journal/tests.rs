//! The journal on a real directory, and files that forget what was never synced.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::future::join_all;
use proptest::prelude::*;
use tempfile::TempDir;
use uuid::Uuid;

use super::{FOLDER, Recovered, TOGETHER, recover};
use crate::domain::ids::SessionId;
use crate::gateways::spool::record::HEADER_BYTES;
use crate::gateways::spool::{FileSpool, RecordPlace, Run, Spool, SpoolError};
use crate::testkit::memory_spool::admitted;

const BODY: usize = 1000;
const RECORD: u64 = (HEADER_BYTES + BODY) as u64;
const SESSIONS: usize = 20;
const ALONE: usize = TOGETHER - 1;
const SEGMENT: u64 = 1 << 30;

/// A spool directory, the process that uses it, and what it stored.
struct Stage {
    dir: TempDir,
    spool: Option<FileSpool>,
    sessions: Vec<(SessionId, Vec<RecordPlace>)>,
}

fn body(session: SessionId, number: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(session.0.as_u128() as u64 ^ number as u64);
    (0..BODY).map(|_| random.u8(..)).collect()
}

impl Stage {
    fn new(segment: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spool = Some(FileSpool::with(dir.path(), 1024, segment));
        let sessions = (0..SESSIONS).map(|_| (SessionId(Uuid::new_v4()), Vec::new())).collect();
        Stage { dir, spool, sessions }
    }

    /// A first chunk for each session, which makes its file, and `rounds` more, all sessions at once.
    async fn stored(segment: u64, rounds: usize) -> Self {
        let mut stage = Self::new(segment);
        for _ in 0..=rounds {
            for outcome in stage.round().await {
                outcome.unwrap();
            }
        }
        stage
    }

    /// One chunk of each session, all at once.
    async fn round(&mut self) -> Vec<Result<(), SpoolError>> {
        let spool = self.spool.as_ref().unwrap();
        let appends = self.sessions.iter().map(|(session, places)| {
            let admission = admitted(*session, (places.len() * BODY) as i64, BODY as u32).unwrap();
            spool.append(admission, body(*session, places.len()))
        });
        let stored = join_all(appends).await;
        let noted = stored.into_iter().zip(&mut self.sessions).map(|(stored, (_, places))| {
            places.push(stored?.place());
            Ok(())
        });
        noted.collect()
    }

    fn path(&self, (session, places): &(SessionId, Vec<RecordPlace>)) -> PathBuf {
        self.dir.path().join(session.to_string()).join(places[0].writer.to_string())
    }

    /// The machine loses its power: the process is gone, and of each file all that was never synced.
    fn power_lost(&mut self) {
        self.spool = None;
        self.files_forget();
    }

    /// The first two appends of a round are synced in their own files: there is nobody beside them yet.
    fn files_forget(&self) {
        for session in &self.sessions[ALONE..] {
            File::options().write(true).open(self.path(session)).unwrap().set_len(RECORD).unwrap();
        }
    }

    fn segments(&self) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.dir.path().join(FOLDER)).into_iter().flatten();
        folder.map(|entry| entry.unwrap().path()).collect()
    }

    /// Reads everything with a spool of another process, up to the first that fails.
    async fn read(&self, spool: &FileSpool) -> Result<(), SpoolError> {
        for (session, places) in &self.sessions {
            let bytes = places.len() * BODY;
            let place = RecordPlace { record_end: places.last().unwrap().record_end, ..places[0] };
            let run = Run { start: 0, length: bytes as i64, place };
            let read = spool.read(*session, &[run], 0, bytes).await?;
            let whole: Vec<u8> = (0..places.len()).flat_map(|number| body(*session, number)).collect();
            assert!(read == whole, "other bytes of {session}");
        }
        Ok(())
    }
}

fn recovered(dir: &Path) -> Recovered {
    recover(dir).unwrap()
}

#[tokio::test]
async fn what_the_files_forgot_is_written_again_from_the_journal() {
    let mut stage = Stage::stored(SEGMENT, 5).await;
    assert_eq!(stage.segments().len(), 1);
    stage.power_lost();
    let next = FileSpool::new(stage.dir.path());
    next.recover().await.unwrap();
    assert!(stage.segments().is_empty(), "nothing is left to recover");
    stage.read(&next).await.unwrap();
}

#[tokio::test]
async fn appends_at_once_share_the_journal_and_lone_ones_leave_it_alone() {
    let mut stage = Stage::stored(SEGMENT, 1).await;
    stage.spool = None;
    let records = recovered(stage.dir.path()).records;
    assert_eq!(records, SESSIONS - ALONE);

    let mut stage = Stage::new(SEGMENT);
    stage.sessions.truncate(1);
    for _ in 0..5 {
        stage.round().await.remove(0).unwrap();
    }
    assert!(!stage.dir.path().join(FOLDER).exists(), "one session has nobody to share a sync with");
}

#[tokio::test]
async fn without_a_limit_there_is_no_journal() {
    let stage = Stage::stored(0, 3).await;
    assert!(!stage.dir.path().join(FOLDER).exists());
}

/// In place of a restart: a replica on another machine reads what one that lost its power stored.
#[tokio::test]
async fn a_reader_recovers_what_is_missing_once_its_writer_is_gone() {
    let mut stage = Stage::stored(SEGMENT, 4).await;
    let reader = FileSpool::new(stage.dir.path());
    stage.files_forget();
    let outcome = stage.read(&reader).await;
    assert!(matches!(outcome, Err(SpoolError::Damaged(_))), "its writer lives: {outcome:?}");
    stage.spool = None;
    stage.read(&reader).await.unwrap();
    assert!(stage.segments().is_empty());
}

#[tokio::test]
async fn recovery_ends_at_a_torn_entry_and_begins_no_file_that_was_removed() {
    let mut stage = Stage::stored(SEGMENT, 1).await;
    stage.power_lost();
    let segment = stage.segments().remove(0);
    let whole = fs::metadata(&segment).unwrap().len();
    File::options().write(true).open(&segment).unwrap().set_len(whole - 1).unwrap();
    let (removed, _) = stage.sessions[2];
    fs::remove_dir_all(stage.dir.path().join(removed.to_string())).unwrap();
    assert_eq!(recovered(stage.dir.path()), Recovered { segments: 1, records: SESSIONS - ALONE - 2 });
    assert!(!stage.dir.path().join(removed.to_string()).exists());
    assert_eq!(recovered(stage.dir.path()), Recovered::default());
}

#[tokio::test]
async fn what_is_settled_needs_no_recovery() {
    let stage = Stage::stored(SEGMENT, 3).await;
    stage.spool.as_ref().unwrap().settle().await.unwrap();
    assert!(stage.segments().is_empty());
    stage.read(&FileSpool::new(stage.dir.path())).await.unwrap();
}

#[tokio::test]
async fn full_segments_are_settled_while_appends_go_on() {
    let mut stage = Stage::stored(30 * RECORD, 40).await;
    let left: u64 = stage.segments().iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(left < 4 * 40 * 2 * RECORD, "{left} bytes of {SESSIONS} x 41 records are left");
    stage.round().await;
    stage.spool.as_ref().unwrap().settle().await.unwrap();
    assert!(stage.segments().is_empty());
    stage.spool = None;
    stage.read(&FileSpool::new(stage.dir.path())).await.unwrap();
}

#[tokio::test]
async fn settling_writes_again_what_the_kernel_lost() {
    let stage = Stage::stored(SEGMENT, 3).await;
    stage.files_forget();
    stage.spool.as_ref().unwrap().settle().await.unwrap();
    stage.read(&FileSpool::new(stage.dir.path())).await.unwrap();
}

#[tokio::test]
async fn a_journal_that_cannot_be_written_fails_its_appends_and_the_next_begin_other_files() {
    let mut stage = Stage::stored(SEGMENT, 0).await;
    let obstacle = stage.dir.path().join(FOLDER);
    fs::write(&obstacle, "no folder").unwrap();
    let outcomes = stage.round().await;
    let failed = outcomes.iter().filter(|outcome| matches!(outcome, Err(SpoolError::Io(_)))).count();
    assert_eq!(failed, SESSIONS - ALONE, "{outcomes:?}");
    fs::remove_file(&obstacle).unwrap();
    for _ in 0..2 {
        for outcome in stage.round().await {
            outcome.unwrap();
        }
    }
    for (_, places) in &stage.sessions[ALONE..] {
        assert_ne!(places[0].writer, places[1].writer);
        assert_eq!(places[1].writer, places[2].writer);
    }
}

#[tokio::test]
async fn a_session_that_is_removed_meanwhile_is_not_stored() {
    let mut stage = Stage::stored(SEGMENT, 1).await;
    let (removed, _) = stage.sessions[5];
    fs::remove_dir_all(stage.dir.path().join(removed.to_string())).unwrap();
    let outcomes = stage.round().await;
    assert!(outcomes[5].is_err() && outcomes[6].is_ok(), "{outcomes:?}");
}

#[test]
fn files_of_others_in_the_folder_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(FOLDER)).unwrap();
    let foreign = dir.path().join(FOLDER).join("notes.txt");
    fs::write(&foreign, "mine").unwrap();
    assert_eq!(recovered(dir.path()), Recovered::default());
    assert!(foreign.exists());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a segment became, what is written is what was stored, up to the damage.
    #[test]
    fn a_damaged_segment_gives_back_a_beginning_and_nothing_else(at in 0.0..1.0f64, bit in 0..8u8, cut in any::<bool>()) {
        let mut stage = runtime().block_on(Stage::stored(SEGMENT, 2));
        stage.power_lost();
        let segment = stage.segments().remove(0);
        let mut bytes = fs::read(&segment).unwrap();
        let at = ((bytes.len() - 1) as f64 * at) as usize;
        bytes[at] ^= 1 << bit;
        bytes.truncate(if cut { at } else { bytes.len() });
        fs::write(&segment, &bytes).unwrap();
        let entry = RECORD as usize + super::entry::ENTRY_BYTES;
        prop_assert_eq!(recovered(stage.dir.path()).records, at / entry);
        for session in &stage.sessions {
            let stored = fs::read(stage.path(session)).unwrap();
            for (number, record) in stored.chunks(RECORD as usize).enumerate() {
                let hole = record.iter().all(|byte| *byte == 0);
                prop_assert!(hole || record[HEADER_BYTES..] == body(session.0, number));
            }
        }
    }
}
