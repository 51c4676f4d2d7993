//! The segments of one process's journal: one is written, full ones are on their way to be settled, one may be at hand.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::warn;
use uuid::Uuid;

use super::blocks::Blocks;
use super::segment::Segment;
use super::unsynced::Unsynced;

/// So many segments may wait to be settled, and have so many times a segment's limit: beyond that no chunk goes there.
const OVERFULL: usize = 4;
/// After a failure nothing is written to the journal, and nothing settled, for so long.
const PAUSE: Duration = Duration::from_secs(10);

/// What became of segments that were to be settled.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Those that could not be.
    left: Vec<Segment>,
    /// Why not.
    error: Option<io::Error>,
    /// One that can be written again.
    spare: Option<Segment>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    limit: u64,
    current: Option<Segment>,
    full: Vec<Segment>,
    /// To write its blocks again costs less than to write new ones.
    spare: Option<Segment>,
    blocks: Blocks,
    settling: Option<oneshot::Receiver<Settled>>,
    settling_bytes: u64,
    /// Somebody waits for what is being settled.
    awaited: bool,
    not_before: Option<Instant>,
    /// The volume has no locks, so that nobody could tell a segment in use from one to recover.
    unlockable: bool,
}

impl Segments {
    /// Of about `limit` bytes each, in the spool directory `dir`.
    pub fn new(dir: PathBuf, limit: u64) -> Self {
        Segments {
            dir,
            limit,
            current: None,
            full: Vec::new(),
            spare: None,
            blocks: Blocks::default(),
            settling: None,
            settling_bytes: 0,
            awaited: false,
            not_before: None,
            unlockable: false,
        }
    }

    /// Whether a chunk should go here.
    pub fn have_room(&self) -> bool {
        let waiting: u64 = self.full.iter().chain(&self.current).map(Segment::bytes).sum();
        let room = waiting + self.settling_bytes < self.limit.saturating_mul(OVERFULL as u64);
        room && self.full.len() < OVERFULL && !self.unlockable && !self.resting()
    }

    fn resting(&self) -> bool {
        self.not_before.is_some_and(|then| Instant::now() < then)
    }

    /// Appends records and syncs. Nothing is appended behind what failed.
    pub fn append(&mut self, records: &[Unsynced]) -> io::Result<()> {
        if self.resting() {
            return Err(io::Error::other("it failed a moment ago"));
        }
        let mut segment = match self.current.take() {
            Some(segment) => segment,
            None => self.take_next().inspect_err(|_| self.not_before = Some(Instant::now() + PAUSE))?,
        };
        let appended = segment.append(records, &mut self.blocks);
        if appended.is_ok() && segment.bytes() < self.limit {
            self.current = Some(segment);
            return appended;
        }
        self.full.push(segment);
        self.begin_to_settle();
        if appended.is_err() {
            self.not_before = Some(Instant::now() + PAUSE);
        }
        appended
    }

    /// One that takes records: a spare one if there is any.
    fn take_next(&mut self) -> io::Result<Segment> {
        let folder = self.dir.join(super::FOLDER);
        if let Some(mut spare) = self.spare.take() {
            let named = spare.begin_again().and_then(|()| named(spare.file(), &folder, &self.dir));
            if named.is_ok_and(|named| named) {
                return Ok(spare);
            }
            // Nothing that anybody needs is in it, and left behind it would take space until somebody's start.
            let _ = spare.remove();
        }
        self.create()
    }

    /// A new one whose name is durable. Whoever recovers may take it for abandoned before it is locked: then another.
    fn create(&mut self) -> io::Result<Segment> {
        const ATTEMPTS: usize = 10;
        let folder = self.dir.join(super::FOLDER);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        for _ in 0..ATTEMPTS {
            let path = folder.join(Uuid::new_v4().to_string());
            let file = File::options().read(true).write(true).create_new(true).open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => {
                    self.unlockable = true;
                    warn!(%error, "the spool's volume has no locks: chunks are synced one by one");
                    return Err(without(&path, error));
                }
            }
            match named(&file, &folder, &self.dir) {
                Ok(true) => return Ok(Segment::new(path, file)),
                Ok(false) => {}
                Err(error) => return Err(without(&path, error)),
            }
        }
        Err(io::Error::other("every new segment is taken away"))
    }

    /// Takes in what was settled and begins with what is full, unless a thread is at it or the last one failed just now.
    pub fn begin_to_settle(&mut self) {
        match self.settling.as_mut().map(oneshot::Receiver::try_recv) {
            Some(Err(oneshot::error::TryRecvError::Empty)) => return,
            Some(settled) => drop(self.take_in(settled.ok())),
            None if self.awaited => return,
            None => {}
        }
        if !self.full.is_empty() && !self.resting() {
            self.settling = self.settle_full();
        }
    }

    /// The full segments are in the hands of a thread; `None` if there can be no thread now.
    fn settle_full(&mut self) -> Option<oneshot::Receiver<Settled>> {
        let (hand_over, segments) = mpsc::channel();
        let (tell, settled) = oneshot::channel();
        let dir = self.dir.clone();
        let whole = self.limit;
        let work = move || {
            if let Ok(segments) = segments.recv() {
                // Whoever waited may be gone; the segments' names are still there for the next start.
                let _ = tell.send(settle(&dir, segments, whole));
            }
        };
        thread::Builder::new().name("settle".to_owned()).spawn(work).ok()?;
        self.settling_bytes = self.full.iter().map(Segment::bytes).sum();
        hand_over.send(std::mem::take(&mut self.full)).ok()?;
        Some(settled)
    }

    /// What is being settled; if nothing is, everything that there is, which begins now.
    ///
    /// # Errors
    /// There can be no thread now.
    pub fn settle_rest(&mut self) -> io::Result<Option<(oneshot::Receiver<Settled>, bool)>> {
        if let Some(spare) = self.spare.take() {
            // One that cannot be removed is left to the next start.
            let _ = spare.remove();
        }
        if let Some(settling) = self.settling.take() {
            self.awaited = true;
            return Ok(Some((settling, false)));
        }
        self.full.extend(self.current.take());
        if self.full.is_empty() {
            return Ok(None);
        }
        let settling = self.settle_full().ok_or_else(|| io::Error::other("no thread to be had"))?;
        self.awaited = true;
        Ok(Some((settling, true)))
    }

    /// Takes back what could not be settled.
    ///
    /// # Errors
    /// Why not; nothing is known of segments whose thread is dead, and the next start sees to them.
    pub fn take_in(&mut self, settled: Option<Settled>) -> io::Result<()> {
        self.settling = None;
        self.settling_bytes = 0;
        self.awaited = false;
        let settled = settled.ok_or_else(|| io::Error::other("the thread that settled it died"))?;
        self.full.extend(settled.left);
        let another = match &self.spare {
            Some(_) => settled.spare,
            None => std::mem::replace(&mut self.spare, settled.spare),
        };
        let removed = another.map_or(Ok(()), |another| another.remove());
        let Some(error) = settled.error.or(removed.err()) else { return Ok(()) };
        warn!(%error, segments = self.full.len(), "the journal cannot be settled, it is tried again");
        self.not_before = Some(Instant::now() + PAUSE);
        Err(error)
    }
}

/// Whether a new segment still has its name; then the name is durable.
fn named(file: &File, folder: &Path, dir: &Path) -> io::Result<bool> {
    if file.metadata()?.nlink() == 0 {
        return Ok(false);
    }
    File::open(folder)?.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok(true)
}

/// Nothing is in it, and left behind it would have to be recovered.
fn without(path: &Path, error: io::Error) -> io::Error {
    let _ = fs::remove_file(path);
    error
}

/// One of those that came to `whole` bytes is kept for writing again.
fn settle(dir: &Path, segments: Vec<Segment>, whole: u64) -> Settled {
    let mut settled = Settled::default();
    for mut segment in segments {
        let outcome = segment.settle(dir).and_then(|()| {
            let keep = segment.bytes() >= whole && settled.spare.is_none() && segment.spare().is_ok();
            if keep { Ok(true) } else { segment.remove().map(|()| false) }
        });
        match outcome {
            Ok(true) => settled.spare = Some(segment),
            Ok(false) => {}
            Err(error) => {
                settled.left.push(segment);
                settled.error = Some(error);
            }
        }
    }
    settled
}
