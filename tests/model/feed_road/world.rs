//! One moment of the feed road: the session's row, Redis, the farm, two replicas, and what is on its way between them.

use std::sync::Arc;

use uploader_v4::domain::feed::{Feed, Numbering, Step};
use uploader_v4::domain::ids::{Epoch, Generation};
use uploader_v4::domain::invariants::{FarmHistory, FeedHistory};
use uploader_v4::domain::status::SessionState;

/// Bytes of the file; a block takes one.
pub const TOTAL: i64 = 2;

/// One run of a replica's process. A restarted one is somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Process {
    pub slot: usize,
    pub life: u8,
}

/// The session's row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Row {
    pub state: SessionState,
    pub committed: i64,
    pub owner: Option<Process>,
    pub epoch: Epoch,
    pub generation: Generation,
    /// Whose address it holds.
    pub flow_url: Option<Generation>,
    pub fed: i64,
    pub settled: bool,
    pub farthest: i64,
    pub strikes: i32,
    pub finish_sent: bool,
    pub failing: bool,
}

impl Row {
    pub fn live(&self) -> bool {
        matches!(self.state, SessionState::Open | SessionState::Sealed)
    }

    pub fn owned_by(&self, guard: &Guard) -> bool {
        self.live() && self.owner == Some(guard.owner) && self.epoch == guard.epoch
    }
}

/// An ffmpeg process at fflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flow {
    /// Not created yet.
    Absent,
    /// It takes bytes.
    Live,
    /// It was killed and fflow has not noticed: pushes are taken, a finish never answers.
    Zombie,
    /// Its finish writes the files; a delete ends it.
    Encoding,
    /// Its files travel to holder; fflow no longer knows its name.
    Transferring,
    /// fflow does not know it any more.
    Gone,
}

/// One replica of the uploader.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Replica {
    pub life: u8,
    pub alive: bool,
    /// Its heartbeat is in time, for itself and for the others.
    pub lease: bool,
    /// It was told to leave.
    pub leaving: bool,
    /// It has no time left to leave in.
    pub hurried: bool,
    pub running: Option<Running>,
}

/// A feed that runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Running {
    pub feed: Arc<Feed>,
    pub history: Arc<FeedHistory>,
    /// Its monotonic clock, in milliseconds since the claim.
    pub now: u64,
    pub pending: Pending,
}

/// What a feed waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pending {
    /// A moment.
    Time(u64),
    /// The lease, before it speaks to fflow.
    Lease(Step),
    /// Something that is answered on the spot.
    Asked(Step),
    /// Its letter is on the way, or its answer.
    Sent(Step),
    /// A write of unknown outcome is to be read again.
    Unsure(Step),
}

/// Who writes, and what the row must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guard {
    pub owner: Process,
    pub epoch: Epoch,
    pub generation: Generation,
}

/// A guarded write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Write {
    Number(Numbering),
    Record(Generation),
    Mark,
    Complete,
    Park,
    Release { settled: bool, fed: i64 },
}

/// A request to fflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    Create,
    Push { from: i64, to: i64 },
    Finish,
    Delete,
}

/// What is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Body {
    Write(Guard, Write),
    Call { to: Generation, verb: Verb },
}

/// Something on its way. It may arrive long after its sender stopped waiting for it, or died.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Letter {
    pub from: Process,
    pub epoch: Epoch,
    /// Its sender waits for the answer.
    pub awaited: bool,
    /// It has arrived, and is being worked on.
    pub arrived: bool,
    pub body: Body,
}

/// One moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub row: Row,
    /// Whose address Redis holds.
    pub route: Option<Generation>,
    /// Names to delete, by generation.
    pub strays: Vec<bool>,
    /// By generation; the first one is 1.
    pub flows: Vec<Flow>,
    pub replicas: [Replica; 2],
    pub wire: Vec<Letter>,
    pub farm: FarmHistory,
    /// Faults so far.
    pub faults: u8,
    /// The rule that was broken on the way here.
    pub broken: Option<String>,
}

impl World {
    /// An upload of which the first half is stored; nobody feeds it yet.
    pub fn new() -> Self {
        let replica =
            Replica { life: 0, alive: true, lease: true, leaving: false, hurried: false, running: None };
        World {
            row: Row {
                state: SessionState::Open,
                committed: TOTAL / 2,
                owner: None,
                epoch: Epoch(0),
                generation: Generation(0),
                flow_url: None,
                fed: 0,
                settled: false,
                farthest: 0,
                strikes: 0,
                finish_sent: false,
                failing: false,
            },
            route: None,
            strays: Vec::new(),
            flows: Vec::new(),
            replicas: [replica.clone(), replica],
            wire: Vec::new(),
            farm: FarmHistory::new(TOTAL),
            faults: 0,
            broken: None,
        }
    }

    pub fn flow(&self, generation: Generation) -> Flow {
        self.flows.get(index(generation)).copied().unwrap_or(Flow::Absent)
    }

    pub fn set_flow(&mut self, generation: Generation, flow: Flow) {
        let at = index(generation);
        if self.flows.len() <= at {
            self.flows.resize(at + 1, Flow::Absent);
        }
        self.flows[at] = flow;
    }

    pub fn is_stray(&self, generation: Generation) -> bool {
        self.strays.get(index(generation)).copied().unwrap_or(false)
    }

    pub fn add_stray(&mut self, generation: Generation) {
        let at = index(generation);
        if self.strays.len() <= at {
            self.strays.resize(at + 1, false);
        }
        self.strays[at] = true;
    }

    pub fn process(&self, slot: usize) -> Process {
        Process { slot, life: self.replicas[slot].life }
    }

    /// A rule holds, or the world is broken from here on.
    pub fn require<E: std::fmt::Display>(&mut self, holds: Result<(), E>) {
        if let Err(violation) = holds {
            self.broken.get_or_insert_with(|| violation.to_string());
        }
    }

    /// Generations whose process has been created, in order.
    pub fn generations(&self) -> impl Iterator<Item = Generation> + use<> {
        (1..self.flows.len()).map(|at| Generation(i32::try_from(at).unwrap_or(i32::MAX)))
    }

    /// A finish is on its way to a process, or at work in one.
    pub fn finish_under_way(&self) -> bool {
        let working = self.flows.iter().any(|flow| matches!(flow, Flow::Encoding | Flow::Transferring));
        let coming = self
            .wire
            .iter()
            .any(|letter| !letter.arrived && matches!(letter.body, Body::Call { verb: Verb::Finish, .. }));
        working || coming
    }
}

fn index(generation: Generation) -> usize {
    usize::try_from(generation.0).unwrap_or(0)
}
