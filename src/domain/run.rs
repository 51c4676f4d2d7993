//! Where the spool holds a session's bytes: records one after another in one writer's file.

use super::chunk::ChunkFacts;
use super::ids::ReplicaId;

/// Where one record lies: in the file of `writer`, from byte `position` up to `record_end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordPlace {
    /// Whose file.
    pub writer: ReplicaId,
    /// File offset of the record's header.
    pub position: i64,
    /// File offset after the record's body.
    pub record_end: i64,
}

/// A contiguous stretch of a session's bytes in one writer's file (a row of `uploader.run`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Run {
    /// Offset of its first byte in the uploaded file.
    pub start: i64,
    /// Its bytes.
    pub length: i64,
    /// Its records.
    pub place: RecordPlace,
}

impl Run {
    /// The run that a chunk stored at `place` is part of. It extends the session's last one only if its record begins
    /// exactly where that one's records end; otherwise it begins another: what lies between belongs to nobody.
    pub fn holding(last: Option<&Run>, chunk: &ChunkFacts, place: RecordPlace) -> Run {
        let size = i64::from(chunk.size);
        match last {
            Some(run) if run.is_followed_by(chunk, place) => {
                let place = RecordPlace { record_end: place.record_end, ..run.place };
                Run { start: run.start, length: run.length + size, place }
            }
            Some(_) | None => Run { start: chunk.start, length: size, place },
        }
    }

    /// Whether all of `[from, to)` is in it.
    pub fn covers(&self, from: i64, to: i64) -> bool {
        self.start <= from && to <= self.start + self.length
    }

    fn is_followed_by(&self, chunk: &ChunkFacts, place: RecordPlace) -> bool {
        self.place.writer == place.writer
            && self.place.record_end == place.position
            && self.start + self.length == chunk.start
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::SessionId;
    use super::*;

    const FILE: ReplicaId = ReplicaId(uuid::Uuid::nil());

    fn chunk(start: i64) -> ChunkFacts {
        ChunkFacts { session: SessionId(uuid::Uuid::nil()), start, size: 10, digest: 0 }
    }

    fn place(writer: ReplicaId, position: i64) -> RecordPlace {
        RecordPlace { writer, position, record_end: position + 30 }
    }

    #[test]
    fn a_record_right_behind_a_run_extends_it() {
        let first = Run::holding(None, &chunk(0), place(FILE, 0));
        let both = Run::holding(Some(&first), &chunk(10), place(FILE, 30));
        let records = RecordPlace { writer: FILE, position: 0, record_end: 60 };
        assert_eq!(both, Run { start: 0, length: 20, place: records });
    }

    #[test]
    fn a_gap_in_file_or_bytes_or_another_file_begins_another_run() {
        let first = Run::holding(None, &chunk(0), place(FILE, 0));
        let elsewhere = ReplicaId(uuid::Uuid::max());
        for (start, place) in [(10, place(FILE, 31)), (10, place(elsewhere, 30)), (20, place(FILE, 30))] {
            let next = Run::holding(Some(&first), &chunk(start), place);
            assert_eq!(next, Run { start, length: 10, place }, "{place:?}");
        }
    }
}
