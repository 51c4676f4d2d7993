//! What a process left behind that did not settle its journal: written into the files again.

use std::collections::{HashMap, hash_map};
use std::fs::{self, File, TryLockError};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::FOLDER;
use super::entry::{ENTRY_BYTES, Entry};
use crate::gateways::spool::record::{HEADER_BYTES, Header};

/// What was found and mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::gateways::spool) struct Recovered {
    /// Segments that nobody holds any more.
    pub segments: usize,
    /// Records that stand in their files now.
    pub records: usize,
}

/// Writes every record of the segments in the spool directory `dir` whose processes are gone to its place and removes the
/// segments. Records of files that are gone meanwhile are passed over. Nobody appends to the files of a process that is
/// gone, and the same bytes at the same place do no harm to who reads them, so several may do this at once.
pub(in crate::gateways::spool) fn recover(dir: &Path) -> io::Result<Recovered> {
    let mut recovered = Recovered::default();
    let folder = match fs::read_dir(dir.join(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(recovered),
        folder => folder?,
    };
    for segment in folder {
        let segment = segment?;
        if segment.file_name().to_str().is_none_or(|name| Uuid::try_parse(name).is_err()) {
            continue;
        }
        let path = segment.path();
        if let Some(segment) = abandoned(&path)? {
            recovered.records += replay(dir, &segment)?;
            recovered.segments += 1;
            gone(fs::remove_file(&path))?;
        }
    }
    Ok(recovered)
}

/// The segment, locked, if its process is gone.
fn abandoned(path: &Path) -> io::Result<Option<File>> {
    let segment = match File::options().read(true).write(true).open(path) {
        // Settled meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        segment => segment?,
    };
    match segment.try_lock() {
        Ok(()) => Ok(Some(segment)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes and syncs all records up to the first that is torn: behind it nothing was ever acknowledged.
pub(super) fn replay(dir: &Path, segment: &File) -> io::Result<usize> {
    let mut files = Files::default();
    let mut records = 0;
    let mut reader = BufReader::with_capacity(1 << 20, segment);
    let mut record = Vec::new();
    while let Some(entry) = next(&mut reader, &mut record)? {
        let path = dir.join(entry.session.to_string()).join(entry.writer.to_string());
        if let Some(file) = files.open(path)? {
            file.write_all_at(&record, entry.position as u64)?;
            records += 1;
        }
    }
    files.sync()?;
    Ok(records)
}

/// The files that are written to. A file is made durable with its first record, so one that is missing was removed.
#[derive(Default)]
struct Files(HashMap<PathBuf, Option<File>>);

impl Files {
    /// Open at once at most; all of them are synced before others are opened.
    const MOST: usize = 512;

    fn open(&mut self, path: PathBuf) -> io::Result<Option<&File>> {
        if self.0.len() >= Self::MOST && !self.0.contains_key(&path) {
            self.sync()?;
        }
        let file = match self.0.entry(path) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(new) => {
                let file = match File::options().write(true).open(new.key()) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    file => Some(file?),
                };
                new.insert(file)
            }
        };
        Ok(file.as_ref())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.drain().filter_map(|(_, file)| file).try_for_each(|file| file.sync_data())
    }
}

/// The next entry, its record in `record`; `None` at the end or where it is torn.
fn next(reader: &mut impl Read, record: &mut Vec<u8>) -> io::Result<Option<Entry>> {
    let mut head = [0; ENTRY_BYTES + HEADER_BYTES];
    if let Err(error) = reader.read_exact(&mut head) {
        return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
    }
    let Some((entry, header)) = Entry::decode(&head) else { return Ok(None) };
    record.clear();
    record.extend_from_slice(&head[ENTRY_BYTES..]);
    reader.take(u64::from(header.length)).read_to_end(record)?;
    Ok(whole(&entry, &header, &record[HEADER_BYTES..]).then_some(entry))
}

fn whole(entry: &Entry, header: &Header, body: &[u8]) -> bool {
    body.len() == header.length as usize && header.fits(entry.names(), body)
}
