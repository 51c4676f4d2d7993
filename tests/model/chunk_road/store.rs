//! What the spool and PostgreSQL do in the chunk road's world.

use uploader_v4::domain::chunk::ChunkFacts;
use uploader_v4::domain::run::{RecordPlace, Run};
use uploader_v4::domain::session::{Next, Session, SharedRows};
use uploader_v4::domain::status::{FlowStatus, VideoStatus};

use super::judge::{judge, terms};
use super::world::{Answer, Looked, Record, Stage, State, Transaction, writer};
use super::{ChunkRoad, Safeguard};

impl State {
    /// One record at the end of the replica's file, durable; a replica without a file begins one.
    pub fn append(&mut self, replica: usize, record: Record) -> RecordPlace {
        let number = self.replicas[replica].file.unwrap_or(self.files.len());
        if number == self.files.len() {
            self.files.push(Vec::new());
        }
        self.replicas[replica].file = Some(number);
        self.files[number].push(record);
        let record_end = self.files[number].len() as i64;
        RecordPlace { writer: writer(number), position: record_end - 1, record_end }
    }

    /// The place that a chunk will have once it is appended, for a mutant that commits before.
    pub fn place_to_be(&self, replica: usize) -> RecordPlace {
        let number = self.replicas[replica].file.unwrap_or(self.files.len());
        let position = self.files.get(number).map_or(0, Vec::len) as i64;
        RecordPlace { writer: writer(number), position, record_end: position + 1 }
    }
}

impl ChunkRoad {
    /// Locks, judges again and writes. The commit itself is on its way then, and may land or not.
    pub fn begin(&self, state: &mut State, replica: usize, at: usize) {
        let Stage::Stored(place, looked) = state.replicas[replica].held[at].stage.clone() else { return };
        if !state.database.open.is_empty() && self.has(Safeguard::RowsAreLocked) {
            return state.replicas[replica].held[at].stage = Stage::Waiting(Some(place));
        }
        let chunk = state.piece(&state.replicas[replica].held[at]).facts();
        let before = state.database.session.clone();
        let (after, next) = match looked {
            Some(after) => (*after, None),
            None => {
                let (after, next, sound) =
                    judge(self.without, &before, &chunk, &terms(false, state.database.room));
                state.note(sound);
                (after, Some(next))
            }
        };
        let stage = match next {
            None | Some(Next::Accept(_)) => {
                self.taken(state, &before);
                let run = self.run(state.database.runs.last(), &chunk, place);
                state.database.open.push(Transaction { place, after, run });
                Stage::Committing(place)
            }
            Some(Next::Repeat) => Stage::Answering(Answer::Ack),
            Some(Next::StepAside) => Stage::Waiting(Some(place)),
            Some(Next::Refuse(refusal)) => {
                let rule = state.history.refuse(&chunk, &refusal);
                state.note(rule);
                Stage::Answering(Answer::of(refusal))
            }
        };
        state.replicas[replica].held[at].stage = stage;
    }

    /// What an acceptance on locked rows must not do, beyond what the rows themselves tell.
    fn taken(&self, state: &mut State, before: &Session) {
        let crowd = before.own.is_none() && !state.database.room;
        state.note(ensure(!crowd, "a session was admitted beyond the quota"));
        state.note(ensure(!state.database.foreign, "a chunk was taken beside another uploader's"));
        let unwanted = |rows: SharedRows| {
            rows.video_status == VideoStatus::Blocked || rows.flow_status == FlowStatus::Hidden
        };
        let wanted = !before.shared.is_some_and(unwanted);
        state.note(ensure(wanted, "a chunk was taken for a video that nobody wants"));
    }

    fn run(&self, last: Option<&Run>, chunk: &ChunkFacts, place: RecordPlace) -> Run {
        let blind = !self.has(Safeguard::RunsEndAtRecordEnd);
        match last
            .filter(|run| blind && run.place.writer == place.writer && run.start + run.length == chunk.start)
        {
            Some(run) => Run::holding(
                Some(&Run { place: RecordPlace { record_end: place.position, ..run.place }, ..*run }),
                chunk,
                place,
            ),
            None => Run::holding(last, chunk, place),
        }
    }

    /// The commit lands: its writes are there for everybody.
    pub fn land(&self, state: &mut State, number: usize) -> RecordPlace {
        let Transaction { place, after, run } = state.database.open.remove(number);
        let before = std::mem::replace(&mut state.database.session, after);
        let rule = state.history.change(&before, &state.database.session);
        state.note(rule);
        match state.database.runs.last_mut().filter(|last| last.start == run.start) {
            Some(last) => *last = run,
            None => state.database.runs.push(run),
        }
        place
    }

    /// The rows as a look's answer would have them, for a mutant that commits these.
    pub fn believed(&self, after: Session) -> Looked {
        (!self.has(Safeguard::JudgedAgain)).then(|| Box::new(after))
    }
}

/// Whoever waits for a transaction, by the place of its record.
pub fn waits_for(stage: &Stage, place: RecordPlace) -> bool {
    matches!(stage, Stage::Committing(theirs) if *theirs == place)
}

/// A rule in words.
pub fn ensure(holds: bool, broken: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken.to_owned()) }
}
