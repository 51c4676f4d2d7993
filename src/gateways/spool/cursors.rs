//! Where each session's reading goes on.

use std::collections::HashMap;

use bytes::Bytes;

use super::reader::Cursor;
use crate::domain::ids::SessionId;

/// Sessions whose place of reading is remembered.
const MAX_CURSORS: usize = 8192;
/// Bytes of half-read records that are kept for the next block, all sessions together.
const MAX_KEPT_BYTES: usize = 64 << 20;

/// Where each session's reading goes on; a lost cursor costs a walk over headers, nothing else.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    of: HashMap<SessionId, Cursor>,
    kept_bytes: usize,
}

impl Cursors {
    /// Takes out a session's cursor.
    pub fn take(&mut self, session: SessionId) -> Option<Cursor> {
        let cursor = self.of.remove(&session)?;
        self.kept_bytes -= kept_bytes(&cursor);
        Some(cursor)
    }

    /// Puts it back, without the half-read record if too many bytes are kept of those.
    pub fn put(&mut self, session: SessionId, mut cursor: Cursor) {
        self.take(session);
        if self.kept_bytes + kept_bytes(&cursor) > MAX_KEPT_BYTES {
            cursor.body = None;
        }
        if self.of.len() >= MAX_CURSORS
            && let Some(other) = self.of.keys().next().copied()
        {
            self.take(other);
        }
        self.kept_bytes += kept_bytes(&cursor);
        self.of.insert(session, cursor);
    }
}

fn kept_bytes(cursor: &Cursor) -> usize {
    cursor.body.as_ref().map_or(0, Bytes::len)
}
