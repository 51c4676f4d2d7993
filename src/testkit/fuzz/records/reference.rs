//! The form of a spool file, read and written in the simplest way, apart from the code that it judges.

use crate::domain::ids::{ReplicaId, SessionId};
use crate::gateways::spool::Run;

/// Bytes of a record before its body.
const HEADER: usize = 20;

/// One writer's file.
#[derive(Clone)]
pub(super) struct File {
    session: SessionId,
    writer: ReplicaId,
    pub(super) bytes: Vec<u8>,
}

impl File {
    pub(super) fn new(session: SessionId, writer: ReplicaId) -> Self {
        File { session, writer, bytes: Vec::new() }
    }

    /// Appends a record; where it begins and ends.
    pub(super) fn append(&mut self, start: i64, body: &[u8]) -> (i64, i64) {
        let position = self.bytes.len() as i64;
        let length = body.len() as u32;
        self.bytes.extend_from_slice(b"USr\x01");
        self.bytes.extend_from_slice(&start.to_be_bytes());
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(&self.checksum(start, length, body).to_be_bytes());
        self.bytes.extend_from_slice(body);
        (position, self.bytes.len() as i64)
    }

    fn checksum(&self, start: i64, length: u32, body: &[u8]) -> u32 {
        let names = [*self.session.0.as_bytes(), *self.writer.0.as_bytes()].concat();
        crc32c(&[&names, start.to_be_bytes().as_slice(), length.to_be_bytes().as_slice(), body].concat())
    }

    /// The body of the record at `position`, if one begins there; its checksum is compared where `verify`.
    fn record(&self, position: usize, start: i64, verify: bool) -> Option<(usize, Option<&[u8]>)> {
        let header = self.bytes.get(position..position.checked_add(HEADER)?)?;
        let claimed = i64::from_be_bytes(header[4..12].try_into().ok()?);
        let length = u32::from_be_bytes(header[12..16].try_into().ok()?);
        if &header[..4] != b"USr\x01" || claimed != start || length == 0 {
            return None;
        }
        let body = self.bytes.get(position + HEADER..position + HEADER + length as usize);
        if verify && self.checksum(start, length, body?).to_be_bytes() != header[16..] {
            return None;
        }
        Some((length as usize, body))
    }
}

/// The bytes `[from, to)` as the files hold them, `None` where a record on the way is not as it was committed.
pub(super) fn read(runs: &[Run], files: &[File; 2], from: usize, to: usize) -> Option<Vec<u8>> {
    let mut gathered = Vec::new();
    for run in runs {
        let (mut start, end) = (run.start as usize, (run.start + run.length) as usize);
        let mut position = run.place.position as usize;
        let file = files.iter().find(|file| file.writer == run.place.writer)?;
        // A run that the range does not touch is not looked at.
        while end > from && start < to.min(end) {
            let wanted = |length: usize| start + length > from;
            let (length, _) = file.record(position, start as i64, false)?;
            let fits = start + length <= end && position + HEADER + length <= run.place.record_end as usize;
            let (_, body) = file.record(position, start as i64, fits && wanted(length))?;
            if !fits {
                return None;
            }
            if wanted(length) {
                let stop = to.min(start + length);
                gathered.extend_from_slice(&body?[from.max(start) - start..stop - start]);
            }
            (start, position) = (start + length, position + HEADER + length);
        }
    }
    (gathered.len() == to - from).then_some(gathered)
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}
