//! The segments of one process's journal: one is written, full ones are on their way to be settled.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::warn;
use uuid::Uuid;

use super::recovery::{self, Replayed, unless_gone};

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

    /// Appends and syncs. Nothing is appended behind what failed.
    pub fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        let mut segment = match self.current.take() {
            Some(segment) => segment,
            None => self.create().inspect_err(|_| self.not_before = Some(Instant::now() + PAUSE))?,
        };
        let appended = segment.append(entries);
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
            let file = File::options().write(true).create_new(true).open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(self.without_locks(&path, error)),
            }
            if file.metadata()?.nlink() > 0 {
                File::open(&folder)?.sync_all()?;
                File::open(&self.dir)?.sync_all()?;
                return Ok(Segment { path, file, bytes: 0, durable: 0 });
            }
        }
        Err(io::Error::other("every new segment is taken away"))
    }

    fn without_locks(&mut self, path: &Path, error: io::Error) -> io::Error {
        self.unlockable = true;
        warn!(%error, "the spool's volume has no locks: chunks are synced one by one, as with UPLOADER_SPOOL_JOURNAL_BYTES=0B");
        // Nothing is in it; left behind it could not be recovered either.
        let _ = fs::remove_file(path);
        error
    }

    /// Takes in what was settled and begins with what is full, unless a thread is at it or the last one failed just now.
    pub fn begin_to_settle(&mut self) {
        match self.settling.as_mut().map(oneshot::Receiver::try_recv) {
            Some(Err(oneshot::error::TryRecvError::Empty)) => return,
            Some(left) => drop(self.take_in(left.ok())),
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

    /// What is being settled; if nothing is, everything that there is.
    pub fn settle_rest(&mut self) -> Option<oneshot::Receiver<Left>> {
        if self.settling.is_some() {
            return self.settling.take();
        }
        self.full.extend(self.current.take());
        if self.full.is_empty() { None } else { self.settle_full() }
    }

    /// Takes back what could not be settled.
    ///
    /// # Errors
    /// Why not; nothing is known of segments whose thread is dead, and the next start sees to them.
    pub fn take_in(&mut self, left: Option<Left>) -> io::Result<()> {
        self.settling = None;
        self.settling_bytes = 0;
        let (segments, error) = left.ok_or_else(|| io::Error::other("the thread that settled it died"))?;
        self.full.extend(segments);
        let Some(error) = error else { return Ok(()) };
        warn!(%error, segments = self.full.len(), "the journal cannot be settled, it is tried again");
        self.not_before = Some(Instant::now() + PAUSE);
        Err(error)
    }
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

impl Segment {
    fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        self.bytes += entries.len() as u64;
        self.file.write_all(entries)?;
        self.file.sync_data()?;
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the segment was removed"));
        }
        self.durable = self.bytes;
        Ok(())
    }

    /// The records are written to the files again before these are synced: of a page that it could not write, the kernel
    /// tells nobody who opens the file after another has heard of it, and takes it for written.
    fn settle(&self, dir: &Path) -> io::Result<()> {
        // Under its own name others would find it locked; who removed it has settled it.
        let Some(file) = unless_gone(File::open(&self.path))? else { return Ok(()) };
        let Replayed { sound_until, .. } = recovery::replay(dir, &file)?;
        if sound_until < self.durable {
            return Err(io::Error::other(format!("{} is damaged at {sound_until}", self.path.display())));
        }
        unless_gone(fs::remove_file(&self.path)).map(drop)
    }
}
