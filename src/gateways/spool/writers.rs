//! The files that this process appends to: at most one per session, few of them open.
//!
//! A writer is taken out for an append and put back only when the append succeeded. So a failed, an abandoned and a
//! concurrent append all end the same way: the next one finds nothing and begins another file.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use uuid::Uuid;

use super::RecordPlace;
use super::file::locked;
use super::record::{HEADER_BYTES, Header, Names};
use super::sources::InMemory;
use crate::domain::ids::{ReplicaId, SessionId};

/// One file that only this process appends to.
#[derive(Debug)]
pub(super) struct Writer {
    id: ReplicaId,
    end: i64,
    file: Option<Arc<Opened>>,
}

/// A file that is open for appending. As long as it is, the kernel tells of everything that it could not write, but only
/// once: whoever syncs later hears of it here.
#[derive(Debug)]
pub(super) struct Opened {
    file: File,
    /// Held during a sync: of two at once the kernel tells only one.
    failure: Mutex<Option<io::ErrorKind>>,
}

impl Opened {
    /// A file that was opened just now.
    pub fn new(file: File) -> Arc<Self> {
        Arc::new(Opened { file, failure: Mutex::default() })
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Waits until everything that was written since the file was opened is durable.
    ///
    /// # Errors
    /// That it is not, from the first failure on for ever.
    pub fn sync(&self) -> io::Result<()> {
        let mut failure = locked(&self.failure);
        if let Some(kind) = *failure {
            return Err(io::Error::new(kind, "an earlier sync of this file failed"));
        }
        let synced = self.file.sync_data();
        *failure = synced.as_ref().err().map(io::Error::kind);
        synced
    }
}

/// An append; if it failed, the writer is lost with it.
pub(super) type Appended = io::Result<(Writer, RecordPlace)>;

/// A record that stands in its file: the writer, where it is, and its header.
pub(super) type Written = (Writer, RecordPlace, [u8; HEADER_BYTES]);

/// Appends one record to the session's file, or to a new one if there is no `writer`, and waits until it is durable.
pub(super) fn append(
    dir: &Path,
    session: SessionId,
    writer: Option<Writer>,
    start: i64,
    body: &[u8],
) -> Appended {
    let folder = dir.join(session.to_string());
    if let Some(writer) = writer.and_then(|writer| writer.reopened(&folder)) {
        return writer.extended(session, start, body);
    }
    let (writer, path) = create(dir, &folder)?;
    let appended = writer.extended(session, start, body).and_then(|appended| {
        // A new name is durable only with its folder, and so is a new folder.
        File::open(&folder)?.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(appended)
    });
    if appended.is_err() {
        // Nothing in it was ever committed; on a full volume the space is needed.
        let _ = fs::remove_file(path);
    }
    appended
}

fn create(dir: &Path, folder: &Path) -> io::Result<(Writer, PathBuf)> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(named(error, dir)),
        Ok(()) | Err(_) => {}
    }
    let id = ReplicaId(Uuid::new_v4());
    let path = folder.join(id.to_string());
    let options = &mut File::options();
    let file = options.read(true).write(true).create_new(true).open(&path);
    let file = file.map_err(|error| named(error, &path))?;
    Ok((Writer { id, end: 0, file: Some(Opened::new(file)) }, path))
}

fn named(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl Writer {
    /// The writer with its file open, or `None` if the file is not exactly as this process left it.
    fn reopened(self, folder: &Path) -> Option<Self> {
        if self.file.is_some() {
            return Some(self);
        }
        let mut file = File::options().read(true).write(true).open(folder.join(self.id.to_string())).ok()?;
        let intact = i64::try_from(file.metadata().ok()?.len()).ok()? == self.end;
        let at_end = file.seek(SeekFrom::End(0)).ok()?;
        (intact && at_end == self.end as u64).then(|| Writer { file: Some(Opened::new(file)), ..self })
    }

    fn extended(self, session: SessionId, start: i64, body: &[u8]) -> Appended {
        let (writer, place, _) = self.put_down(session, start, body)?;
        Ok((writer.synced()?, place))
    }

    /// The writer, everything in its file durable.
    pub fn synced(self) -> io::Result<Self> {
        if let Some(file) = &self.file {
            file.sync()?;
        }
        self.linked()
    }

    /// Appends one record to the session's file in the spool directory `dir`. It is durable when somebody has seen to it.
    pub fn written(self, dir: &Path, session: SessionId, start: i64, body: &[u8]) -> io::Result<Written> {
        let Some(writer) = self.reopened(&dir.join(session.to_string())) else {
            return Err(io::Error::other("the session's file is not as this process left it"));
        };
        writer.put_down(session, start, body)
    }

    fn put_down(self, session: SessionId, start: i64, body: &[u8]) -> io::Result<Written> {
        let Writer { id, end, file: Some(file) } = self else {
            return Err(io::Error::other("the writer's file is closed"));
        };
        let length = u32::try_from(body.len()).map_err(|_| io::Error::other("a chunk above 4 GiB"))?;
        let header = Header::of(Names { session, writer: id }, start, length, body);
        let encoded = header.encode();
        write_both(&file.file, &encoded, body)?;
        let place = RecordPlace { writer: id, position: end, record_end: end + header.record_bytes() };
        Ok((Writer { id, end: place.record_end, file: Some(file) }, place, encoded))
    }

    /// Its file, for as long as somebody has it open.
    pub fn opened(&self) -> Weak<Opened> {
        self.file.as_ref().map_or_else(Weak::new, Arc::downgrade)
    }

    /// The writer, if its file still has a name.
    pub fn linked(self) -> io::Result<Self> {
        match &self.file {
            Some(opened) if opened.file.metadata()?.nlink() > 0 => Ok(self),
            Some(_) | None => {
                Err(io::Error::new(io::ErrorKind::NotFound, "the session's folder was removed meanwhile"))
            }
        }
    }
}

/// Usually one call of the system: the body is not copied to stand behind its header.
fn write_both(mut file: &File, header: &[u8; HEADER_BYTES], body: &[u8]) -> io::Result<()> {
    let written = loop {
        match file.write_vectored(&[IoSlice::new(header), IoSlice::new(body)]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    file.write_all(&header[written.min(HEADER_BYTES)..])?;
    file.write_all(&body[written.saturating_sub(HEADER_BYTES)..])
}

/// The writers that are not in use, by session; the least recently used ones are closed, then forgotten.
#[derive(Debug)]
pub(super) struct Writers {
    slots: HashMap<SessionId, (u64, Writer)>,
    open: BTreeMap<u64, SessionId>,
    closed: BTreeMap<u64, SessionId>,
    clock: u64,
    max_open: usize,
}

impl Writers {
    /// Closed writers remembered at most, about 100 bytes each; beyond them a session begins another file.
    const MAX_CLOSED: usize = 65_536;

    /// Keeps at most `max_open` files open.
    pub fn new(max_open: usize) -> Self {
        Writers { slots: HashMap::new(), open: BTreeMap::new(), closed: BTreeMap::new(), clock: 0, max_open }
    }

    /// Takes out a session's writer, if there is one that is not in use.
    pub fn take(&mut self, session: SessionId) -> Option<Writer> {
        let (used, writer) = self.slots.remove(&session)?;
        self.open.remove(&used);
        self.closed.remove(&used);
        Some(writer)
    }

    /// A session's file for reading `length` bytes, if it is open and nobody appends to it just now.
    pub fn open_file(&self, session: SessionId, length: usize) -> Option<InMemory> {
        let (_, writer) = self.slots.get(&session)?;
        Some(InMemory { writer: writer.id, opened: writer.file.clone()?, length })
    }

    /// Puts a writer back after a successful append.
    pub fn put(&mut self, session: SessionId, writer: Writer) {
        self.take(session);
        self.clock += 1;
        self.open.insert(self.clock, session);
        self.slots.insert(session, (self.clock, writer));
        self.trim();
    }

    fn trim(&mut self) {
        while self.open.len() > self.max_open
            && let Some((used, session)) = self.open.pop_first()
        {
            if let Some((_, writer)) = self.slots.get_mut(&session) {
                writer.file = None;
            }
            self.closed.insert(used, session);
        }
        while self.closed.len() > Self::MAX_CLOSED
            && let Some((_, session)) = self.closed.pop_first()
        {
            self.slots.remove(&session);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_failure_of_a_sync_is_told_to_whoever_syncs_later_too() {
        // A device that cannot be synced.
        let opened = Opened::new(File::options().write(true).open("/dev/null").unwrap());
        let first = opened.sync().unwrap_err();
        assert!(first.raw_os_error().is_some(), "the kernel's: {first}");
        let second = opened.sync().unwrap_err();
        assert!(second.raw_os_error().is_none(), "what is remembered: {second}");
        assert_eq!(first.kind(), second.kind());
    }
}
