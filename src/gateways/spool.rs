//! The spool: append-only files, each with one session and one writer, on a volume that all replicas share.

mod cursors;
mod file;
mod folder;
mod journal;
pub mod open_files;
mod reader;
pub mod record;
mod sources;
mod trial;
mod turns;
pub mod volume;
mod writers;

use async_trait::async_trait;
use bytes::Bytes;

use crate::domain::chunk::ChunkFacts;
use crate::domain::ids::SessionId;
use crate::domain::session::Admission;
use crate::fault::{Classified, Fault};

pub use crate::domain::run::{RecordPlace, Run};
pub use file::FileSpool;
pub use folder::{FolderSize, folder_size};

/// Why bytes were not written or read.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The volume is full: consuming pauses, feeding frees it.
    #[error("spool volume is full: {0}")]
    Full(String),
    /// The volume is away, read-only or failing.
    #[error("spool: {0}")]
    Io(String),
    /// The bytes are not what was committed: too short, or their checksum differs.
    #[error("spool is damaged: {0}")]
    Damaged(String),
    /// The directory belongs to another installation, or cannot be used at all.
    #[error("spool: {0}")]
    Foreign(String),
}

impl Classified for SpoolError {
    fn fault(&self) -> Fault {
        match self {
            SpoolError::Full(_) | SpoolError::Io(_) => Fault::Transient,
            SpoolError::Damaged(_) => Fault::Poison,
            SpoolError::Foreign(_) => Fault::Fatal,
        }
    }
}

/// A chunk whose bytes are durable. Only a spool makes it, from an admission: nothing else can be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    admission: Admission,
    place: RecordPlace,
}

impl Stored {
    /// For spools: the admitted bytes are durable at `place`.
    pub fn new(admission: Admission, place: RecordPlace) -> Self {
        Stored { admission, place }
    }

    /// The chunk's facts.
    pub fn facts(&self) -> ChunkFacts {
        self.admission.facts()
    }

    /// The admission it was stored under.
    pub fn admission(&self) -> Admission {
        self.admission
    }

    /// Where its record lies.
    pub fn place(&self) -> RecordPlace {
        self.place
    }
}

/// How full the spool's volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    /// Bytes of the whole volume.
    pub total: u64,
    /// Bytes that can still be written.
    pub free: u64,
}

/// Holds the bytes of sessions from their first chunk until they are distributed.
#[async_trait]
pub trait Spool: Send + Sync {
    /// Appends one record and waits until it is durable, the directory entry of a new file included.
    /// After a failed or short append the file is never written again; the next append begins another.
    /// Appends to different sessions run concurrently; the caller orders those of one session.
    async fn append(&self, admission: Admission, body: Bytes) -> Result<Stored, SpoolError>;

    /// Reads the bytes `[from, from + length)` of the uploaded file out of `runs`, every touched record's checksum
    /// verified. `runs` are sorted and cover the range. A short read or a mismatch is `Damaged`.
    async fn read(
        &self,
        session: SessionId,
        runs: &[Run],
        from: i64,
        length: usize,
    ) -> Result<Bytes, SpoolError>;

    /// Closes what is kept open of a session here; its bytes stay.
    async fn close(&self, session: SessionId);

    /// Removes a session's folder with all writers' files. Removing what is not there succeeds.
    async fn remove(&self, session: SessionId) -> Result<(), SpoolError>;

    /// Sessions that have a folder, at most `limit`, after `after` in id order; foreign names are skipped.
    async fn folders(&self, after: Option<SessionId>, limit: usize) -> Result<Vec<SessionId>, SpoolError>;

    /// Waits until each session's file is durable by itself, so that the next start has nothing to recover.
    async fn settle(&self) -> Result<(), SpoolError> {
        Ok(())
    }

    /// Makes the files whole of which a machine that lost its power forgot something that was stored.
    async fn recover(&self) -> Result<(), SpoolError> {
        Ok(())
    }

    /// The marker in the spool directory: `None` in an empty directory.
    async fn marker(&self) -> Result<Option<uuid::Uuid>, SpoolError>;

    /// Writes the marker into an empty directory, durable.
    async fn set_marker(&self, spool_id: uuid::Uuid) -> Result<(), SpoolError>;

    /// How full the volume is.
    async fn volume(&self) -> Result<Volume, SpoolError>;
}
