//! The segments of one process's journal: one is written, full ones are on their way to be settled.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tracing::warn;
use uuid::Uuid;

use super::recovery;

/// All segments of a journal together may have so many times a segment's limit: beyond that no chunk goes there.
const OVERFULL: u64 = 4;

/// A locked file. The lock tells others that its process lives, and ends with it.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: File,
    bytes: u64,
}

/// What could not be settled, and why.
type Left = (Vec<Segment>, Option<io::Error>);

/// All of them.
#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    limit: u64,
    current: Option<Segment>,
    full: Vec<Segment>,
    settling: Option<JoinHandle<Left>>,
    settling_bytes: u64,
    /// The volume has no locks, so that nobody could tell a segment in use from one to recover.
    unlockable: bool,
}

impl Segments {
    /// Of about `limit` bytes each, in the spool directory `dir`.
    pub fn new(dir: PathBuf, limit: u64) -> Self {
        let full = Vec::new();
        Segments { dir, limit, current: None, full, settling: None, settling_bytes: 0, unlockable: false }
    }

    /// Whether there is room for more.
    pub fn have_room(&self) -> bool {
        let waiting: u64 = self.full.iter().chain(&self.current).map(|segment| segment.bytes).sum();
        !self.unlockable && waiting + self.settling_bytes < self.limit.saturating_mul(OVERFULL)
    }

    /// Appends and syncs. Nothing is appended behind what failed: recovery ends at the first torn entry.
    pub fn append(&mut self, entries: &[u8]) -> io::Result<()> {
        let mut segment = match self.current.take() {
            Some(segment) => segment,
            None => self.create()?,
        };
        let appended = segment.append(entries);
        if appended.is_ok() && segment.bytes < self.limit {
            self.current = Some(segment);
        } else {
            self.full.push(segment);
            self.begin_to_settle();
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
                Ok(()) if file.metadata()?.nlink() > 0 => {
                    File::open(&folder)?.sync_all()?;
                    File::open(&self.dir)?.sync_all()?;
                    return Ok(Segment { path, file, bytes: 0 });
                }
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(self.without_locks(&path, error)),
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

    /// In a thread of its own, unless one is at it: then with the next segment that is full.
    fn begin_to_settle(&mut self) {
        if self.settling.as_ref().is_some_and(|settling| !settling.is_finished()) {
            return;
        }
        self.take_in();
        let (dir, full) = (self.dir.clone(), std::mem::take(&mut self.full));
        self.settling_bytes = full.iter().map(|segment| segment.bytes).sum();
        self.settling = Some(std::thread::spawn(move || settle(&dir, full)));
    }

    /// Waits for the thread and takes back what it could not settle.
    fn take_in(&mut self) -> Option<io::Error> {
        let left = self.settling.take().map(JoinHandle::join);
        self.settling_bytes = 0;
        // After a panic the segments are unlocked, so that the next start settles them.
        let (segments, error) = left?.ok()?;
        self.full.extend(segments);
        if let Some(error) = &error {
            warn!(%error, segments = self.full.len(), "the journal cannot be settled, it is tried again");
        }
        error
    }

    /// Settles everything, and waits for it.
    pub fn settle(&mut self) -> io::Result<()> {
        self.take_in();
        self.full.extend(self.current.take());
        self.begin_to_settle();
        self.take_in().map_or(Ok(()), Err)
    }
}

/// The segment's records are written to the files again before these are synced: of pages that it could not write the
/// kernel tells once, to one of those who have the file open, and takes them for written then.
fn settle(dir: &Path, segments: Vec<Segment>) -> Left {
    let (mut left, mut failed) = (Vec::new(), None);
    for segment in segments {
        let settled = File::open(&segment.path)
            .and_then(|file| recovery::replay(dir, &file))
            .and_then(|_| fs::remove_file(&segment.path));
        if let Err(error) = settled {
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
        self.file.sync_data()
    }
}
