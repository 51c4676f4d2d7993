//! Records in memory as a direct write wants them: from a block's boundary on, in whole blocks.

use super::entry::ENTRY_BYTES;
use super::unsynced::Unsynced;
use crate::gateways::spool::record::HEADER_BYTES;

/// What a volume reads, writes and loses at once. A direct write begins and ends at a multiple of it, in the file and in
/// memory; volumes with smaller sectors take these too.
pub const BLOCK: usize = 4096;

/// The memory of one group, used for one after the other.
#[derive(Debug, Default)]
pub struct Blocks(Vec<u8>);

impl Blocks {
    /// The entries of `records` one behind the other, and zeros up to the next block.
    pub fn gather(&mut self, records: &[Unsynced], lap: u32) -> &[u8] {
        let entries = records.iter().map(|record| ENTRY_BYTES + HEADER_BYTES + record.body.len());
        let bytes = entries.sum::<usize>().next_multiple_of(BLOCK);
        self.0.clear();
        // Nothing moves after this: what comes now fits.
        self.0.reserve_exact(bytes + BLOCK);
        let boundary = self.0.as_ptr().align_offset(BLOCK).min(BLOCK);
        self.0.resize(boundary, 0);
        for Unsynced { entry, header, body, .. } in records {
            self.0.extend_from_slice(&entry.head(lap, header));
            self.0.extend_from_slice(body);
        }
        self.0.resize(boundary + bytes, 0);
        &self.0[boundary..]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::domain::ids::SessionId;
    use crate::gateways::spool::journal::entry::Entry;
    use crate::gateways::spool::writers::{self, Writer};

    fn record(body: usize) -> Unsynced {
        let dir = tempfile::tempdir().unwrap();
        let session = SessionId(Uuid::new_v4());
        let (writer, _): (Writer, _) = writers::append(dir.path(), session, None, 0, &[0]).unwrap();
        let body = Bytes::from(vec![7; body]);
        let (writer, place, header) = writer.written(dir.path(), session, 1, &body).unwrap();
        let entry = Entry { session, writer: place.writer, position: place.position };
        Unsynced { entry, header, body, writer }
    }

    /// A large group, then a small one in the same memory.
    #[test]
    fn groups_are_whole_blocks_on_a_boundary_and_end_in_zeros() {
        let mut blocks = Blocks::default();
        for sizes in [&[65_536; 16][..], &[1], &[4000, 100, 8192]] {
            let records: Vec<_> = sizes.iter().map(|bytes| record(*bytes)).collect();
            let gathered = blocks.gather(&records, 0);
            let bytes: usize = sizes.iter().map(|bytes| ENTRY_BYTES + HEADER_BYTES + bytes).sum();
            assert_eq!(gathered.len(), bytes.next_multiple_of(BLOCK));
            assert_eq!(gathered.as_ptr().align_offset(BLOCK), 0);
            assert!(gathered[bytes - 1] == 7 && gathered[bytes..].iter().all(|byte| *byte == 0));
        }
    }
}
