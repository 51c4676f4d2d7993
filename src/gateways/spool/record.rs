//! How one record lies in a file: a header of 20 bytes, then the chunk's bytes.
//!
//! ```text
//! magic and version (4) | start (8) | length (4) | CRC-32C over session, writer, start, length and body (4) | body
//! ```
//! All numbers are big-endian. The names of the folder and of the file go into the checksum: chunks of one size make
//! records that lie alike in every session's files, and what a volume mixes up must not pass for another's bytes.

use crate::domain::ids::{ReplicaId, SessionId};

/// Bytes before the body.
pub const HEADER_BYTES: usize = 20;
/// Marks a record of the one version there is.
const MAGIC: [u8; 4] = *b"USr\x01";

/// Whose file a record stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// The folder.
    pub session: SessionId,
    /// The file.
    pub writer: ReplicaId,
}

/// What a record says about its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Offset of the body's first byte in the uploaded file.
    pub start: i64,
    /// Bytes of the body.
    pub length: u32,
    crc: u32,
}

impl Header {
    /// The header of `body`, which begins at `start`; `length` is the body's.
    pub fn of(names: Names, start: i64, length: u32, body: &[u8]) -> Self {
        Header { start, length, crc: checksum(names, start, length, body) }
    }

    /// As it stands in the file.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..12].copy_from_slice(&self.start.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.length.to_be_bytes());
        bytes[16..].copy_from_slice(&self.crc.to_be_bytes());
        bytes
    }

    /// Reads what [`Header::encode`] wrote; `None` where no record begins.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (mut start, mut length, mut crc) = ([0; 8], [0; 4], [0; 4]);
        start.copy_from_slice(&bytes[4..12]);
        length.copy_from_slice(&bytes[12..16]);
        crc.copy_from_slice(&bytes[16..]);
        let header = Header {
            start: i64::from_be_bytes(start),
            length: u32::from_be_bytes(length),
            crc: u32::from_be_bytes(crc),
        };
        (bytes[..4] == MAGIC).then_some(header)
    }

    /// Whether `body` is the one this header was made for, in this very file.
    pub fn fits(&self, names: Names, body: &[u8]) -> bool {
        checksum(names, self.start, self.length, body) == self.crc
    }

    /// Bytes of the whole record.
    pub fn record_bytes(&self) -> i64 {
        HEADER_BYTES as i64 + i64::from(self.length)
    }
}

fn checksum(names: Names, start: i64, length: u32, body: &[u8]) -> u32 {
    let crc = crc32c::crc32c(names.session.0.as_bytes());
    let crc = crc32c::crc32c_append(crc, names.writer.0.as_bytes());
    let crc = crc32c::crc32c_append(crc, &start.to_be_bytes());
    let crc = crc32c::crc32c_append(crc, &length.to_be_bytes());
    crc32c::crc32c_append(crc, body)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const NAMES: Names = Names { session: SessionId(Uuid::nil()), writer: ReplicaId(Uuid::max()) };

    #[test]
    fn a_header_reads_back_and_fits_its_body_only() {
        let header = Header::of(NAMES, 7, 3, b"abc");
        assert_eq!(Header::decode(&header.encode()), Some(header));
        assert!(header.fits(NAMES, b"abc"));
        assert!(!header.fits(NAMES, b"abd"));
        assert!(!Header { start: 8, ..header }.fits(NAMES, b"abc"));
    }

    #[test]
    fn a_record_fits_no_other_file() {
        let header = Header::of(NAMES, 7, 3, b"abc");
        assert!(!header.fits(Names { session: SessionId(Uuid::max()), ..NAMES }, b"abc"));
        assert!(!header.fits(Names { writer: ReplicaId(Uuid::nil()), ..NAMES }, b"abc"));
    }

    #[test]
    fn other_bytes_are_no_header() {
        assert_eq!(Header::decode(&[0; HEADER_BYTES]), None);
    }
}
