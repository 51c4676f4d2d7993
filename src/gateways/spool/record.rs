//! How one record lies in a file: a header of 20 bytes, then the chunk's bytes.
//!
//! ```text
//! magic and version (4) | start (8) | length (4) | CRC-32C over start, length and body (4) | body
//! ```
//! All numbers are big-endian.

/// Bytes before the body.
pub(super) const HEADER_BYTES: usize = 20;
/// Marks a record of the one version there is.
const MAGIC: [u8; 4] = *b"USr\x01";

/// What a record says about its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Offset of the body's first byte in the uploaded file.
    pub start: i64,
    /// Bytes of the body.
    pub length: u32,
    crc: u32,
}

impl Header {
    /// The header of `body`, which begins at `start`; `length` is the body's.
    pub fn of(start: i64, length: u32, body: &[u8]) -> Self {
        Header { start, length, crc: checksum(start, length, body) }
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

    /// Whether `body` is the one this header was made for.
    pub fn fits(&self, body: &[u8]) -> bool {
        checksum(self.start, self.length, body) == self.crc
    }

    /// Bytes of the whole record.
    pub fn record_bytes(&self) -> i64 {
        HEADER_BYTES as i64 + i64::from(self.length)
    }
}

fn checksum(start: i64, length: u32, body: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&start.to_be_bytes());
    let crc = crc32c::crc32c_append(crc, &length.to_be_bytes());
    crc32c::crc32c_append(crc, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_fits_its_body_only() {
        let header = Header::of(7, 3, b"abc");
        assert_eq!(Header::decode(&header.encode()), Some(header));
        assert!(header.fits(b"abc"));
        assert!(!header.fits(b"abd"));
        assert!(!Header { start: 8, ..header }.fits(b"abc"));
    }

    #[test]
    fn other_bytes_are_no_header() {
        assert_eq!(Header::decode(&[0; HEADER_BYTES]), None);
    }
}
