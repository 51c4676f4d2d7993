//! The chunk road: from the broker through look, spool and transaction to the answer.
//!
//! One session and a few deliveries, handed to either of two replicas in any order. Between any two steps a replica may
//! be killed, lose its link, be told nothing of its own commit, fail an append or run out of patience; the session may be
//! completed, parked, expired or removed; other hands may change its rows. A replica that is paused is one that takes no
//! step for as long as others do.

mod drive;
mod faults;
mod judge;
mod mutants;
mod steps;
mod store;
mod world;

use stateright::{Model, Property};
use uploader_v4::domain::invariants::{acked_is_stored, session_is_sound, stored_is_the_prefix};
use uploader_v4::domain::status::SessionState;

use self::faults::Fault;
use self::world::{Answer, Piece, Script, Stage, State, Whereabouts};
use crate::explore::{self, Endings, First};

/// What a mutant lacks. Those of `decide` are in the order of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safeguard {
    RecentAnswersAtAll,
    RecentAnswersFirst,
    RecentTellsDigests,
    StateCounts,
    RowsMustBeThere,
    VideoCounts,
    FlowCounts,
    UploadedBytesCount,
    EndOfFileCounts,
    OnlyTheNextByte,
    EarlyStepsAside,
    WaitingEnds,
    QuotaCounts,
    QuotaIsForTheFirst,
    SpoolBeforeCommit,
    JudgedAgain,
    RowsAreLocked,
    CommitBeforeReply,
    ReplyBeforeAck,
    RunsEndAtRecordEnd,
    FailedFileIsLeft,
    UnknownIsReadAgain,
    LinksTellDeliveriesApart,
    EveryUploadGetsATombstone,
    TombstoneKeepsRecent,
}

/// The model; a mutant if it is without a safeguard.
pub struct ChunkRoad {
    scripts: Vec<Script>,
    faults: u8,
    without: Option<Safeguard>,
    endings: Endings,
    firsts: [First; 2],
}

/// What may happen next. Replicas and what they hold are named by their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Deliver { delivery: usize, replica: usize },
    Look { replica: usize, held: usize, overdue: bool },
    Append { replica: usize, held: usize },
    Begin { replica: usize, held: usize },
    Land { transaction: usize },
    Publish { replica: usize, held: usize },
    Ack { replica: usize, held: usize },
    Fault(Fault),
}

impl ChunkRoad {
    fn new(scripts: Vec<Script>, faults: u8, without: Option<Safeguard>) -> Self {
        ChunkRoad { scripts, faults, without, endings: Endings::default(), firsts: Default::default() }
    }

    fn has(&self, safeguard: Safeguard) -> bool {
        self.without != Some(safeguard)
    }
}

/// The rules that a state by itself can break.
fn rules(state: &State) -> Result<(), String> {
    if !state.database.foreign {
        session_is_sound(&state.database.session).map_err(|broken| broken.to_string())?;
    }
    let Some(own) = state.own() else {
        return Ok(());
    };
    let stored = state.readable();
    stored_is_the_prefix(&stored, own.committed).map_err(|broken| broken.to_string())?;
    acked_is_stored(state.history.acked(), &stored).map_err(|broken| broken.to_string())
}

const RULES: &str = "no rule is broken";
const END: &str = "once faults stop, every delivery is answered and the session ends";

fn replies(state: &State, good: fn(&Answer) -> bool) -> bool {
    let mut stages = state.replicas.iter().flat_map(|replica| &replica.held).map(|held| &held.stage);
    stages.any(|stage| matches!(stage, Stage::Replied(answer) if good(answer)))
}

impl Model for ChunkRoad {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.scripts.iter().map(|script| State::new(script, self.faults)).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_none() {
            self.steps(state, actions);
            self.faults(state, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.carry_out(&mut next, action);
        next.note(rules(&next));
        let next = next.in_order();
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(RULES, |model: &ChunkRoad, state: &State| {
                state.broken.is_none() || !model.firsts[0].is()
            }),
            Property::always(END, |model: &ChunkRoad, state: &State| {
                model.ends_well(state) || !model.firsts[1].is()
            }),
            Property::sometimes("a whole file is stored and acked", |_, state: &State| {
                state.own_state() == Some(SessionState::Sealed)
                    && state.broker.iter().all(|delivery| delivery.whereabouts == Whereabouts::Acked)
            }),
            Property::sometimes("an ended session acks a duplicate", |_, state: &State| {
                let ended = matches!(state.own_state(), Some(SessionState::Done | SessionState::Expired));
                ended && replies(state, |answer| *answer == Answer::Ack)
            }),
            Property::sometimes("a commit lands after its replica died", |_, state: &State| {
                let waits = |held: &world::Held| held.stage.is_busy();
                let nobody = !state.replicas.iter().flat_map(|replica| &replica.held).any(waits);
                !state.database.open.is_empty() && nobody
            }),
            Property::sometimes("a session has bytes of two replicas", |_, state: &State| {
                state.database.runs.len() == 2
                    && state.database.runs[0].place.writer != state.database.runs[1].place.writer
            }),
            Property::sometimes("a chunk is refused, retryable", |_, state: &State| {
                replies(state, |answer| matches!(answer, Answer::Nack { retryable: true, .. }))
            }),
        ]
    }
}

/// What is sent in CI: every kind of piece, with each of the others that it can collide with.
fn scripts() -> Vec<Script> {
    use Piece::{A, AB, B, C, Past, X, Y};
    let script = |total, sent, proper| Script { total, sent, proper };
    let mut scripts = vec![
        script(2, &[A, B][..], true),
        script(2, &[A, B, B], true),
        script(2, &[A, A, B], true),
        script(3, &[A, B, C], false),
        script(2, &[A, AB, B], false),
        script(2, &[A, B, Y], false),
        script(2, &[A, X, B], false),
        script(2, &[A, B, Past], false),
        script(0, &[A, A], false),
    ];
    if explore::wide() {
        scripts.extend([
            script(2, &[A, A, B, B], true),
            script(2, &[A, X, B, Y], false),
            script(2, &[A, AB, B, Past], false),
            script(3, &[A, B, B, C], false),
        ]);
    }
    scripts
}

#[test]
fn the_chunk_road_keeps_its_promises() {
    explore::holds("chunk road", ChunkRoad::new(scripts(), 1, None));
}

#[test]
fn a_file_of_two_chunks_keeps_its_promises_under_several_faults() {
    let faults = if explore::wide() { 3 } else { 2 };
    let script = Script { total: 2, sent: &[Piece::A, Piece::B], proper: true };
    let name = format!("chunk road of two chunks, {faults} faults");
    explore::holds_without_examples(&name, ChunkRoad::new(vec![script], faults, None));
}
