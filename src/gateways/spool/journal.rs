//! Small chunks of all sessions made durable together: one sync of the journal for what would be one sync each.
//!
//! A chunk goes into its session's file as ever, and into the journal with whatever came at the same moment; the journal
//! is synced, the session's file is not. What a machine that lost its power forgot of the files is written again from the
//! journal ([`recover`]), before anything is fed. A segment is removed once the files hold what it holds.

mod entry;
mod recovery;
mod segment;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::oneshot;

use self::entry::Entry;
pub(super) use self::recovery::{Recovered, recover};
use self::segment::Segments;
use super::file::locked;
use super::writers::{Appended, Writer};
use crate::domain::ids::SessionId;

/// The folder of all replicas' segments in the spool directory.
const FOLDER: &str = "journal";
/// Chunks above this are synced in their own files: writing them twice costs more than a sync.
const MAX_BODY: usize = 64 << 10;
/// From so many appends at once on, or after a group of so many, a sync for all is cheaper than one for each.
const TOGETHER: usize = 3;
/// Bytes of bodies that are synced at once at most: what comes meanwhile goes together into the next sync.
const GROUP_BYTES: usize = 1 << 20;

/// A chunk that waits for its group.
#[derive(Debug)]
pub(super) struct Waiting {
    pub session: SessionId,
    pub writer: Writer,
    pub start: i64,
    pub body: Bytes,
}

/// One process's journal.
#[derive(Debug)]
pub(super) struct Journal {
    dir: PathBuf,
    appends: AtomicUsize,
    /// How many the last group had.
    grouped: AtomicUsize,
    has_room: AtomicBool,
    line: Mutex<Line>,
    segments: Mutex<Segments>,
}

/// A chunk, and who waits for it.
type Told = (Waiting, oneshot::Sender<Appended>);

/// Who waits to be written. One thread writes for all of them while there are any.
#[derive(Debug, Default)]
struct Line {
    waiting: Vec<Told>,
    led: bool,
}

/// An append under way, whichever way it goes.
pub(super) struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Journal {
    /// A journal in the spool directory `dir`, in segments of about `limit` bytes; with 0, none.
    pub fn new(dir: PathBuf, limit: u64) -> Self {
        let segments = Segments::new(dir.clone(), limit);
        let has_room = AtomicBool::new(segments.have_room());
        let (appends, grouped) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Journal { dir, appends, grouped, has_room, line: Mutex::default(), segments: Mutex::new(segments) }
    }

    /// Counts an append until the guard is dropped.
    pub fn enter(&self) -> UnderWay<'_> {
        self.appends.fetch_add(1, Ordering::Relaxed);
        UnderWay(&self.appends)
    }

    /// Whether a chunk of `bytes` is better off here than with a sync of its own.
    pub fn suits(&self, bytes: usize) -> bool {
        let together =
            self.appends.load(Ordering::Relaxed).max(self.grouped.load(Ordering::Relaxed)) >= TOGETHER;
        bytes <= MAX_BODY && together && self.has_room.load(Ordering::Relaxed)
    }

    /// Appends to the session's file and waits until the journal has it.
    pub async fn append(self: &Arc<Self>, one: Waiting) -> Appended {
        let (tell, answer) = oneshot::channel();
        let lead = {
            let mut line = locked(&self.line);
            line.waiting.push((one, tell));
            !std::mem::replace(&mut line.led, true)
        };
        if lead {
            let leader = Leader(self.clone());
            drop(tokio::task::spawn_blocking(move || leader.lead()));
        }
        answer.await.unwrap_or_else(|_| Err(io::Error::other("the journal's thread ended")))
    }

    /// Waits until the files themselves hold everything, and removes what the journal has of it.
    pub fn settle(&self) -> io::Result<()> {
        locked(&self.segments).settle()
    }

    fn write(&self, group: Vec<Told>) {
        self.grouped.store(group.len(), Ordering::Relaxed);
        let (mut entries, mut written) = (Vec::new(), Vec::new());
        for (one, tell) in group {
            match one.writer.written(&self.dir, one.session, one.start, &one.body) {
                Ok((writer, place, header)) => {
                    let entry =
                        Entry { session: one.session, writer: place.writer, position: place.position };
                    entry.encode(&header, &one.body, &mut entries);
                    written.push((writer, place, tell));
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        }
        let durable = self.sync(&entries);
        for (writer, place, tell) in written {
            let outcome = match &durable {
                Ok(()) => writer.linked().map(|writer| (writer, place)),
                Err(error) => Err(io::Error::new(error.kind(), format!("journal: {error}"))),
            };
            drop(tell.send(outcome));
        }
    }

    fn sync(&self, entries: &[u8]) -> io::Result<()> {
        let mut segments = locked(&self.segments);
        let appended = segments.append(entries);
        self.has_room.store(segments.have_room(), Ordering::Relaxed);
        appended
    }
}

/// The one thread that writes. However it ends, the next append finds that nobody leads.
struct Leader(Arc<Journal>);

impl Leader {
    fn lead(self) {
        while let Some(group) = self.group() {
            self.0.write(group);
        }
    }

    /// The next group; `None` when nobody waits, and whoever comes then leads.
    fn group(&self) -> Option<Vec<Told>> {
        let mut line = locked(&self.0.line);
        if line.waiting.is_empty() {
            line.led = false;
            return None;
        }
        let mut bytes = 0;
        let within = |(one, _): &&Told| {
            bytes += one.body.len();
            bytes <= GROUP_BYTES
        };
        let count = line.waiting.iter().take_while(within).count().max(1);
        Some(line.waiting.drain(..count).collect())
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *locked(&self.0.line) = Line::default();
        }
    }
}

#[cfg(test)]
mod tests;
