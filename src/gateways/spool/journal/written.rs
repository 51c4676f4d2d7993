//! Records of which the journal has what their sessions' files may lack, and how these are made durable.

use std::collections::{HashMap, HashSet};
use std::io::IoSlice;
use std::sync::Weak;

use bytes::Bytes;

use super::entry::HEAD_BYTES;
use crate::domain::ids::{ReplicaId, SessionId};
use crate::gateways::spool::writers::{Opened, Writer};

/// A record that stands in its session's file and is not durable yet.
pub(super) struct Written {
    /// Whose.
    pub session: SessionId,
    /// What stands before the body in the segment.
    pub head: [u8; HEAD_BYTES],
    /// The chunk.
    pub body: Bytes,
    /// Who wrote it.
    pub writer: Writer,
}

impl Written {
    /// What stands in the segment.
    pub fn parts(&self) -> [IoSlice<'_>; 2] {
        [IoSlice::new(&self.head), IoSlice::new(&self.body)]
    }
}

/// The sessions' files that a segment has records of, as they were open when these were written.
#[derive(Debug, Default)]
pub(super) struct Files(HashMap<(SessionId, ReplicaId), Weak<Opened>>);

impl Files {
    /// A file that is closed and opened again counts as it was open first: what was written then is lost to it.
    pub fn add(&mut self, Written { session, writer, .. }: &Written) {
        self.0.entry((*session, writer.id())).or_insert_with(|| writer.opened());
    }

    /// Syncs those that are still open; says whose records are not durable by that.
    pub fn sync(&self) -> HashSet<(SessionId, ReplicaId)> {
        let synced = |opened: &Weak<Opened>| opened.upgrade().is_some_and(|opened| opened.sync().is_ok());
        self.0.iter().filter(|(_, opened)| !synced(opened)).map(|(names, _)| *names).collect()
    }
}
