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
        self.0.reserve(bytes + BLOCK);
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
