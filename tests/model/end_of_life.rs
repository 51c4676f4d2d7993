//! The end of a video with two sessions: completed, parked, tried again, expired by the janitor or by hand, or removed
//! by others, while chunks of them are still on their way.
//!
//! Each transaction has two steps here: it takes its locks, reads and judges; then its commit lands, is lost, or lands
//! unheard. What holds the same rows waits in between, as in PostgreSQL. Feeds are those of `feed::decide`, from a claim
//! to its `Complete` or `Park`; what becomes of them on the way is the feed road's model.

mod drive;
mod feeds;
mod hands;
mod mutants;
mod transactions;
mod world;

use stateright::{Model, Property};
use uploader_v4::domain::invariants::{session_is_sound, video_agrees};
use uploader_v4::domain::status::{FlowStatus, SessionState, VideoStatus};

use self::hands::Hand;
use self::world::{Late, Part, State};
use crate::explore::{self, Endings, First};

/// What a mutant lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safeguard {
    VideoIsLocked,
    LockedBeforeRead,
    VideoWaitsForAllFlows,
    GuardNamesEpoch,
    GuardNamesOwner,
    GuardNamesState,
    ExpiryRaisesEpoch,
    ExpiryClearsOwner,
    RetryRaisesEpoch,
    EveryUploadGetsATombstone,
    OnlyLiveOnesExpire,
    SealedOnesAreLeft,
    EmptiedVideosOnly,
    RetryOnlyFailed,
    RetryOnlyWhole,
    RetryNeedsBytes,
    RetryMindsOtherFlows,
    MarkBeforeBytesGo,
    ParkKeepsBytes,
    UnknownIsReadAgain,
}

/// The model; a mutant if it is without safeguards.
pub struct EndOfLife {
    worlds: Vec<State>,
    without: &'static [Safeguard],
    endings: Endings,
    firsts: [First; 2],
}

/// What may happen next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A replica takes a session to feed; its bytes will turn out to be damaged, or not.
    Claim {
        part: usize,
        replica: u8,
        damaged: bool,
    },
    /// A feed reads the flows before its lock is granted (a mutant does).
    Peek {
        feed: usize,
    },
    /// A feed takes the next of its steps.
    Feed {
        feed: usize,
    },
    /// A chunk that was on its way is judged and written.
    Chunk {
        part: usize,
        late: usize,
    },
    /// The janitor ends what is abandoned: first the uploads, later the video.
    Expire,
    DeleteVideo,
    /// It ends a session whose rows others removed.
    Reap {
        part: usize,
    },
    /// It gives up the bytes of a parked session, and removes what is to be removed.
    GiveUp {
        part: usize,
    },
    RemoveBytes {
        part: usize,
    },
    /// A commit lands.
    Land {
        transaction: usize,
    },
    /// A fault, or an intervention.
    Hand(Hand),
}

impl EndOfLife {
    fn new(worlds: Vec<State>, without: &'static [Safeguard]) -> Self {
        EndOfLife { worlds, without, endings: Endings::default(), firsts: Default::default() }
    }

    fn has(&self, safeguard: Safeguard) -> bool {
        !self.without.contains(&safeguard)
    }
}

const RULES: &str = "no rule is broken";
const END: &str = "once faults stop, every session ends";

/// The rules that a state by itself can break.
fn rules(state: &State) -> Result<(), String> {
    for (number, part) in state.parts.iter().enumerate() {
        session_is_sound(&state.session(number)).map_err(|broken| broken.to_string())?;
        let wanted = part.is_live() && part.own.as_ref().is_some_and(|own| own.committed > 0);
        if wanted && !part.bytes {
            return Err("the bytes of a live session are gone".to_owned());
        }
    }
    let flows: Vec<FlowStatus> = state.flows().into_iter().flatten().collect();
    match state.video {
        Some(video) if !state.meddled => video_agrees(video, &flows).map_err(|broken| broken.to_string()),
        Some(_) | None => Ok(()),
    }
}

impl Model for EndOfLife {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.worlds.clone()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_none() {
            self.steps(state, actions);
            self.janitor(state, actions);
            self.hands(state, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.carry_out(&mut next, action);
        next.note(rules(&next));
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(RULES, |model: &EndOfLife, state: &State| {
                state.broken.is_none() || !model.firsts[0].is()
            }),
            Property::always(END, |model: &EndOfLife, state: &State| {
                model.ends_well(state) || !model.firsts[1].is()
            }),
            Property::sometimes("a video is distributed", |_, state: &State| {
                state.video == Some(VideoStatus::Distributed)
            }),
            Property::sometimes("one session is done and the other one expired", |_, state: &State| {
                let states = state.parts.each_ref().map(Part::state);
                states.contains(&Some(SessionState::Done)) && states.contains(&Some(SessionState::Expired))
            }),
            Property::sometimes("a parked session is tried again and completes", |_, state: &State| {
                state.parts.iter().any(|part| part.state() == Some(SessionState::Done) && part.retried)
            }),
            Property::sometimes("an emptied video is deleted", |_, state: &State| {
                state.video.is_none() && !state.meddled
            }),
            Property::sometimes("two feeds of one session are awake", |_, state: &State| {
                state.feeds.len() > 1 && state.feeds[0].part == state.feeds[1].part
            }),
        ]
    }
}

/// Every combination of two sessions that matters to their video's end.
fn worlds() -> Vec<State> {
    use SessionState::{Failed, Open, Sealed};
    let left = if explore::wide() { 2 } else { 1 };
    let sealed = || Part::stored(Sealed, 2, FlowStatus::Processing);
    let open = || Part::stored(Open, 1, FlowStatus::Uploading).with(&[Late::First, Late::Second]);
    let announced = || Part::announced().with(&[Late::First, Late::Second]);
    let failed = || Part::stored(Failed, 2, FlowStatus::Hidden);
    let half_failed = || Part::stored(Failed, 1, FlowStatus::Hidden).with(&[Late::Second]);
    let world = |video, parts| State::new(video, parts, left);
    vec![
        world(VideoStatus::Uploading, [sealed(), sealed()]),
        world(VideoStatus::Uploading, [sealed(), open()]),
        world(VideoStatus::Uploading, [sealed(), announced()]),
        world(VideoStatus::Uploading, [open(), announced()]),
        world(VideoStatus::Blocked, [failed(), open()]),
        world(VideoStatus::Blocked, [failed(), failed()]),
        world(VideoStatus::Blocked, [half_failed(), sealed()]),
    ]
}

#[test]
fn a_video_comes_to_its_end_whatever_ends_its_sessions() {
    explore::holds("end of life", EndOfLife::new(worlds(), &[]));
}
