//! Files of the spool after whatever befell them.
//!
//! Two things are asked of a read: it must come to what a second, simple reader of the form in docs/ARCHITECTURE.md
//! comes to, and where nobody forged a record it must never come to other bytes than were stored.

mod reference;

use std::fs;
use std::path::PathBuf;

use tokio::runtime::Runtime;
use uuid::Uuid;

use self::reference::File;
use crate::domain::ids::{ReplicaId, SessionId};
use crate::gateways::spool::{FileSpool, RecordPlace, Run, Spool, SpoolError};

const SESSION: SessionId = SessionId(Uuid::from_u128(1));
const OTHER_SESSION: SessionId = SessionId(Uuid::from_u128(2));
const WRITERS: [ReplicaId; 2] = [ReplicaId(Uuid::from_u128(3)), ReplicaId(Uuid::from_u128(4))];
/// Bit flips that CRC-32C certainly finds in records of this size.
const SURE_FLIPS: usize = 3;

/// Input: a byte for how many records there are, one for each of their sizes, and then what befalls the files.
pub fn records(data: &[u8]) {
    let mut input = Input(data);
    let Some(count) = input.byte() else { return };
    let sizes: Vec<usize> =
        (0..1 + count % 6).map(|_| 1 + usize::from(input.byte().unwrap_or(0)) * 3).collect();
    let upload = Upload::new(SESSION, &sizes);
    let mut files = upload.files.clone();
    let mut damage = Damage::default();
    while let Some(kind) = input.byte() {
        let file = &mut files[usize::from(kind & 1)].bytes;
        damage.befall(
            kind >> 1,
            file,
            &mut input,
            &Upload::new(OTHER_SESSION, &sizes).files[usize::from(kind & 1)],
        );
    }
    PLACE.with(|place| place.check(&upload, &files, damage.is_sure()));
}

/// What is left of the input.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A place in something of `length` bytes.
    fn offset(&mut self, length: usize) -> usize {
        let high = self.byte().unwrap_or(0);
        let number = usize::from(u16::from_be_bytes([high, self.byte().unwrap_or(0)]));
        number % (length + 1)
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte().unwrap_or(0)).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }
}

/// Everything that befell the files.
#[derive(Default)]
struct Damage {
    flips: usize,
    /// Somebody wrote bytes of their own choice: they may make a sound record.
    forged: bool,
}

impl Damage {
    fn befall(&mut self, kind: u8, file: &mut Vec<u8>, input: &mut Input<'_>, foreign: &File) {
        let at = input.offset(file.len());
        match kind % 6 {
            0 => file.truncate(at),
            1 => {
                self.flips += 1;
                let bit = input.byte().unwrap_or(0) % 8;
                file.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
            }
            2 => file.clone_from(&foreign.bytes),
            3 => file.iter_mut().skip(at).for_each(|byte| *byte = 0),
            4 => {
                self.forged = true;
                let bytes = input.bytes();
                file.iter_mut().skip(at).zip(bytes).for_each(|(byte, new)| *byte = *new);
            }
            _ => {
                self.forged = true;
                file.splice(at..at, input.bytes().iter().copied());
            }
        }
    }

    /// Whether what happened is certainly found.
    fn is_sure(&self) -> bool {
        !self.forged && self.flips <= SURE_FLIPS
    }
}

/// A session's bytes and the files and runs that hold them: the first half of its records in one file, the others in
/// another.
struct Upload {
    bytes: Vec<u8>,
    files: [File; 2],
    runs: Vec<Run>,
}

impl Upload {
    fn new(session: SessionId, sizes: &[usize]) -> Self {
        let mut upload = Upload {
            bytes: Vec::new(),
            files: WRITERS.map(|writer| File::new(session, writer)),
            runs: Vec::new(),
        };
        let mut state = session.0.as_u128() as u32;
        for (number, size) in sizes.iter().enumerate() {
            let body: Vec<u8> = std::iter::repeat_with(|| next(&mut state)).take(*size).collect();
            upload.store(usize::from(number * 2 >= sizes.len()), &body);
        }
        upload
    }

    fn store(&mut self, which: usize, body: &[u8]) {
        let (start, length) = (self.bytes.len() as i64, body.len() as i64);
        self.bytes.extend_from_slice(body);
        let (position, record_end) = self.files[which].append(start, body);
        let place = RecordPlace { writer: WRITERS[which], position, record_end };
        match self.runs.last_mut().filter(|run| run.place.writer == place.writer) {
            Some(run) => (run.length, run.place.record_end) = (run.length + length, record_end),
            None => self.runs.push(Run { start, length, place }),
        }
    }
}

fn next(state: &mut u32) -> u8 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    (*state >> 24) as u8
}

/// Where the files lie, and what reads them.
struct Place {
    dir: PathBuf,
    runtime: Runtime,
}

thread_local! {
    static PLACE: Place = Place::new();
}

impl Place {
    fn new() -> Self {
        let memory = PathBuf::from("/dev/shm");
        let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let dir = base.join(format!("uploader-v4-fuzz-{}", Uuid::new_v4()));
        let made = fs::create_dir_all(dir.join(SESSION.to_string()));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        match (made, runtime) {
            (Ok(()), Ok(runtime)) => Place { dir, runtime },
            (made, runtime) => panic!("{}: {made:?} {runtime:?}", dir.display()),
        }
    }

    fn check(&self, upload: &Upload, files: &[File; 2], sure: bool) {
        for (file, writer) in files.iter().zip(WRITERS) {
            let written = fs::write(self.dir.join(SESSION.to_string()).join(writer.to_string()), &file.bytes);
            assert!(written.is_ok(), "{written:?}");
        }
        let spool = FileSpool::new(&self.dir);
        let (all, half) = (upload.bytes.len(), upload.bytes.len() / 2);
        // One after the other: the reader remembers where it was.
        for (from, to) in [(0, half), (half, all), (0, all), (all - 1, all), (half / 2, half + 1)] {
            let read = self.runtime.block_on(spool.read(SESSION, &upload.runs, from as i64, to - from));
            let expected = reference::read(&upload.runs, files, from, to);
            match read {
                Ok(bytes) => {
                    assert_eq!(Some(bytes.as_ref()), expected.as_deref(), "{from}..{to}");
                    assert!(!sure || bytes == upload.bytes[from..to], "wrong bytes at {from}..{to}");
                }
                Err(SpoolError::Damaged(reason)) => assert_eq!(expected, None, "{from}..{to}: {reason}"),
                Err(error) => panic!("{from}..{to}: {error}"),
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left lies in memory or in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.dir);
    }
}
