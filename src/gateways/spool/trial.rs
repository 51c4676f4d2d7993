//! A trial of a spool directory: bytes are written and made durable where no name leads to them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use tokio::time::Instant;
use uuid::Uuid;

/// As a small chunk.
const BYTES: [u8; 8192] = [0; 8192];

/// Writes, syncs and forgets a few bytes in `dir`; how long writing and syncing took.
pub(super) fn write(dir: &Path) -> io::Result<Duration> {
    match nameless(dir) {
        Ok(file) => time(file),
        // Network and older file systems know no nameless files.
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::IsADirectory) => {
            named(dir)
        }
        Err(error) => Err(error),
    }
}

fn nameless(dir: &Path) -> io::Result<File> {
    File::options().write(true).mode(0o600).custom_flags(OFlag::O_TMPFILE.bits()).open(dir)
}

/// A file that is there for a moment; the spool's own listing skips names that are no session's.
fn named(dir: &Path) -> io::Result<Duration> {
    let path = dir.join(format!(".trial-{}", Uuid::new_v4()));
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    let took = time(file);
    fs::remove_file(&path)?;
    took
}

fn time(mut file: File) -> io::Result<Duration> {
    let begun = Instant::now();
    file.write_all(&BYTES)?;
    file.sync_data()?;
    Ok(begun.elapsed())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_trial_leaves_nothing_behind_either_way() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        named(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_is_not_there_or_takes_nothing_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(write(&dir.path().join("absent")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(write(Path::new("/proc")).is_err());
    }
}
