//! Small chunks of all sessions made durable together: one sync of the journal for what would be one sync each.
//!
//! A chunk goes into its session's file as ever, and into the journal with whatever came at the same moment; the journal
//! is synced, the session's file is not. What a machine that lost its power forgot of the files is written again from the
//! journal ([`recover`]), before anything is fed. A segment is removed, or written again, once the files hold what it holds.

mod blocks;
mod entry;
mod recovery;
mod segment;
mod segments;
mod unsynced;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::oneshot;
use tracing::warn;

use self::entry::{Entry, MAX_BODY};
pub(super) use self::recovery::{Recovered, Whose, recover};
use self::segments::Segments;
use self::unsynced::Unsynced;
use super::file::locked;
use super::writers::{Appended, Writer};
use crate::domain::ids::SessionId;

/// The folder of all replicas' segments in the spool directory.
const FOLDER: &str = "journal";
/// Chunks above this are synced in their own files. No entry is larger, and beyond it nothing was measured.
const SMALL: usize = MAX_BODY;
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
        bytes <= SMALL && together && self.has_room.load(Ordering::Relaxed)
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
            let leader = Leader { journal: self.clone(), over: false };
            drop(tokio::task::spawn_blocking(move || leader.lead()));
        }
        answer.await.unwrap_or_else(|_| Err(io::Error::other("the journal's thread ended")))
    }

    /// For a chunk that goes its own way: there may be room again, since full segments are settled in the background.
    pub fn look_for_room(&self) {
        if self.has_room.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(mut segments) = self.segments.try_lock() {
            segments.begin_to_settle();
            self.has_room.store(segments.have_room(), Ordering::Relaxed);
        }
    }

    /// Waits until the files themselves hold everything, and removes what the journal has of it.
    ///
    /// # Errors
    /// Why something is left for the next start.
    pub async fn settle(&self) -> io::Result<()> {
        loop {
            let settling = locked(&self.segments).settle_rest()?;
            let Some((settled, begun_now)) = settling else { return Ok(()) };
            let left = settled.await;
            let outcome = locked(&self.segments).take_in(left.ok());
            if begun_now {
                outcome?;
            }
        }
    }

    fn write(&self, group: Vec<Told>) {
        self.grouped.store(group.len(), Ordering::Relaxed);
        let (mut written, mut told) = (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()));
        for (Waiting { session, writer, start, body }, tell) in group {
            match writer.written(&self.dir, session, start, &body) {
                Ok((writer, place, header)) => {
                    let entry = Entry { session, writer: place.writer, position: place.position };
                    written.push(Unsynced { entry, header, body, writer });
                    told.push((place, tell));
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        }
        let durable = written.is_empty() || self.sync(&written);
        for (Unsynced { writer, .. }, (place, tell)) in written.into_iter().zip(told) {
            let writer = if durable { writer.linked() } else { writer.synced() };
            drop(tell.send(writer.map(|writer| (writer, place))));
        }
    }

    /// Whether the journal has the records. Without it each chunk is synced in its own file, where it stands already.
    fn sync(&self, records: &[Unsynced]) -> bool {
        let mut segments = locked(&self.segments);
        let appended = segments.append(records);
        self.has_room.store(segments.have_room(), Ordering::Relaxed);
        if let Err(error) = &appended {
            warn!(%error, "the journal cannot be written, chunks are synced one by one for a while");
        }
        appended.is_ok()
    }
}

/// The one thread that writes. However it ends, run or not, the next append finds that nobody leads.
struct Leader {
    journal: Arc<Journal>,
    /// Somebody else may lead by now.
    over: bool,
}

impl Leader {
    fn lead(mut self) {
        while let Some(group) = self.group() {
            self.journal.write(group);
        }
    }

    /// The next group; `None` when nobody waits, and whoever comes then leads.
    fn group(&mut self) -> Option<Vec<Told>> {
        let mut line = locked(&self.journal.line);
        if line.waiting.is_empty() {
            line.led = false;
            self.over = true;
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
        if !self.over {
            *locked(&self.journal.line) = Line::default();
        }
    }
}

#[cfg(test)]
mod tests;
