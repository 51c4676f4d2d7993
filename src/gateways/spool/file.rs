//! The spool on a file system: `<dir>/<session>/<writer>`, with `<dir>/spool-id` as its marker.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use super::cursors::Cursors;
use super::journal::{self, Journal, Waiting, Whose};
use super::reader::{Cursor, Reading};
use super::sources::{AT_ONCE_BYTES, OnVolume};
use super::trial;
use super::turns::Turns;
use super::volume;
use super::writers::{self, Writers};
use super::{Run, Spool, SpoolError, Stored, Volume};
use crate::domain::ids::SessionId;
use crate::domain::session::Admission;

/// The marker's name in the spool directory.
const MARKER: &str = "spool-id";
/// Files that are kept open for appending, unless it is said how many.
const MAX_OPEN: usize = 1024;
/// Pause between two looks into the journals for what files lack.
const RECOVER_PAUSE: Duration = Duration::from_secs(5);

/// A spool in a directory. Cheap to clone; clones share the open files.
#[derive(Debug, Clone)]
pub struct FileSpool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    writers: Mutex<Writers>,
    cursors: Mutex<Cursors>,
    turns: Turns,
    journal: Arc<Journal>,
    recovered: tokio::sync::Mutex<Option<Instant>>,
}

impl FileSpool {
    /// A spool in `dir`, which is created with the marker if it does not exist. Each chunk is synced in its own file.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self::with(dir, MAX_OPEN, 0)
    }

    /// The same with at most `max_open` files kept open for appending, and with a journal in segments of `journal_bytes`.
    pub fn with(dir: impl Into<PathBuf>, max_open: usize, journal_bytes: u64) -> Self {
        let (dir, writers) = (dir.into(), Mutex::new(Writers::new(max_open)));
        let journal = Arc::new(Journal::new(dir.clone(), journal_bytes));
        let (cursors, turns) = (Mutex::default(), Turns::new());
        let recovered = tokio::sync::Mutex::default();
        FileSpool { shared: Arc::new(Shared { dir, writers, cursors, turns, journal, recovered }) }
    }

    /// Runs `work` where it may block.
    async fn blocking<T, W>(&self, work: W) -> Result<T, SpoolError>
    where
        T: Send + 'static,
        W: FnOnce(&Path) -> Result<T, SpoolError> + Send + 'static,
    {
        let shared = self.shared.clone();
        let done = tokio::task::spawn_blocking(move || work(&shared.dir)).await;
        done.unwrap_or_else(|error| Err(SpoolError::Io(format!("the blocking task ended: {error}"))))
    }

    async fn read_from_volume(
        &self,
        session: SessionId,
        runs: &[Run],
        from: i64,
        length: usize,
        cursor: Option<Cursor>,
    ) -> Result<(Bytes, Option<Cursor>), SpoolError> {
        let runs = runs.to_vec();
        let read =
            move |dir: &Path| Reading { source: OnVolume(dir), session, from, length }.read(&runs, cursor);
        self.blocking(read).await
    }

    /// What this process stored a moment ago, if it lies in memory.
    fn read_from_memory(
        &self,
        session: SessionId,
        runs: &[Run],
        from: i64,
        length: usize,
        cursor: Option<&Cursor>,
    ) -> Option<(Bytes, Option<Cursor>)> {
        if length > AT_ONCE_BYTES {
            return None;
        }
        let source = locked(&self.shared.writers).open_file(session, length)?;
        Reading { source, session, from, length }.read(runs, cursor.cloned()).ok()
    }

    /// What is missing in a file may be in a journal. One at a time looks there and only now and then: all of them are gone
    /// through for it.
    async fn recover_files(&self) {
        let mut recovered = self.shared.recovered.lock().await;
        if recovered.is_some_and(|last| last.elapsed() < RECOVER_PAUSE) {
            return;
        }
        if let Err(error) = self.blocking(|dir| recover(dir, Whose::Everybodys)).await {
            tracing::warn!(%error, "the journals cannot be gone through for what a file lacks");
        }
        *recovered = Some(Instant::now());
    }

    /// Whether bytes can become durable in the directory, and how long a few take. Leaves nothing behind.
    ///
    /// # Errors
    /// What an append would meet.
    pub async fn try_out(&self) -> Result<Duration, SpoolError> {
        self.blocking(|dir| trial::write(dir).map_err(|error| sorted(&error))).await
    }
}

#[async_trait]
impl Spool for FileSpool {
    async fn append(&self, admission: Admission, body: Bytes) -> Result<Stored, SpoolError> {
        let facts = admission.facts();
        let _turn = self.shared.turns.take(body.len()).await;
        let journal = &self.shared.journal;
        let _under_way = journal.enter();
        let (session, start) = (facts.session, facts.start);
        let writer = locked(&self.shared.writers).take(session);
        let (writer, place) = match writer {
            Some(writer) if journal.suits(body.len()) => {
                let appended = journal.append(Waiting { session, writer, start, body }).await;
                appended.map_err(|error| sorted(&error))?
            }
            writer => {
                let journal = journal.clone();
                let append = move |dir: &Path| {
                    journal.look_for_room();
                    writers::append(dir, session, writer, start, &body).map_err(|error| sorted(&error))
                };
                self.blocking(append).await?
            }
        };
        locked(&self.shared.writers).put(session, writer);
        Ok(Stored::new(admission, place))
    }

    async fn read(
        &self,
        session: SessionId,
        runs: &[Run],
        from: i64,
        length: usize,
    ) -> Result<Bytes, SpoolError> {
        let cursor = locked(&self.shared.cursors).take(session);
        let (bytes, cursor) = match self.read_from_memory(session, runs, from, length, cursor.as_ref()) {
            Some(read) => read,
            None => match self.read_from_volume(session, runs, from, length, cursor).await {
                Err(SpoolError::Damaged(_)) => {
                    self.recover_files().await;
                    self.read_from_volume(session, runs, from, length, None).await?
                }
                read => read?,
            },
        };
        if let Some(cursor) = cursor {
            locked(&self.shared.cursors).put(session, cursor);
        }
        Ok(bytes)
    }

    async fn close(&self, session: SessionId) {
        locked(&self.shared.writers).take(session);
        locked(&self.shared.cursors).take(session);
    }

    async fn remove(&self, session: SessionId) -> Result<(), SpoolError> {
        self.close(session).await;
        self.blocking(move |dir| remove_folder(&dir.join(session.to_string()))).await
    }

    async fn folders(&self, after: Option<SessionId>, limit: usize) -> Result<Vec<SessionId>, SpoolError> {
        self.blocking(move |dir| list(dir, after, limit).map_err(|error| sorted(&error))).await
    }

    async fn settle(&self) -> Result<(), SpoolError> {
        self.shared.journal.settle().await.map_err(|error| sorted(&error))
    }

    async fn recover(&self) -> Result<(), SpoolError> {
        self.blocking(|dir| recover(dir, Whose::Abandoned)).await
    }

    async fn marker(&self) -> Result<Option<Uuid>, SpoolError> {
        self.blocking(read_marker).await
    }

    async fn set_marker(&self, spool_id: Uuid) -> Result<(), SpoolError> {
        self.blocking(move |dir| write_marker(dir, spool_id).map_err(|error| sorted(&error))).await
    }

    async fn volume(&self) -> Result<Volume, SpoolError> {
        self.blocking(volume::measure).await
    }
}

/// Writes what journals have and the files may lack.
fn recover(dir: &Path, whose: Whose) -> Result<(), SpoolError> {
    let journal::Recovered { segments, records, gaps } =
        journal::recover(dir, whose).map_err(|error| sorted(&error))?;
    if segments > 0 {
        tracing::info!(segments, records, gaps, "what journals had was written to the sessions' files");
    }
    Ok(())
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn sorted(error: &io::Error) -> SpoolError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SpoolError::Full(error.to_string()),
        _ => SpoolError::Io(error.to_string()),
    }
}

/// Another replica may be removing the same folder: what is gone meanwhile is as good as removed.
fn remove_folder(folder: &Path) -> Result<(), SpoolError> {
    const ATTEMPTS: usize = 3;
    let mut outcome = Ok(());
    for _ in 0..ATTEMPTS {
        match fs::remove_dir_all(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.exists() => return Ok(()),
            Err(error) => outcome = Err(sorted(&error)),
        }
    }
    outcome
}

fn list(dir: &Path, after: Option<SessionId>, limit: usize) -> io::Result<Vec<SessionId>> {
    let mut lowest = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        let Some(session) = session_named(&entry?.file_name()) else { continue };
        if after.is_none_or(|after| session > after) {
            lowest.insert(session);
        }
        if lowest.len() > limit {
            lowest.pop_last();
        }
    }
    Ok(lowest.into_iter().collect())
}

/// Only the canonical form counts: the folder of another spelling would not be found again by its id.
fn session_named(name: &std::ffi::OsStr) -> Option<SessionId> {
    let name = name.to_str()?;
    SessionId::parse(name.as_bytes()).filter(|session| session.to_string() == name)
}

fn read_marker(dir: &Path) -> Result<Option<Uuid>, SpoolError> {
    match fs::read_to_string(dir.join(MARKER)) {
        Ok(text) => match Uuid::try_parse(text.trim()) {
            Ok(id) => Ok(Some(id)),
            Err(_) => Err(SpoolError::Foreign(format!("{} holds no UUID", dir.join(MARKER).display()))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => unmarked(dir).map(|()| None),
        Err(error) => Err(sorted(&error)),
    }
}

fn unmarked(dir: &Path) -> Result<(), SpoolError> {
    match list(dir, None, 1) {
        Ok(sessions) if sessions.is_empty() => Ok(()),
        Ok(_) => Err(SpoolError::Foreign(format!("{} holds sessions but no {MARKER}", dir.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(sorted(&error)),
    }
}

/// Written beside and renamed: whoever reads the marker reads all of it.
fn write_marker(dir: &Path, spool_id: Uuid) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let draft = dir.join(format!("{MARKER}.{}", Uuid::new_v4()));
    let mut file = File::options().write(true).create_new(true).open(&draft)?;
    writeln!(file, "{spool_id}")?;
    file.sync_all()?;
    fs::rename(&draft, dir.join(MARKER))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests;
