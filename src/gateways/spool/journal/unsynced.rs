//! Records that stand unsynced in their sessions' files, and how these files are made durable.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Weak;

use bytes::Bytes;

use super::entry::Entry;
use crate::domain::ids::{ReplicaId, SessionId};
use crate::gateways::spool::record::HEADER_BYTES;
use crate::gateways::spool::writers::{Opened, Writer};

/// A record that only the journal will make durable for now.
pub(super) struct Unsynced {
    /// Where it stands.
    pub entry: Entry,
    /// What stands before the body there.
    pub header: [u8; HEADER_BYTES],
    /// The chunk.
    pub body: Bytes,
    /// Who wrote it.
    pub writer: Writer,
}

/// The sessions' files that a segment has records of, as they were open when these were written.
#[derive(Debug, Default)]
pub(super) struct OpenedFiles(HashMap<(SessionId, ReplicaId), Weak<Opened>>);

impl OpenedFiles {
    /// A file that is opened again is known as it was opened first: later it does not hear of what failed before.
    pub fn add(&mut self, Unsynced { entry, writer, .. }: &Unsynced) {
        self.0.entry((entry.session, entry.writer)).or_insert_with(|| writer.opened());
    }

    /// Syncs those that are still open.
    pub fn sync(&self) -> Left {
        let synced = |opened: &Weak<Opened>| opened.upgrade().is_some_and(|opened| opened.sync().is_ok());
        Left(self.0.iter().filter(|(_, opened)| !synced(opened)).map(|(names, _)| *names).collect())
    }
}

/// Files whose records are not durable by a sync.
#[derive(Debug)]
pub(super) struct Left(HashSet<(SessionId, ReplicaId)>);

impl Left {
    /// Those that are there: nobody needs the records of a file that was removed.
    pub fn in_place(mut self, dir: &Path) -> Self {
        let is_gone =
            |path: &Path| fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        self.0.retain(|(session, writer)| !is_gone(&Entry::path(dir, *session, *writer)));
        self
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the record is in one of them.
    pub fn has(&self, entry: &Entry) -> bool {
        self.0.contains(&(entry.session, entry.writer))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::File;
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_file_that_is_open_and_cannot_be_synced_is_left() {
        let entry = |number| Entry {
            session: SessionId(Uuid::from_u128(number)),
            writer: ReplicaId(Uuid::from_u128(number)),
            position: 0,
        };
        // A device that cannot be synced, and a file that can.
        let bad = Opened::new(File::options().write(true).open("/dev/null").unwrap());
        let good = Opened::new(tempfile::tempfile().unwrap());
        let mut files = OpenedFiles::default();
        for (number, opened) in [(1, &bad), (2, &good)] {
            files.0.insert((entry(number).session, entry(number).writer), Arc::downgrade(opened));
        }
        let left = files.sync();
        assert!(left.has(&entry(1)) && !left.has(&entry(2)), "{left:?}");
    }
}
