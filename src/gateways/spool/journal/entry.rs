//! How one entry lies in a segment: whose record it is and where it belongs, then the record as in its own file.
//!
//! ```text
//! magic and version (4) | lap (4) | session (16) | writer (16) | position (8) |
//!     CRC-32C of all this and of the record's header (4) | record
//! ```
//! All numbers are big-endian. The record has a checksum of its own, which the names go into. What is written at once begins
//! at a block's boundary and is filled up with zeros to the next. A segment that is written from its beginning again has the
//! entries of its lap, which all have that lap's number, and behind them what an earlier lap left.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};
use nix::errno::Errno;
use uuid::Uuid;

use super::super::record::{HEADER_BYTES, Header, Names};
use super::blocks::BLOCK;
use crate::domain::ids::{ReplicaId, SessionId};

/// Bytes before the record.
pub const ENTRY_BYTES: usize = 52;
/// Bytes before the record's body.
pub const HEAD_BYTES: usize = ENTRY_BYTES + HEADER_BYTES;
/// What the checksum is over, beside the record's header.
const CHECKED: usize = ENTRY_BYTES - 4;
/// Marks an entry of this form; version 1 had no lap.
const MAGIC: [u8; 4] = *b"USj\x02";
/// The largest body that an entry may have.
pub const MAX_BODY: usize = 64 << 10;
/// Bytes that are looked through at once for the next entry behind a gap.
const WINDOW: usize = 64 << 10;

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
    /// The file that a writer's records of a session stand in.
    pub fn path(dir: &Path, session: SessionId, writer: ReplicaId) -> PathBuf {
        dir.join(session.to_string()).join(writer.to_string())
    }

    /// What stands before the record's body.
    pub fn head(&self, lap: u32, header: &[u8; HEADER_BYTES]) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[ENTRY_BYTES..].copy_from_slice(header);
        let mut checked = &mut head[..CHECKED];
        checked.put_slice(&MAGIC);
        checked.put_u32(lap);
        checked.put_slice(self.session.0.as_bytes());
        checked.put_slice(self.writer.0.as_bytes());
        checked.put_i64(self.position);
        let crc = checksum(&head);
        head[CHECKED..ENTRY_BYTES].copy_from_slice(&crc.to_be_bytes());
        head
    }

    /// Reads the head of an entry; `None` where none begins.
    fn decode(bytes: &[u8; HEAD_BYTES]) -> Option<(u32, Self, Header)> {
        let (mut head, mut record) = (&bytes[..ENTRY_BYTES], [0; HEADER_BYTES]);
        record.copy_from_slice(&bytes[ENTRY_BYTES..]);
        let mut magic = [0; 4];
        head.copy_to_slice(&mut magic);
        let lap = head.get_u32();
        let session = SessionId(Uuid::from_u128(head.get_u128()));
        let writer = ReplicaId(Uuid::from_u128(head.get_u128()));
        let position = head.get_i64();
        let sound = magic == MAGIC && head.get_u32() == checksum(bytes) && position >= 0;
        sound.then_some((lap, Entry { session, writer, position }, Header::decode(&record)?))
    }

    /// Whose file the record stands in.
    fn names(&self) -> Names {
        Names { session: self.session, writer: self.writer }
    }
}

/// Over the names and the record's header: a head must not be taken for that of an older record which lies behind it.
fn checksum(head: &[u8; HEAD_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&head[..CHECKED]), &head[ENTRY_BYTES..])
}

/// Whether what begins so was written by another version of the journal.
pub fn is_of_another_version(beginning: &[u8; MAGIC.len()]) -> bool {
    beginning[..3] == MAGIC[..3] && beginning[3] != MAGIC[3]
}

/// One that was read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sound {
    /// Which time its segment was written.
    pub lap: u32,
    /// Where its record belongs.
    pub entry: Entry,
}

/// The entries of a segment, those of earlier laps too. Behind one that is torn or damaged the next sound one is looked for: a
/// bad sector costs no more than what lies on it.
pub struct Entries<'a> {
    segment: &'a File,
    at: u64,
    end: u64,
    record: Vec<u8>,
    /// That of the entry before, and whether something was passed over since.
    lap: Option<u32>,
    in_gap: bool,
    gaps: usize,
}

impl<'a> Entries<'a> {
    /// Those that begin in the first `bytes` of a segment.
    pub fn of(segment: &'a File, bytes: u64) -> io::Result<Self> {
        let end = segment.metadata()?.len().min(bytes);
        Ok(Entries { segment, at: 0, end, record: Vec::new(), lap: None, in_gap: false, gaps: 0 })
    }

    /// The next entry and its record.
    pub fn advance(&mut self) -> io::Result<Option<(Sound, &[u8])>> {
        while self.at < self.end {
            if let Some(sound) = self.read()? {
                self.at += (ENTRY_BYTES + self.record.len()) as u64;
                // Where a lap ends, an older entry may lie half overwritten.
                let same = self.lap.replace(sound.lap).is_none_or(|lap| lap == sound.lap);
                self.gaps += usize::from(std::mem::take(&mut self.in_gap) && same);
                return Ok(Some((sound, &self.record)));
            }
            if self.is_filled_up()? {
                self.at = self.at.next_multiple_of(BLOCK as u64);
            } else {
                self.in_gap = true;
                self.at = self.magic_behind(self.at + 1)?.unwrap_or(self.end);
            }
        }
        Ok(None)
    }

    /// Where the next entry is looked for.
    #[cfg(test)]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Places passed over between entries of a lap, or before the first.
    pub fn gaps(&self) -> usize {
        self.gaps
    }

    /// Whether from here to the next block's boundary are only zeros, and anything at all.
    fn is_filled_up(&self) -> io::Result<bool> {
        let mut rest = vec![0; (self.at.next_multiple_of(BLOCK as u64) - self.at) as usize];
        let read = read_at(self.segment, &mut rest, self.at)?.bytes;
        Ok(read > 0 && rest[..read].iter().all(|byte| *byte == 0))
    }

    fn read(&mut self) -> io::Result<Option<Sound>> {
        let mut head = [0; HEAD_BYTES];
        if read_at(self.segment, &mut head, self.at)?.bytes < head.len() {
            return Ok(None);
        }
        let Some((lap, entry, header)) = Entry::decode(&head) else { return Ok(None) };
        let length = header.length as usize;
        if length > MAX_BODY {
            return Ok(None);
        }
        self.record.clear();
        self.record.extend_from_slice(&head[ENTRY_BYTES..]);
        self.record.resize(HEADER_BYTES + length, 0);
        let body = &mut self.record[HEADER_BYTES..];
        let whole = read_at(self.segment, body, self.at + head.len() as u64)?.bytes == length;
        Ok((whole && header.fits(entry.names(), body)).then_some(Sound { lap, entry }))
    }

    fn magic_behind(&self, from: u64) -> io::Result<Option<u64>> {
        let (mut from, mut window) = (from, vec![0; WINDOW]);
        loop {
            let Read { bytes, unreadable } = read_at(self.segment, &mut window, from)?;
            if let Some(found) = window[..bytes].windows(MAGIC.len()).position(|bytes| bytes == MAGIC) {
                return Ok(Some(from + found as u64));
            }
            from = match (unreadable, bytes < WINDOW) {
                (true, _) => (from + bytes as u64 + 1).next_multiple_of(BLOCK as u64),
                (false, true) => return Ok(None),
                (false, false) => from + (WINDOW - MAGIC.len() + 1) as u64,
            };
        }
    }
}

/// How far a reading came.
struct Read {
    bytes: usize,
    /// The volume has lost what follows.
    unreadable: bool,
}

/// As much as there is and can be read.
fn read_at(file: &File, into: &mut [u8], at: u64) -> io::Result<Read> {
    let mut bytes = 0;
    while bytes < into.len() {
        match file.read_at(&mut into[bytes..], at + bytes as u64) {
            Ok(0) => break,
            Ok(more) => bytes += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => {
                return Ok(Read { bytes, unreadable: true });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Read { bytes, unreadable: false })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// An older record may lie where the rest of an entry was not written.
    #[test]
    fn a_head_fits_the_header_of_its_own_record_only() {
        let entry = Entry { session: SessionId(Uuid::nil()), writer: ReplicaId(Uuid::max()), position: 7 };
        let header = |start| Header::of(entry.names(), start, 3, b"abc");
        let mut head = entry.head(4, &header(100).encode());
        assert_eq!(Entry::decode(&head), Some((4, entry, header(100))));
        head[ENTRY_BYTES..].copy_from_slice(&header(97).encode());
        assert_eq!(Entry::decode(&head), None);
    }
}
