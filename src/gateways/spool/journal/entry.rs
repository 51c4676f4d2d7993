//! How one entry lies in a segment: whose record it is and where it belongs, then the record as in its own file.
//!
//! ```text
//! magic and version (4) | session (16) | writer (16) | position (8) | CRC-32C of all this (4) | record
//! ```
//! All numbers are big-endian. The record has a checksum of its own, which the names go into.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};
use nix::errno::Errno;
use uuid::Uuid;

use super::super::record::{HEADER_BYTES, Header, Names};
use crate::domain::ids::{ReplicaId, SessionId};

/// Bytes before the record.
pub const ENTRY_BYTES: usize = 48;
/// Bytes before the record's body.
pub const HEAD_BYTES: usize = ENTRY_BYTES + HEADER_BYTES;
/// What the checksum is over.
const CHECKED: usize = ENTRY_BYTES - 4;
/// Marks an entry of the one version there is.
const MAGIC: [u8; 4] = *b"USj\x01";
/// The largest body that an entry may have.
pub const MAX_BODY: usize = 64 << 10;
/// Bytes that are looked through at once for the next entry behind a gap.
const WINDOW: usize = 64 << 10;
/// What a volume reads at once, and loses at once.
const SECTOR: u64 = 4096;

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
    pub fn head(&self, header: &[u8; HEADER_BYTES]) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        let mut checked = &mut head[..CHECKED];
        checked.put_slice(&MAGIC);
        checked.put_slice(self.session.0.as_bytes());
        checked.put_slice(self.writer.0.as_bytes());
        checked.put_i64(self.position);
        let crc = crc32c::crc32c(&head[..CHECKED]);
        let mut rest = &mut head[CHECKED..];
        rest.put_u32(crc);
        rest.put_slice(header);
        head
    }

    /// Reads the head of an entry; `None` where none begins.
    fn decode(bytes: &[u8; HEAD_BYTES]) -> Option<(Self, Header)> {
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
    fn names(&self) -> Names {
        Names { session: self.session, writer: self.writer }
    }
}

/// The entries of a segment. Behind one that is torn or damaged the next sound one is looked for: a bad sector costs no
/// more than what lies on it.
pub struct Entries<'a> {
    segment: &'a File,
    at: u64,
    record: Vec<u8>,
    gaps: usize,
    first_gap: Option<u64>,
}

impl<'a> Entries<'a> {
    /// From the segment's beginning.
    pub fn of(segment: &'a File) -> Self {
        Entries { segment, at: 0, record: Vec::new(), gaps: 0, first_gap: None }
    }

    /// The next entry and its record.
    pub fn advance(&mut self) -> io::Result<Option<(Entry, &[u8])>> {
        let end = self.segment.metadata()?.len();
        while self.at < end {
            if let Some(entry) = self.read()? {
                self.at += (ENTRY_BYTES + self.record.len()) as u64;
                return Ok(Some((entry, &self.record)));
            }
            self.gaps += 1;
            self.first_gap.get_or_insert(self.at);
            self.at = self.magic_behind(self.at + 1)?.unwrap_or(end);
        }
        Ok(None)
    }

    /// Where the first gap begins, or where the reading is.
    pub fn sound_until(&self) -> u64 {
        self.first_gap.unwrap_or(self.at)
    }

    /// Places passed over at which no sound entry was.
    pub fn gaps(&self) -> usize {
        self.gaps
    }

    fn read(&mut self) -> io::Result<Option<Entry>> {
        let mut head = [0; HEAD_BYTES];
        if read_at(self.segment, &mut head, self.at)?.bytes < head.len() {
            return Ok(None);
        }
        let Some((entry, header)) = Entry::decode(&head) else { return Ok(None) };
        let length = header.length as usize;
        if length > MAX_BODY {
            return Ok(None);
        }
        self.record.clear();
        self.record.extend_from_slice(&head[ENTRY_BYTES..]);
        self.record.resize(HEADER_BYTES + length, 0);
        let body = &mut self.record[HEADER_BYTES..];
        let whole = read_at(self.segment, body, self.at + head.len() as u64)?.bytes == length;
        Ok((whole && header.fits(entry.names(), body)).then_some(entry))
    }

    fn magic_behind(&self, from: u64) -> io::Result<Option<u64>> {
        let (mut from, mut window) = (from, vec![0; WINDOW]);
        loop {
            let Read { bytes, unreadable } = read_at(self.segment, &mut window, from)?;
            if let Some(found) = window[..bytes].windows(MAGIC.len()).position(|bytes| bytes == MAGIC) {
                return Ok(Some(from + found as u64));
            }
            from = match (unreadable, bytes < WINDOW) {
                (true, _) => (from + bytes as u64 + 1).next_multiple_of(SECTOR),
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
