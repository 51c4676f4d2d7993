//! The bytes of every upload, made up again at any time: nothing has to be kept to check what arrived.

use std::ops::Range;
use std::sync::Arc;

use uuid::Uuid;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Random bytes that chunks are slices of: more than a cache holds, little for memory.
const POOL: usize = 16 << 20;

/// A chunk's bytes follow from its session and offset. Two chunks are alike only by a rare accident.
#[derive(Clone)]
pub(crate) struct Content {
    pool: Arc<Vec<u8>>,
}

impl Content {
    pub(crate) fn new() -> Self {
        let mut random = fastrand::Rng::with_seed(1);
        let mut pool = vec![0; POOL];
        random.fill(&mut pool);
        Content { pool: Arc::new(pool) }
    }

    /// Where the chunk of `session` that begins at `start` lies in the pool.
    pub(crate) fn place(&self, session: Uuid, start: u64, bytes: usize) -> Range<usize> {
        let mut key = [0; 24];
        key[..16].copy_from_slice(session.as_bytes());
        key[16..].copy_from_slice(&start.to_be_bytes());
        let room = (POOL - bytes) as u64;
        let at = (xxh3_64(&key) % room) as usize;
        at..at + bytes
    }

    /// The bytes at such a place.
    pub(crate) fn bytes(&self, place: Range<usize>) -> &[u8] {
        &self.pool[place]
    }

    /// XXH3-128 of the first `length` bytes of a session that is sent in chunks of `chunk` bytes.
    pub(crate) fn digest(&self, session: Uuid, length: u64, chunk: usize) -> u128 {
        let mut hasher = Xxh3::new();
        let mut start = 0;
        while start < length {
            let bytes = chunk.min((length - start) as usize);
            hasher.update(self.bytes(self.place(session, start, bytes)));
            start += bytes as u64;
        }
        hasher.digest128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_differ_by_session_and_place_and_come_out_alike_every_time() {
        let (content, one, other) = (Content::new(), Uuid::from_u128(1), Uuid::from_u128(2));
        let at = |session, start| content.bytes(content.place(session, start, 64)).to_vec();
        assert_eq!(at(one, 64), Content::new().bytes(content.place(one, 64, 64)));
        assert_ne!(at(one, 0), at(one, 64));
        assert_ne!(at(one, 0), at(other, 0));
    }

    #[test]
    fn a_digest_is_that_of_all_chunks_one_after_another() {
        let (content, session) = (Content::new(), Uuid::from_u128(7));
        let mut whole = Vec::new();
        for start in [0, 64, 128] {
            whole.extend_from_slice(content.bytes(content.place(session, start, 64)));
        }
        assert_eq!(content.digest(session, 192, 64), xxhash_rust::xxh3::xxh3_128(&whole));
    }
}
