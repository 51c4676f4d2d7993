//! One segment: a file that is written from its beginning, settled, and written again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use uuid::Uuid;

use super::blocks::Blocks;
use super::entry::{Entries, Sound};
use super::recovery::{self, unless_gone};
use super::unsynced::{OpenedFiles, Unsynced};

/// Ends the name of a segment in which nothing is that anybody needs.
pub(super) const SPARE: &str = "spare";

/// A locked file. The lock tells others that its process lives, and ends with it.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    /// What holds the lock, and what is read from.
    file: File,
    /// The same for writing past the page cache, since a journal is hardly ever read; `None` if the file system cannot.
    direct: Option<File>,
    /// How often the file was begun anew.
    lap: u32,
    bytes: u64,
    /// What is in these bytes.
    entries: usize,
    files: OpenedFiles,
}

impl Segment {
    /// An empty one in a file of its own, which is locked and has its name for good.
    pub fn new(path: PathBuf, file: File) -> Self {
        let direct = File::options().write(true).custom_flags(OFlag::O_DIRECT.bits()).open(&path).ok();
        Segment { path, file, direct, lap: 0, bytes: 0, entries: 0, files: OpenedFiles::default() }
    }

    /// Bytes in it, all of them durable.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file that holds the lock.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Appends records and syncs. After an error it takes no more.
    pub fn append(&mut self, records: &[Unsynced], blocks: &mut Blocks) -> io::Result<()> {
        records.iter().for_each(|record| self.files.add(record));
        let bytes = blocks.gather(records, self.lap);
        self.write(bytes)?;
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the segment was removed"));
        }
        self.bytes += bytes.len() as u64;
        self.entries += records.len();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(direct) = &self.direct {
            match direct.write_all_at(bytes, self.bytes) {
                // The volume wants other boundaries, or nothing of the kind.
                Err(error) if is_refusal(&error) => self.direct = None,
                written => return written.and_then(|()| direct.sync_data()),
            }
        }
        self.file.write_all_at(bytes, self.bytes)?;
        self.file.sync_data()
    }

    /// A file that is open since its records were written is synced. To any other these are written again: of a page that
    /// it could not write, the kernel tells nobody who opens the file after another has heard of it, and takes it for written.
    pub fn settle(&self, dir: &Path) -> io::Result<()> {
        let left = self.files.sync().in_place(dir);
        if !left.is_empty() {
            let mut entries = Entries::of(&self.file, self.bytes)?;
            let of_this_lap = |sound: &Sound| (sound.lap == self.lap).then(|| left.has(&sound.entry));
            let found = recovery::replay(dir, &mut entries, of_this_lap)?.entries;
            if found < self.entries {
                let told = format!("{} has {found} of {} entries", self.path.display(), self.entries);
                return Err(io::Error::other(told));
            }
        }
        Ok(())
    }

    /// Takes a settled one away.
    pub fn remove(&self) -> io::Result<()> {
        unless_gone(fs::remove_file(&self.path)).map(drop)
    }

    /// A settled one keeps its file. Should the machine lose its power before the new name is durable, what is in it is
    /// written to the files once more, which have it already.
    pub fn spare(&mut self) -> io::Result<()> {
        self.rename(self.path.with_extension(SPARE))?;
        (self.bytes, self.entries) = (0, 0);
        self.files = OpenedFiles::default();
        Ok(())
    }

    /// A spare one is written from its beginning, under another name, which the caller makes durable. What it has still is of
    /// another lap.
    pub fn begin_again(&mut self) -> io::Result<()> {
        self.rename(self.path.with_file_name(Uuid::new_v4().to_string()))?;
        self.lap += 1;
        Ok(())
    }

    fn rename(&mut self, path: PathBuf) -> io::Result<()> {
        fs::rename(&self.path, &path)?;
        self.path = path;
        Ok(())
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Three bytes are no block: most file systems refuse them.
    #[test]
    fn what_may_not_be_written_directly_is_written_as_any_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        let mut segment = Segment::new(path.clone(), file);
        segment.write(b"abc").unwrap();
        assert_eq!(fs::read(path).unwrap(), b"abc");
    }
}
