//! The journal on a real directory, and files that forget what was never synced.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use proptest::prelude::*;
use tempfile::TempDir;
use uuid::Uuid;

use super::blocks::BLOCK;
use super::entry::{ENTRY_BYTES, Entries, Sound};
use super::{FOLDER, Journal, Leader, Recovered, Whose, locked, recover};
use crate::domain::ids::SessionId;
use crate::gateways::spool::record::HEADER_BYTES;
use crate::gateways::spool::{FileSpool, RecordPlace, Run, Spool, SpoolError};
use crate::testkit::memory_spool::admitted;

const BODY: usize = 1000;
const RECORD: u64 = (HEADER_BYTES + BODY) as u64;
const SESSIONS: usize = 20;
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
        Self::with(1024, segment)
    }

    /// With a spool that keeps at most `max_open` files open.
    fn with(max_open: usize, segment: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spool = Some(FileSpool::with(dir.path(), max_open, segment));
        let sessions = (0..SESSIONS).map(|_| (SessionId(Uuid::new_v4()), Vec::new())).collect();
        Stage { dir, spool, sessions }
    }

    /// A first chunk for each session, which makes its file, and `rounds` more, all sessions at once.
    async fn stored(segment: u64, rounds: usize) -> Self {
        Self::new(segment).storing(rounds).await
    }

    async fn storing(mut self, rounds: usize) -> Self {
        for _ in 0..=rounds {
            for outcome in self.round().await {
                outcome.unwrap();
            }
        }
        self
    }

    /// One chunk of each session, all at once.
    async fn round(&mut self) -> Vec<Result<(), SpoolError>> {
        self.round_of(0..self.sessions.len()).await
    }

    /// One chunk of each of these sessions, all at once.
    async fn round_of(&mut self, sessions: Range<usize>) -> Vec<Result<(), SpoolError>> {
        let spool = self.spool.as_ref().unwrap();
        let appends = self.sessions[sessions.clone()].iter().map(|(session, places)| {
            let admission = admitted(*session, (places.len() * BODY) as i64, BODY as u32).unwrap();
            spool.append(admission, body(*session, places.len()))
        });
        let stored = join_all(appends).await;
        let noted = stored.into_iter().zip(&mut self.sessions[sessions]).map(|(stored, (_, places))| {
            places.push(stored?.place());
            Ok(())
        });
        noted.collect()
    }

    fn path(&self, (session, places): &(SessionId, Vec<RecordPlace>)) -> PathBuf {
        self.dir.path().join(session.to_string()).join(places[0].writer.to_string())
    }

    /// The process is gone: what it still had in hand ends, and with it its locks.
    fn end(&mut self) {
        self.spool = None;
        for segment in self.segments() {
            File::open(segment).unwrap().lock().unwrap();
        }
    }

    /// The machine loses its power: the process is gone, and of each file all that was never synced.
    fn power_lost(&mut self) {
        self.end();
        self.files_forget();
    }

    /// Of each file the records at its end that no sync was for, as only the journal has them.
    fn files_forget(&self) {
        let journaled = self.journaled();
        let mut forgotten = 0;
        for one in &self.sessions {
            let unsynced =
                one.1.iter().rev().take_while(|place| journaled.contains(&(one.0, place.position)));
            let unsynced = unsynced.count();
            let file = File::options().write(true).open(self.path(one)).unwrap();
            file.set_len((one.1.len() - unsynced) as u64 * RECORD).unwrap();
            forgotten += unsynced;
        }
        assert!(forgotten > SESSIONS / 2, "most of what comes at once is in the journal: {forgotten}");
    }

    /// Whose record is where, in the order of each segment's last lap.
    fn journaled(&self) -> Vec<(SessionId, i64)> {
        let mut records = Vec::new();
        for segment in self.live() {
            let segment = File::open(segment).unwrap();
            let mut entries = Entries::of(&segment, u64::MAX).unwrap();
            let mut newest = None;
            while let Some((Sound { lap, entry }, _)) = entries.advance().unwrap() {
                if *newest.get_or_insert(lap) == lap {
                    records.push((entry.session, entry.position));
                }
            }
        }
        records
    }

    /// Whether a session's file has the record that was stored at this place.
    fn stands(&self, (session, position): &(SessionId, i64)) -> bool {
        let one = self.sessions.iter().find(|one| one.0 == *session).unwrap();
        let (from, number) = (*position as usize + HEADER_BYTES, *position as usize / RECORD as usize);
        let stored = fs::read(self.path(one)).unwrap();
        stored.get(from..from + BODY).is_some_and(|bytes| bytes == body(*session, number))
    }

    /// What stands in the sessions' files is what was stored, or a hole.
    fn nothing_else(&self) {
        for one in &self.sessions {
            for (number, record) in fs::read(self.path(one)).unwrap().chunks(RECORD as usize).enumerate() {
                let hole = record.iter().all(|byte| *byte == 0);
                assert!(
                    hole || record[HEADER_BYTES..] == body(one.0, number),
                    "record {number} of {}",
                    one.0
                );
            }
        }
    }

    fn segments(&self) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.dir.path().join(FOLDER)).into_iter().flatten();
        folder.map(|entry| entry.unwrap().path()).collect()
    }

    /// Those in which something is.
    fn live(&self) -> Vec<PathBuf> {
        self.segments().into_iter().filter(|segment| segment.extension().is_none()).collect()
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

/// Where the entries of a segment's last lap are.
fn entries(segment: &Path) -> Vec<Range<usize>> {
    entries_of(&File::open(segment).unwrap())
}

fn entries_of(segment: &File) -> Vec<Range<usize>> {
    let (mut entries, mut found) = (Entries::of(segment, u64::MAX).unwrap(), Vec::new());
    let mut newest = None;
    while let Some((Sound { lap, .. }, _)) = entries.advance().unwrap() {
        if *newest.get_or_insert(lap) == lap {
            let end = entries.at() as usize;
            found.push(end - RECORD as usize - ENTRY_BYTES..end);
        }
    }
    found
}

fn recovered(dir: &Path) -> Recovered {
    recover(dir, Whose::Abandoned).unwrap()
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
    stage.end();
    let journaled = stage.journaled().len();
    assert!(journaled > SESSIONS / 2, "{journaled}");
    assert_eq!(recovered(stage.dir.path()), Recovered { segments: 1, records: journaled, gaps: 0 });

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

/// Of a writer that lives, the kernel may have lost what it was to write.
#[tokio::test]
async fn a_reader_recovers_what_is_missing_whether_its_writer_lives_or_not() {
    let mut stage = Stage::stored(SEGMENT, 4).await;
    stage.files_forget();
    stage.read(&FileSpool::new(stage.dir.path())).await.unwrap();
    assert_eq!(stage.segments().len(), 1, "its writer goes on with it");
    stage.power_lost();
    let reader = FileSpool::new(stage.dir.path());
    stage.read(&reader).await.unwrap();
    assert!(stage.segments().is_empty());

    stage.sessions.truncate(1);
    fs::write(stage.path(&stage.sessions[0]), "neither here").unwrap();
    let outcome = stage.read(&reader).await;
    assert!(matches!(outcome, Err(SpoolError::Damaged(_))), "{outcome:?}");
}

#[tokio::test]
async fn recovery_passes_over_a_torn_end_and_begins_no_file_that_was_removed() {
    let mut stage = Stage::stored(SEGMENT, 1).await;
    stage.power_lost();
    let (segment, journaled) = (stage.segments().remove(0), stage.journaled());
    let whole = entries(&segment).pop().unwrap().end;
    File::options().write(true).open(&segment).unwrap().set_len(whole as u64 - 1).unwrap();
    let (removed, _) = journaled[0];
    fs::remove_dir_all(stage.dir.path().join(removed.to_string())).unwrap();
    let records = journaled.len() - 2;
    assert_eq!(recovered(stage.dir.path()), Recovered { segments: 1, records, gaps: 0 });
    assert!(!stage.dir.path().join(removed.to_string()).exists());
    assert_eq!(recovered(stage.dir.path()), Recovered::default());
}

#[tokio::test]
async fn a_file_that_cannot_be_written_keeps_its_segment_and_no_other_file_back() {
    let mut stage = Stage::stored(SEGMENT, 1).await;
    let (session, _) = stage.journaled()[0];
    let obstacle = stage.sessions.iter().find(|one| one.0 == session).map(|one| stage.path(one)).unwrap();
    let kept = stage.dir.path().join("kept");
    stage.power_lost();
    fs::rename(&obstacle, &kept).unwrap();
    fs::create_dir(&obstacle).unwrap();
    assert!(recover(stage.dir.path(), Whose::Abandoned).is_err());
    assert_eq!(stage.segments().len(), 1);
    let sound = stage.sessions.iter().filter(|session| {
        let file = fs::metadata(stage.path(session)).unwrap();
        file.is_file() && file.len() == 2 * RECORD
    });
    assert_eq!(sound.count(), SESSIONS - 1);
    fs::remove_dir(&obstacle).unwrap();
    fs::rename(&kept, &obstacle).unwrap();
    recovered(stage.dir.path());
    stage.read(&FileSpool::new(stage.dir.path())).await.unwrap();
}

/// Who begins to feed must not find that another is still at it.
#[tokio::test]
async fn whoever_returns_from_a_recovery_finds_the_files_whole() {
    let mut stage = Stage::stored(SEGMENT, 30).await;
    stage.power_lost();
    let start = Barrier::new(4);
    let whole = |session: &(SessionId, Vec<RecordPlace>)| {
        fs::metadata(stage.path(session)).unwrap().len() == 31 * RECORD
    };
    let recoveries: Vec<usize> = thread::scope(|scope| {
        let recovery = || {
            start.wait();
            let records = recovered(stage.dir.path()).records;
            assert!(stage.sessions.iter().all(whole));
            records
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(recovery)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(recoveries.iter().filter(|records| **records > 0).count(), 1, "one does it: {recoveries:?}");
}

#[tokio::test]
async fn settling_leaves_nothing_to_recover() {
    let mut stage = Stage::stored(SEGMENT, 3).await;
    stage.spool.as_ref().unwrap().settle().await.unwrap();
    stage.end();
    assert!(stage.segments().is_empty());
    assert_eq!(recovered(stage.dir.path()), Recovered::default());
}

/// Whoever opens a file later hears nothing of what the kernel could not write.
#[tokio::test]
async fn settling_writes_again_what_is_in_files_that_were_closed() {
    let stage = Stage::with(0, SEGMENT).storing(3).await;
    stage.files_forget();
    stage.spool.as_ref().unwrap().settle().await.unwrap();
    stage.read(&FileSpool::new(stage.dir.path())).await.unwrap();
}

#[tokio::test]
async fn a_file_that_was_closed_meanwhile_counts_as_closed() {
    let mut stage = Stage::with(1, SEGMENT).storing(1).await;
    // One file stays open, the last one's. A chunk of another session closes it, the next one opens it again.
    for sessions in [0..1, 0..SESSIONS] {
        for outcome in stage.round_of(sessions).await {
            outcome.unwrap();
        }
    }
    stage.files_forget();
    stage.spool.as_ref().unwrap().settle().await.unwrap();
    stage.read(&FileSpool::new(stage.dir.path())).await.unwrap();
}

#[tokio::test]
async fn files_that_are_open_since_are_settled_without_the_segment() {
    let stage = Stage::stored(SEGMENT, 3).await;
    for segment in stage.segments() {
        let bytes = fs::metadata(&segment).unwrap().len();
        let segment = File::options().write(true).open(segment).unwrap();
        segment.set_len(0).unwrap();
        segment.set_len(bytes).unwrap();
    }
    stage.spool.as_ref().unwrap().settle().await.unwrap();
    assert!(stage.segments().is_empty());
    stage.read(&FileSpool::new(stage.dir.path())).await.unwrap();
}

#[tokio::test]
async fn files_that_were_removed_are_settled_without_the_segment() {
    let stage = Stage::with(0, SEGMENT).storing(3).await;
    for (session, _) in &stage.sessions {
        fs::remove_dir_all(stage.dir.path().join(session.to_string())).unwrap();
    }
    File::options().write(true).open(&stage.segments()[0]).unwrap().set_len(0).unwrap();
    stage.spool.as_ref().unwrap().settle().await.unwrap();
    assert!(stage.segments().is_empty());
}

#[tokio::test]
async fn closed_files_of_a_damaged_segment_keep_it() {
    let stage = Stage::with(0, SEGMENT).storing(3).await;
    File::options().write(true).open(&stage.segments()[0]).unwrap().set_len(0).unwrap();
    assert!(stage.spool.as_ref().unwrap().settle().await.is_err());
    assert_eq!(stage.segments().len(), 1);
}

#[tokio::test]
async fn a_segment_that_cannot_be_settled_is_kept_and_tried_again() {
    let stage = Stage::with(0, SEGMENT).storing(2).await;
    let (session, _) = stage.journaled()[0];
    let obstacle = stage.sessions.iter().find(|one| one.0 == session).map(|one| stage.path(one)).unwrap();
    let kept = stage.dir.path().join("kept");
    fs::rename(&obstacle, &kept).unwrap();
    fs::create_dir(&obstacle).unwrap();
    let spool = stage.spool.as_ref().unwrap();
    assert!(spool.settle().await.is_err());
    assert_eq!(stage.segments().len(), 1);
    fs::remove_dir(&obstacle).unwrap();
    fs::rename(&kept, &obstacle).unwrap();
    spool.settle().await.unwrap();
    assert!(stage.segments().is_empty());
}

/// What it holds is still there for this process, and goes into the files when it is settled.
#[tokio::test]
async fn a_segment_that_somebody_removed_takes_no_more_and_is_settled_all_the_same() {
    let mut stage = Stage::with(0, SEGMENT).storing(2).await;
    let segment = stage.segments().remove(0);
    stage.files_forget();
    fs::remove_file(segment).unwrap();
    let spool = stage.spool.clone().unwrap();
    spool.settle().await.unwrap();
    stage.read(&FileSpool::new(stage.dir.path())).await.unwrap();

    for outcome in stage.round().await {
        outcome.unwrap();
    }
    fs::remove_file(stage.segments().remove(0)).unwrap();
    for outcome in stage.round().await {
        outcome.unwrap();
    }
    assert!(stage.segments().is_empty(), "nothing was begun a moment after the failure");
}

/// Without it the journal would be full after four segments, for good.
#[tokio::test]
async fn full_segments_are_settled_while_appends_go_on() {
    const ROUNDS: usize = 1000;
    let mut stage = Stage::stored(30 * RECORD, 0).await;
    let mut seen = BTreeSet::new();
    for _ in 0..ROUNDS {
        for outcome in stage.round().await {
            outcome.unwrap();
        }
        seen.extend(stage.segments());
        if seen.len() > 10 {
            break;
        }
    }
    assert!(seen.len() > 10, "{} segments", seen.len());
    assert!(stage.segments().len() <= 6, "and removed: {:?}", stage.segments());
}

/// A stage with one segment in use, which is on its second lap at least and has less in it than before, and a spare one.
async fn lapped() -> Stage {
    lapped_with(1024).await
}

/// The same with at most `max_open` files open.
async fn lapped_with(max_open: usize) -> Stage {
    const ROUNDS: usize = 1000;
    const LIMIT: u64 = 100 * RECORD;
    let mut stage = Stage::with(max_open, LIMIT).storing(0).await;
    for _ in 0..ROUNDS {
        for outcome in stage.round().await {
            outcome.unwrap();
        }
        // Settling falls behind appends that come one after the other.
        let begun = Instant::now();
        while stage.live().len() > 1 && begun.elapsed() < Duration::from_millis(200) {
            thread::sleep(Duration::from_millis(1));
        }
        // A full one, which may be about to be settled, has more in it.
        let (live, all) = (stage.live(), stage.segments());
        if let [segment] = &live[..]
            && all.len() == 2
            && let Ok(segment) = File::open(segment)
            && segment.metadata().unwrap().len() > LIMIT
            && let entries = entries_of(&segment)
            && entries.len() > SESSIONS / 2
            && entries.iter().all(|entry| entry.end as u64 <= LIMIT / 4 * 3)
        {
            return stage;
        }
    }
    panic!("no segment was written again in {ROUNDS} rounds");
}

#[tokio::test]
async fn what_an_earlier_lap_left_is_no_damage_and_a_spare_segment_is_removed_unread() {
    let mut stage = lapped().await;
    let (segment, newest) = (stage.live().remove(0), stage.journaled().len());
    stage.power_lost();
    let spare = stage.segments().into_iter().find(|one| *one != segment).unwrap();
    fs::copy(&segment, &spare).unwrap();
    let Recovered { segments, records, gaps } = recovered(stage.dir.path());
    assert_eq!((segments, gaps), (1, 0));
    assert!(records >= newest, "{records} of {newest}");
    assert!(stage.segments().is_empty(), "a spare one is removed too: {:?}", stage.segments());
    stage.read(&FileSpool::new(stage.dir.path())).await.unwrap();
}

/// A volume may answer a write and not have done it: what comes behind is found all the same.
#[tokio::test]
async fn a_first_block_that_kept_what_it_had_costs_what_lay_on_it() {
    let mut stage = lapped().await;
    let segment = stage.live().remove(0);
    let (newest, journaled) = (entries(&segment), stage.journaled());
    stage.power_lost();
    let mut bytes = fs::read(&segment).unwrap();
    // An older entry, whole, where the newest lap begins.
    let old = newest.last().unwrap().end.next_multiple_of(BLOCK);
    let stale = bytes[old..].windows(4).position(|found| *found == bytes[..4]).unwrap() + old;
    bytes.copy_within(stale..stale + newest[0].len(), 0);
    fs::write(&segment, &bytes).unwrap();
    let hit = newest.iter().filter(|entry| entry.start < newest[0].len()).count();
    recovered(stage.dir.path());
    assert!(journaled[hit..].iter().all(|place| stage.stands(place)));
}

/// The group that was being written may be there in any of its blocks, and in the others what was there before.
#[tokio::test]
async fn a_torn_group_on_an_earlier_lap_costs_no_record_before_it_and_brings_no_other_bytes() {
    let mut stage = lapped().await;
    let (segment, durable) = (stage.live().remove(0), stage.journaled());
    let before = fs::read(&segment).unwrap();
    let torn_from = entries(&segment).pop().unwrap().end.next_multiple_of(BLOCK);
    for outcome in stage.round().await {
        outcome.unwrap();
    }
    let after = fs::read(&segment).unwrap();
    assert!(stage.journaled().len() > durable.len(), "the next group is in the same segment");
    stage.end();
    for seed in 0..64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut torn = after.clone();
        for (at, block) in before.chunks(BLOCK).enumerate().skip(torn_from / BLOCK) {
            if random.bool() {
                torn[at * BLOCK..at * BLOCK + block.len()].copy_from_slice(block);
            }
        }
        fs::write(&segment, &torn).unwrap();
        for one in &stage.sessions {
            // All but the first record, which no journal has.
            File::options().write(true).open(stage.path(one)).unwrap().set_len(RECORD).unwrap();
        }
        recovered(stage.dir.path());
        assert!(durable.iter().all(|place| stage.stands(place)), "seed {seed}");
        stage.nothing_else();
    }
}

#[tokio::test]
async fn a_segment_of_another_version_is_kept() {
    let mut stage = Stage::stored(SEGMENT, 1).await;
    stage.end();
    let segment = stage.segments().remove(0);
    let whole = fs::read(&segment).unwrap();
    for (number, version) in [1, 3].into_iter().enumerate() {
        let mut bytes = whole.clone();
        let heads: Vec<_> = entries(&segment).iter().map(|entry| entry.start).collect();
        heads.into_iter().for_each(|head| bytes[head + 3] = version);
        fs::write(&segment, &bytes).unwrap();
        let error = recover(stage.dir.path(), Whose::Abandoned).unwrap_err();
        assert!(error.to_string().contains("another version"), "{number}: {error}");
        assert_eq!(stage.segments(), std::slice::from_ref(&segment));
        fs::write(&segment, &whole).unwrap();
    }
}

#[tokio::test]
async fn without_a_spare_segment_that_was_removed_a_new_one_is_begun() {
    let mut stage = lapped().await;
    let spare = stage.segments().into_iter().find(|one| one.extension().is_some()).unwrap();
    fs::remove_file(spare).unwrap();
    let former = stage.live();
    for _ in 0..1000 {
        for outcome in stage.round().await {
            outcome.unwrap();
        }
        if stage.live() != former {
            break;
        }
    }
    assert_ne!(stage.live(), former);
    stage.read(&FileSpool::new(stage.dir.path())).await.unwrap();
}

#[tokio::test]
async fn closed_files_of_a_segment_that_was_written_before_are_settled() {
    let stage = lapped_with(0).await;
    stage.files_forget();
    stage.spool.as_ref().unwrap().settle().await.unwrap();
    assert!(stage.segments().is_empty());
    stage.read(&FileSpool::new(stage.dir.path())).await.unwrap();
}

#[tokio::test]
async fn the_spare_segment_of_a_living_process_is_left_and_removed_when_it_leaves() {
    let stage = lapped().await;
    recover(stage.dir.path(), Whose::Everybodys).unwrap();
    assert!(stage.live().len() < stage.segments().len(), "{:?}", stage.segments());
    stage.spool.as_ref().unwrap().settle().await.unwrap();
    assert!(stage.segments().is_empty(), "{:?}", stage.segments());
}

#[tokio::test]
async fn without_the_journal_chunks_go_on_in_the_same_files() {
    let mut stage = Stage::stored(SEGMENT, 0).await;
    let obstacle = stage.dir.path().join(FOLDER);
    fs::write(&obstacle, "no folder").unwrap();
    for _ in 0..3 {
        for outcome in stage.round().await {
            outcome.unwrap();
        }
    }
    for (_, places) in &stage.sessions {
        assert!(places.iter().all(|place| place.writer == places[0].writer), "in the same file");
    }
    stage.read(&FileSpool::new(stage.dir.path())).await.unwrap();
}

#[tokio::test]
async fn files_that_were_closed_are_opened_again() {
    let mut stage = Stage::new(SEGMENT);
    stage.spool = Some(FileSpool::with(stage.dir.path(), 2, SEGMENT));
    for _ in 0..5 {
        for outcome in stage.round().await {
            outcome.unwrap();
        }
    }
    stage.power_lost();
    stage.read(&FileSpool::new(stage.dir.path())).await.unwrap();
}

#[test]
fn a_leader_that_never_ran_leaves_nobody_waiting_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::new(dir.path().to_owned(), SEGMENT));
    locked(&journal.line).led = true;
    drop(Leader { journal: journal.clone(), over: false });
    assert!(!locked(&journal.line).led);
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

    /// Whatever a segment became, what is written is what was stored, and only what was hit is lost.
    #[test]
    fn damage_costs_the_record_that_it_hit_and_no_other(at in 0.0..1.0f64, bit in 0..8u8, cut in any::<bool>()) {
        let mut stage = runtime().block_on(Stage::stored(SEGMENT, 2));
        stage.power_lost();
        let segment = stage.segments().remove(0);
        let entries = entries(&segment);
        let mut bytes = fs::read(&segment).unwrap();
        let at = ((bytes.len() - 1) as f64 * at) as usize;
        bytes[at] ^= 1 << bit;
        bytes.truncate(if cut { at } else { bytes.len() });
        fs::write(&segment, &bytes).unwrap();
        let sound = |entry: &&Range<usize>| if cut { entry.end <= at } else { !entry.contains(&at) };
        let left = entries.iter().filter(sound).count();
        prop_assert_eq!(recovered(stage.dir.path()).records, left);
        stage.nothing_else();
    }
}
