//! The segments of one process's journal: one is written, full ones are on their way to be settled.

use std::fs::{self, File, TryLockError};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::warn;
use uuid::Uuid;

use super::recovery::{self, Replayed, unless_gone};
use super::unsynced::{OpenedFiles, Unsynced};

/// All segments of a journal together may have so many times a segment's limit: beyond that no chunk goes there.
const OVERFULL: u64 = 4;
/// After a failure nothing is written to the journal, and nothing settled, for so long.
const PAUSE: Duration = Duration::from_secs(10);

/// A locked file. The lock tells others that its process lives, and ends with it.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    bytes: u64,
    durable: u64,
    files: OpenedFiles,
}

/// Segments that could not be settled, and why.
pub(super) type Left = (Vec<Segment>, Option<io::Error>);

/// All of them.
#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    limit: u64,
    current: Option<Segment>,
    full: Vec<Segment>,
    settling: Option<oneshot::Receiver<Left>>,
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
            settling: None,
            settling_bytes: 0,
            awaited: false,
            not_before: None,
            unlockable: false,
        }
    }

    /// Whether a chunk should go here.
    pub fn have_room(&self) -> bool {
        let waiting: u64 = self.full.iter().chain(&self.current).map(|segment| segment.bytes).sum();
        let room = waiting + self.settling_bytes < self.limit.saturating_mul(OVERFULL);
        room && !self.unlockable && !self.resting()
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
            None => self.create().inspect_err(|_| self.not_before = Some(Instant::now() + PAUSE))?,
        };
        let appended = segment.append(records);
        if appended.is_ok() && segment.bytes < self.limit {
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
                Ok(true) => {
                    return Ok(Segment { path, file, bytes: 0, durable: 0, files: OpenedFiles::default() });
                }
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
            Some(left) => drop(self.take_in(left.ok())),
            None if self.awaited => return,
            None => {}
        }
        if !self.full.is_empty() && !self.resting() {
            self.settling = self.settle_full();
        }
    }

    /// The full segments are in the hands of a thread; `None` if there can be no thread now.
    fn settle_full(&mut self) -> Option<oneshot::Receiver<Left>> {
        let (hand_over, segments) = mpsc::channel();
        let (tell, settled) = oneshot::channel();
        let dir = self.dir.clone();
        let work = move || {
            if let Ok(segments) = segments.recv() {
                // Whoever waited may be gone; the segments' names are still there for the next start.
                let _ = tell.send(settle(&dir, segments));
            }
        };
        thread::Builder::new().name("settle".to_owned()).spawn(work).ok()?;
        self.settling_bytes = self.full.iter().map(|segment| segment.bytes).sum();
        hand_over.send(std::mem::take(&mut self.full)).ok()?;
        Some(settled)
    }

    /// What is being settled; if nothing is, everything that there is, which begins now.
    ///
    /// # Errors
    /// There can be no thread now.
    pub fn settle_rest(&mut self) -> io::Result<Option<(oneshot::Receiver<Left>, bool)>> {
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
    pub fn take_in(&mut self, left: Option<Left>) -> io::Result<()> {
        self.settling = None;
        self.settling_bytes = 0;
        self.awaited = false;
        let (segments, error) = left.ok_or_else(|| io::Error::other("the thread that settled it died"))?;
        self.full.extend(segments);
        let Some(error) = error else { return Ok(()) };
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

fn settle(dir: &Path, segments: Vec<Segment>) -> Left {
    let (mut left, mut failed) = (Vec::new(), None);
    for segment in segments {
        if let Err(error) = segment.settle(dir) {
            left.push(segment);
            failed = Some(error);
        }
    }
    (left, failed)
}

/// Bodies are not copied to stand behind one another.
fn write_all(mut file: &File, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !parts.is_empty() {
        match file.write_vectored(parts) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut parts, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Segment {
    fn append(&mut self, records: &[Unsynced]) -> io::Result<()> {
        records.iter().for_each(|record| self.files.add(record));
        let mut parts: Vec<_> = records.iter().flat_map(Unsynced::parts).collect();
        self.bytes += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        write_all(&self.file, &mut parts)?;
        self.file.sync_data()?;
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the segment was removed"));
        }
        self.durable = self.bytes;
        Ok(())
    }

    /// A file that is open since its records were written is synced. To any other these are written again: of a page that
    /// it could not write, the kernel tells nobody who opens the file after another has heard of it, and takes it for written.
    fn settle(&self, dir: &Path) -> io::Result<()> {
        let left = self.files.sync().in_place(dir);
        if !left.is_empty() {
            let Replayed { sound_until, .. } = recovery::replay(dir, &self.file, |entry| left.has(entry))?;
            if sound_until < self.durable {
                return Err(io::Error::other(format!("{} is damaged at {sound_until}", self.path.display())));
            }
        }
        unless_gone(fs::remove_file(&self.path)).map(drop)
    }
}
