//! Reads a session's bytes back, every touched record's checksum verified.
//!
//! A feed reads block after block. A [`Cursor`] remembers the record that the last block ended in, so that the next
//! one neither walks the headers from the run's beginning nor reads a large record once for each of its blocks.

use std::io::{self, Read, Seek};
use std::ops::Range;

use bytes::Bytes;

use super::record::{HEADER_BYTES, Header, Names};
use super::sources::Source;
use super::{Run, SpoolError};
use crate::domain::ids::{ReplicaId, SessionId};

/// Where the next sequential read begins.
#[derive(Debug, Clone)]
pub(super) struct Cursor {
    writer: ReplicaId,
    /// Upload offset at which the record begins.
    start: i64,
    /// File offset of its header.
    position: i64,
    /// The body of that record, verified, if some of it was read already.
    pub body: Option<Bytes>,
}

/// One reading of `[from, from + length)`.
#[derive(Debug)]
pub(super) struct Reading<S> {
    pub source: S,
    pub session: SessionId,
    pub from: i64,
    pub length: usize,
}

/// The file of one run, open at the header of the record that begins at upload offset `start`.
struct Walk<F> {
    file: F,
    start: i64,
    position: i64,
}

impl<S: Source> Reading<S> {
    /// The bytes, and where the next reading begins. `runs` are sorted and must cover the range.
    pub fn read(&self, runs: &[Run], cursor: Option<Cursor>) -> Result<(Bytes, Option<Cursor>), SpoolError> {
        let mut gathered = Gathered { wanted: self.length, whole: None, parts: Vec::new() };
        let mut cursor = cursor;
        for run in runs {
            let at = self.from + gathered.len() as i64;
            if gathered.len() < self.length && run.start <= at && at < run.start + run.length {
                cursor = self.read_run(run, at, cursor, &mut gathered)?;
            }
        }
        if gathered.len() < self.length {
            let missing = self.from + gathered.len() as i64;
            return Err(SpoolError::Damaged(format!(
                "session {}: no run holds byte {missing}",
                self.session
            )));
        }
        Ok((gathered.finish(), cursor))
    }

    fn read_run(
        &self,
        run: &Run,
        from: i64,
        cursor: Option<Cursor>,
        gathered: &mut Gathered,
    ) -> Result<Option<Cursor>, SpoolError> {
        let to = (run.start + run.length).min(self.from + self.length as i64);
        let cursor = cursor.filter(|cursor| cursor.serves(run, from)).unwrap_or(Cursor::beginning(run));
        let (mut start, mut position, mut kept) = (cursor.start, cursor.position, cursor.body);
        let mut walk = None;
        while start < to {
            let body = match kept.take() {
                Some(body) => body,
                None => {
                    let walk = self.walk_at(&mut walk, run, start, position)?;
                    match self.record(walk, run, from..to, gathered)? {
                        Record::Over(length) => {
                            start += length;
                            position = walk.position;
                            continue;
                        }
                        Record::Body(body) => body,
                    }
                }
            };
            let end = start + body.len() as i64;
            if end > from {
                let wanted = (from.max(start) - start) as usize..(to.min(end) - start) as usize;
                gathered.add(&body, wanted);
            }
            if end > to {
                return Ok(Some(Cursor { writer: run.place.writer, start, position, body: Some(body) }));
            }
            start = end;
            position += HEADER_BYTES as i64 + body.len() as i64;
        }
        Ok(Some(Cursor { writer: run.place.writer, start, position, body: None }))
    }

    fn walk_at<'w>(
        &self,
        walk: &'w mut Option<Walk<S::File>>,
        run: &Run,
        start: i64,
        position: i64,
    ) -> Result<&'w mut Walk<S::File>, SpoolError> {
        if walk.is_none() {
            let opened = self.source.open(self.session, run, position);
            let file = opened.map_err(|error| self.failed(run, position, &error))?;
            *walk = Some(Walk { file, start, position });
        }
        walk.as_mut().ok_or_else(|| self.damaged(run, position, "cannot be opened"))
    }

    /// The record under `walk`. One before what is `wanted` is passed over, one in the middle of it goes where it is gathered.
    fn record(
        &self,
        walk: &mut Walk<S::File>,
        run: &Run,
        wanted: Range<i64>,
        gathered: &mut Gathered,
    ) -> Result<Record, SpoolError> {
        let (at, start) = (walk.position, walk.start);
        let header = self.header(walk, run)?;
        let length = i64::from(header.length);
        walk.start += length;
        walk.position += header.record_bytes();
        if walk.start <= wanted.start {
            walk.file.seek_relative(length).map_err(|error| self.failed(run, at, &error))?;
            return Ok(Record::Over(length));
        }
        let bytes = header.length as usize;
        if start >= wanted.start && walk.start <= wanted.end && bytes < self.length {
            self.body(walk, run, at, &header, gathered.parts())?;
            return Ok(Record::Over(length));
        }
        let mut body = Vec::with_capacity(bytes);
        self.body(walk, run, at, &header, &mut body)?;
        Ok(Record::Body(body.into()))
    }

    /// Appends the body under `walk`, of the record at file offset `at`, to `into`. It is sound, or the reading fails.
    fn body(
        &self,
        walk: &mut Walk<S::File>,
        run: &Run,
        at: i64,
        header: &Header,
        into: &mut Vec<u8>,
    ) -> Result<(), SpoolError> {
        let from = into.len();
        let read = walk.file.by_ref().take(u64::from(header.length)).read_to_end(into);
        let read = read.map_err(|error| self.failed(run, at, &error))?;
        if read < header.length as usize {
            return Err(self.failed(run, at, &io::ErrorKind::UnexpectedEof.into()));
        }
        let names = Names { session: self.session, writer: run.place.writer };
        let fits = header.fits(names, &into[from..]);
        if fits { Ok(()) } else { Err(self.damaged(run, at, "the record's checksum differs")) }
    }

    /// Nothing of a header is believed before it fits the run: a length bounds the memory for the body.
    fn header(&self, walk: &mut Walk<S::File>, run: &Run) -> Result<Header, SpoolError> {
        let at = walk.position;
        let mut bytes = [0; HEADER_BYTES];
        walk.file.read_exact(&mut bytes).map_err(|error| self.failed(run, at, &error))?;
        let header = Header::decode(&bytes).ok_or_else(|| self.damaged(run, at, "no record begins here"))?;
        let rest = run.start + run.length - walk.start;
        let fits = header.start == walk.start
            && (1..=rest).contains(&i64::from(header.length))
            && at + header.record_bytes() <= run.place.record_end;
        if fits { Ok(header) } else { Err(self.damaged(run, at, "another record than the committed one")) }
    }

    fn failed(&self, run: &Run, position: i64, error: &io::Error) -> SpoolError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(run, position, "the file ends too early"),
            io::ErrorKind::NotFound => self.damaged(run, position, "the file is missing"),
            _ => SpoolError::Io(format!("{}: {error}", self.name(run, position))),
        }
    }

    fn damaged(&self, run: &Run, position: i64, what: &str) -> SpoolError {
        SpoolError::Damaged(format!("{}: {what}", self.name(run, position)))
    }

    fn name(&self, run: &Run, position: i64) -> String {
        format!("session {}, writer {}, file offset {position}", self.session, run.place.writer)
    }
}

/// The bytes of one reading. What lies in one record is not copied, unless most of the record would be kept in memory for a
/// small part of it.
struct Gathered {
    wanted: usize,
    whole: Option<Bytes>,
    parts: Vec<u8>,
}

impl Gathered {
    fn len(&self) -> usize {
        self.whole.as_ref().map_or(self.parts.len(), Bytes::len)
    }

    fn add(&mut self, body: &Bytes, part: Range<usize>) {
        if part.len() == self.wanted && body.len() <= 2 * part.len() {
            self.whole = Some(body.slice(part));
            return;
        }
        self.parts().extend_from_slice(&body[part]);
    }

    /// Where the next bytes go if they are not the only ones.
    fn parts(&mut self) -> &mut Vec<u8> {
        if self.parts.capacity() == 0 {
            self.parts.reserve_exact(self.wanted);
        }
        &mut self.parts
    }

    fn finish(self) -> Bytes {
        self.whole.unwrap_or_else(|| self.parts.into())
    }
}

enum Record {
    /// Nothing more is to be done about so many bytes.
    Over(i64),
    /// Read, and sound.
    Body(Bytes),
}

impl Cursor {
    fn beginning(run: &Run) -> Self {
        Cursor { writer: run.place.writer, start: run.start, position: run.place.position, body: None }
    }

    /// Whether reading `run` from `from` can begin here. Two runs may share a writer: the file offset tells them apart.
    fn serves(&self, run: &Run, from: i64) -> bool {
        self.writer == run.place.writer
            && (run.start..=from).contains(&self.start)
            && (run.place.position..run.place.record_end).contains(&self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(record: usize, wanted: usize) -> (Bytes, Bytes) {
        let body = Bytes::from(vec![7; record]);
        let mut gathered = Gathered { wanted, whole: None, parts: Vec::new() };
        gathered.add(&body, 1..1 + wanted);
        (body, gathered.finish())
    }

    #[test]
    fn a_block_that_is_most_of_its_record_is_not_copied_and_a_small_part_does_not_keep_it() {
        let (body, block) = gathered(100, 50);
        assert_eq!(block.as_ptr(), body[1..].as_ptr());
        let (body, block) = gathered(1000, 50);
        assert_ne!(block.as_ptr(), body[1..].as_ptr());
        assert_eq!(block, body[1..51]);
    }
}
