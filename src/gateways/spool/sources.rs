//! Where a reading's bytes come from: the volume, or memory if they are there still.

use std::fs::File;
use std::io::{self, BufReader, IoSliceMut, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use rustix::io::{ReadWriteFlags, preadv2};

use super::Run;
use super::writers::Opened;
use crate::domain::ids::{ReplicaId, SessionId};

/// Small records are read many at a time.
const BUFFER_BYTES: usize = 128 * 1024;
/// Nobody waits for a copy of so many bytes, and as many for the record that they end in; a larger one is made where it holds
/// up nobody else.
pub(super) const AT_ONCE_BYTES: usize = 64 * 1024;

/// Opens the files of runs.
pub(super) trait Source {
    /// What is read from.
    type File: Read + Seek;
    /// The file of `run`, at the file offset `position`.
    fn open(&self, session: SessionId, run: &Run, position: i64) -> io::Result<Self::File>;
}

/// The files below the spool directory. May wait for the volume.
#[derive(Debug)]
pub(super) struct OnVolume<'a>(pub &'a Path);

impl Source for OnVolume<'_> {
    type File = BufReader<File>;

    fn open(&self, session: SessionId, run: &Run, position: i64) -> io::Result<Self::File> {
        let mut file = File::open(self.0.join(session.to_string()).join(run.place.writer.to_string()))?;
        file.seek(SeekFrom::Start(position as u64))?;
        Ok(BufReader::with_capacity(BUFFER_BYTES, file))
    }
}

/// The file that this process has open for appending, as far as the kernel has its pages in memory. Where pages are missing the
/// reading ends early; the kernel may begin to read ahead, but nobody waits for it. Handing the reading of some chunks to another
/// thread and back costs more than the reading.
#[derive(Debug)]
pub(super) struct InMemory {
    pub writer: ReplicaId,
    pub opened: Arc<Opened>,
    /// How many bytes are wanted.
    pub length: usize,
}

impl Source for InMemory {
    type File = io::Cursor<Vec<u8>>;

    fn open(&self, _: SessionId, run: &Run, position: i64) -> io::Result<Self::File> {
        if run.place.writer != self.writer {
            return Err(io::ErrorKind::NotFound.into());
        }
        let rest = usize::try_from(run.place.record_end - position).unwrap_or_default();
        let mut bytes = vec![0; rest.min(self.length + AT_ONCE_BYTES)];
        let into = &mut [IoSliceMut::new(&mut bytes)];
        let read = preadv2(self.opened.file(), into, position as u64, ReadWriteFlags::NOWAIT)?;
        bytes.truncate(read);
        Ok(io::Cursor::new(bytes))
    }
}
