//! What a process left behind that did not settle its journal: written into the files again.

use std::collections::{HashMap, hash_map};
use std::ffi::OsStr;
use std::fs::{self, DirEntry, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::FOLDER;
use super::entry::{Entries, Entry, Sound, is_of_another_version};
use super::segment::SPARE;
use crate::gateways::spool::volume;

/// Whose segments are gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateways::spool) enum Whose {
    /// Those of processes that are gone. They are removed.
    Abandoned,
    /// Those of living ones too: the kernel may have lost what it was to write. These are left.
    Everybodys,
}

/// What was found and mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::gateways::spool) struct Recovered {
    /// Segments that were gone through.
    pub segments: usize,
    /// Records that stand in their files now.
    pub records: usize,
    /// Places before a segment's end at which no entry could be read.
    pub gaps: usize,
}

/// What one segment had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Replayed {
    /// Entries that were sought and found.
    pub entries: usize,
    /// Records that stand in their files now.
    pub records: usize,
    /// Places before the last entry at which none could be read.
    pub gaps: usize,
}

/// Writes every record of the segments in the spool directory `dir` to its place. Who comes while another is at it waits for
/// it: whoever returns from here finds the files whole. Records of files that are gone meanwhile are passed over. The same
/// bytes at the same place do no harm to who reads or appends there.
///
/// # Errors
/// The first one; what it is about is left, all else is done.
pub(in crate::gateways::spool) fn recover(dir: &Path, whose: Whose) -> io::Result<Recovered> {
    let mut recovered = Recovered::default();
    let folder = dir.join(FOLDER);
    let Some(one_at_a_time) = unless_gone(File::open(&folder))? else { return Ok(recovered) };
    // Locks of hosts that share a volume may not meet each other, and there is no journal there.
    if !volume::of_one_kernel(dir).map_err(io::Error::other)? {
        return Ok(recovered);
    }
    one_at_a_time.lock()?;
    let mut outcome = Ok(());
    for segment in fs::read_dir(&folder)? {
        let recovered = segment.and_then(|segment| recover_segment(dir, &segment, whose, &mut recovered));
        outcome = outcome.and(recovered);
    }
    outcome.map(|()| recovered)
}

fn recover_segment(dir: &Path, found: &DirEntry, whose: Whose, recovered: &mut Recovered) -> io::Result<()> {
    let path = found.path();
    let spare = path.extension().is_some_and(|extension| extension == SPARE);
    let name = if spare { path.file_stem() } else { path.file_name() };
    if name.and_then(OsStr::to_str).is_none_or(|name| Uuid::try_parse(name).is_err()) {
        return Ok(());
    }
    // One that is not there was settled meanwhile.
    let Some(segment) = unless_gone(File::open(&path))? else { return Ok(()) };
    let abandoned = match segment.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(error)) => return Err(error),
    };
    if !abandoned && whose == Whose::Abandoned {
        return Ok(());
    }
    if spare {
        return if abandoned { unless_gone(fs::remove_file(&path)).map(drop) } else { Ok(()) };
    }
    let replayed = replay(dir, &mut Entries::of(&segment, u64::MAX)?, |_| Some(true))?;
    if replayed.entries == 0 && is_foreign(&segment) {
        let told = format!("{} is of another version, which has to settle it", path.display());
        return Err(io::Error::new(io::ErrorKind::Unsupported, told));
    }
    if abandoned {
        unless_gone(fs::remove_file(&path))?;
    }
    recovered.segments += 1;
    recovered.records += replayed.records;
    recovered.gaps += replayed.gaps;
    Ok(())
}

/// What is there, or `None`.
pub(super) fn unless_gone<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(Some),
    }
}

fn is_foreign(segment: &File) -> bool {
    let mut beginning = [0; 4];
    segment.read_exact_at(&mut beginning, 0).is_ok() && is_of_another_version(&beginning)
}

/// Goes through the entries that are `sought`, and writes and syncs their records if that is what it says of them.
///
/// # Errors
/// The first one, after all else is done.
pub(super) fn replay(
    dir: &Path,
    entries: &mut Entries<'_>,
    sought: impl Fn(&Sound) -> Option<bool>,
) -> io::Result<Replayed> {
    let (mut files, mut replayed, mut outcome) = (Files::default(), Replayed::default(), Ok(()));
    loop {
        let (sound, record) = match entries.advance() {
            Ok(Some(found)) => found,
            Ok(None) => break,
            Err(error) => {
                outcome = outcome.and(Err(error));
                break;
            }
        };
        let Some(wanted) = sought(&sound) else { continue };
        replayed.entries += 1;
        match if wanted { files.write(dir, &sound.entry, record) } else { Ok(0) } {
            Ok(count) => replayed.records += count,
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    outcome.and(files.sync())?;
    Ok(Replayed { gaps: entries.gaps(), ..replayed })
}

/// The files that are written to. A file is made durable with its first record, so one that is missing was removed.
#[derive(Default)]
struct Files(HashMap<PathBuf, Option<File>>);

impl Files {
    /// Open at once at most; all of them are synced before others are opened.
    const MOST: usize = 512;

    /// Writes a record to its place; says how many that were, none in a file that was removed.
    fn write(&mut self, dir: &Path, entry: &Entry, record: &[u8]) -> io::Result<usize> {
        let Some(file) = self.open(Entry::path(dir, entry.session, entry.writer))? else { return Ok(0) };
        file.write_all_at(record, entry.position as u64).map(|()| 1)
    }

    fn open(&mut self, path: PathBuf) -> io::Result<Option<&File>> {
        if self.0.len() >= Self::MOST && !self.0.contains_key(&path) {
            self.sync()?;
        }
        let file = match self.0.entry(path) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(new) => {
                let file = unless_gone(File::options().write(true).open(new.key()))?;
                new.insert(file)
            }
        };
        Ok(file.as_ref())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut outcome = Ok(());
        for file in self.0.drain().filter_map(|(_, file)| file) {
            outcome = outcome.and(file.sync_data());
        }
        outcome
    }
}
