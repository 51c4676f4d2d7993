//! The newest chunks of a session, kept so that their duplicates are answered as the first time.

use super::chunk::ChunkFacts;

/// How many chunks are remembered.
const KEPT: usize = 16;
/// start (8), size (4) and digest (16), big-endian.
const ENTRY_BYTES: usize = 28;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Entry {
    start: i64,
    size: u32,
    digest: u128,
}

/// The newest 16 chunks of a session, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Recent(Vec<Entry>);

impl Recent {
    /// Whether this very chunk was stored not long ago.
    pub fn holds(&self, chunk: &ChunkFacts) -> bool {
        self.0.contains(&Entry::of(chunk))
    }

    /// Remembers one more chunk and forgets the oldest beyond 16.
    pub fn remember(&mut self, chunk: &ChunkFacts) {
        if self.0.len() == KEPT {
            self.0.remove(0);
        }
        self.0.push(Entry::of(chunk));
    }

    /// Each chunk that is remembered, oldest first: its start, its size in bytes, and the digest of these.
    pub fn chunks(&self) -> impl Iterator<Item = (i64, u32, u128)> {
        self.0.iter().map(|entry| (entry.start, entry.size, entry.digest))
    }

    /// How `uploader.session.recent` stores it: 28 bytes a chunk, oldest first.
    pub fn pack(&self) -> Vec<u8> {
        self.0.iter().flat_map(Entry::pack).collect()
    }

    /// What a chunk adds to it.
    pub fn packed(chunk: &ChunkFacts) -> Vec<u8> {
        Entry::of(chunk).pack().to_vec()
    }

    /// Reads it back; `None` for a length that [`Recent::pack`] never writes.
    pub fn unpack(packed: &[u8]) -> Option<Self> {
        let (entries, rest) = packed.as_chunks::<ENTRY_BYTES>();
        let sound = rest.is_empty() && entries.len() <= KEPT;
        sound.then(|| Recent(entries.iter().map(Entry::read).collect()))
    }
}

impl Entry {
    fn of(chunk: &ChunkFacts) -> Self {
        Entry { start: chunk.start, size: chunk.size, digest: chunk.digest }
    }

    fn pack(&self) -> [u8; ENTRY_BYTES] {
        let mut packed = [0; ENTRY_BYTES];
        packed[..8].copy_from_slice(&self.start.to_be_bytes());
        packed[8..12].copy_from_slice(&self.size.to_be_bytes());
        packed[12..].copy_from_slice(&self.digest.to_be_bytes());
        packed
    }

    fn read(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let (mut start, mut size, mut digest) = ([0; 8], [0; 4], [0; 16]);
        start.copy_from_slice(&bytes[..8]);
        size.copy_from_slice(&bytes[8..12]);
        digest.copy_from_slice(&bytes[12..]);
        Entry {
            start: i64::from_be_bytes(start),
            size: u32::from_be_bytes(size),
            digest: u128::from_be_bytes(digest),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::ids::SessionId;
    use super::*;

    fn chunk(start: i64) -> ChunkFacts {
        ChunkFacts { session: SessionId(uuid::Uuid::nil()), start, size: 7, digest: start as u128 * 3 }
    }

    #[test]
    fn the_newest_sixteen_are_kept_and_survive_packing() {
        let mut recent = Recent::default();
        for n in 0..20 {
            recent.remember(&chunk(n * 7));
        }
        let read = Recent::unpack(&recent.pack()).unwrap();
        assert_eq!(read, recent);
        assert!(!read.holds(&chunk(3 * 7)));
        assert!((4..20).all(|n| read.holds(&chunk(n * 7))));
        assert_eq!(read.chunks().next(), Some((28, 7, 84)));
        assert_eq!(read.chunks().count(), 16);
    }

    #[test]
    fn a_foreign_length_is_not_read() {
        assert_eq!(Recent::unpack(&[0; 27]), None);
        assert_eq!(Recent::unpack(&[0; ENTRY_BYTES * 17]), None);
    }
}
