//! How one entry lies in a segment: whose record it is and where it belongs, then the record as in its own file.
//!
//! ```text
//! magic and version (4) | session (16) | writer (16) | position (8) | CRC-32C of all this (4) | record
//! ```
//! All numbers are big-endian. The record has a checksum of its own, which the names go into.

use bytes::Buf;
use uuid::Uuid;

use super::super::record::{HEADER_BYTES, Header, Names};
use crate::domain::ids::{ReplicaId, SessionId};

/// Bytes before the record.
pub const ENTRY_BYTES: usize = 48;
/// What the checksum is over.
const CHECKED: usize = ENTRY_BYTES - 4;
/// Marks an entry of the one version there is.
const MAGIC: [u8; 4] = *b"USj\x01";

/// Where a record belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The folder.
    pub session: SessionId,
    /// The file.
    pub writer: ReplicaId,
    /// Offset of the record's header in it.
    pub position: i64,
}

impl Entry {
    /// Appends the entry with its record.
    pub fn encode(&self, header: &[u8; HEADER_BYTES], body: &[u8], out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(self.session.0.as_bytes());
        out.extend_from_slice(self.writer.0.as_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
        let crc = crc32c::crc32c(&out[begin..]);
        out.extend_from_slice(&crc.to_be_bytes());
        out.extend_from_slice(header);
        out.extend_from_slice(body);
    }

    /// Reads the head of an entry; `None` where none begins.
    pub fn decode(bytes: &[u8; ENTRY_BYTES + HEADER_BYTES]) -> Option<(Self, Header)> {
        let (mut head, mut record) = (&bytes[..ENTRY_BYTES], [0; HEADER_BYTES]);
        let crc = crc32c::crc32c(&head[..CHECKED]);
        record.copy_from_slice(&bytes[ENTRY_BYTES..]);
        let mut magic = [0; 4];
        head.copy_to_slice(&mut magic);
        let session = SessionId(Uuid::from_u128(head.get_u128()));
        let writer = ReplicaId(Uuid::from_u128(head.get_u128()));
        let position = head.get_i64();
        let sound = magic == MAGIC && head.get_u32() == crc && position >= 0;
        sound.then_some((Entry { session, writer, position }, Header::decode(&record)?))
    }

    /// Whose file the record stands in.
    pub fn names(&self) -> Names {
        Names { session: self.session, writer: self.writer }
    }
}
