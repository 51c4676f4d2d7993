//! The world of the chunk road: one session, two replicas, and everything that outlives them.

use uploader_v4::domain::chunk::ChunkFacts;
use uploader_v4::domain::ids::{FlowId, ReplicaId, SessionId, VideoId};
use uploader_v4::domain::invariants::UploadHistory;
use uploader_v4::domain::run::{RecordPlace, Run};
use uploader_v4::domain::session::{OwnRow, Refusal, Session, SharedRows};
use uploader_v4::domain::status::{FlowStatus, SessionState, VideoStatus};
use uuid::Uuid;

/// What clients may send: pieces of a file of a few bytes, each as a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Piece {
    /// Byte 0.
    A,
    /// Byte 1.
    B,
    /// Byte 2.
    C,
    /// Bytes 0 and 1 at once: it overlaps A and B.
    AB,
    /// Another byte 0 than A.
    X,
    /// Another byte 1 than B.
    Y,
    /// Bytes 1 to 3: past the end of any file here.
    Past,
}

impl Piece {
    pub fn facts(self) -> ChunkFacts {
        let (start, size) = match self {
            Piece::A | Piece::X => (0, 1),
            Piece::B | Piece::Y => (1, 1),
            Piece::C => (2, 1),
            Piece::AB => (0, 2),
            Piece::Past => (1, 3),
        };
        ChunkFacts { session: SessionId(Uuid::nil()), start, size, digest: self as u128 }
    }
}

/// What is sent, in any order: a delivery that was not handed out yet is one that was not sent yet.
#[derive(Debug, Clone)]
pub struct Script {
    /// Bytes of the file.
    pub total: i64,
    /// One delivery each.
    pub sent: &'static [Piece],
    /// All of it are pieces of one file, perhaps repeated: without a fault none is refused.
    pub proper: bool,
}

/// Everything there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub database: Database,
    /// Each writer's file.
    pub files: Vec<Vec<Record>>,
    /// In a fixed order: worlds that differ in their names alone are one.
    pub replicas: [Replica; 2],
    pub broker: Vec<Delivery>,
    /// Faults that may still come.
    pub faults_left: u8,
    /// Nothing but good luck so far, and pieces of one file alone were sent.
    pub undisturbed: bool,
    pub history: UploadHistory,
    /// The first rule that was broken.
    pub broken: Option<String>,
}

/// PostgreSQL, and what it is asked to keep.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Database {
    pub session: Session,
    pub runs: Vec<Run>,
    /// Transactions that hold locks; at most one unless nothing is locked.
    pub open: Vec<Transaction>,
    /// Whether the quota has room for one more session.
    pub room: bool,
    /// Another uploader takes chunks of this session too.
    pub foreign: bool,
}

/// A transaction that has judged and written, and whose commit is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Transaction {
    pub place: RecordPlace,
    pub after: Session,
    pub run: Run,
}

/// A stretch of a writer's file, one unit long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Record {
    Whole(Piece),
    /// An append that failed half-way.
    Torn,
}

/// One delivery, as the broker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Delivery {
    pub piece: Piece,
    pub whereabouts: Whereabouts,
    pub answered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whereabouts {
    Queued,
    /// Handed out and not acked.
    Out,
    Acked,
}

/// The memory of one process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Replica {
    /// The number of the file that it appends to.
    pub file: Option<usize>,
    pub held: Vec<Held>,
}

/// One delivery in a replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Held {
    /// Its number at the broker.
    pub delivery: usize,
    /// It came on a link that is gone: nobody waits for its answer.
    pub stale: bool,
    pub stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It waits for a look; its bytes may be durable already.
    Waiting(Option<RecordPlace>),
    /// The look admitted it: its bytes are to be stored.
    Admitted(Looked),
    /// They are durable: it is to be committed.
    Stored(RecordPlace, Looked),
    /// Its transaction is on its way.
    Committing(RecordPlace),
    /// Its answer is to be published.
    Answering(Answer),
    /// That was confirmed: the delivery is to be acked.
    Replied(Answer),
}

/// The rows as the look would have them, for a mutant that believes it; the road itself forgets them.
pub type Looked = Option<Box<Session>>;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    Ack,
    Nack { retryable: bool, reason: String },
}

impl Answer {
    pub fn of(refusal: Refusal) -> Self {
        Answer::Nack { retryable: refusal.retryable, reason: refusal.reason }
    }
}

impl Stage {
    /// It is on its way into the spool or the database: no other chunk of its session is, in this replica.
    pub fn is_busy(&self) -> bool {
        match self {
            Stage::Admitted(_) | Stage::Stored(..) | Stage::Committing(_) => true,
            Stage::Waiting(_) | Stage::Answering(_) | Stage::Replied(_) => false,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Stage::Waiting(None) => 0,
            Stage::Waiting(Some(_)) => 1,
            Stage::Admitted(_) => 2,
            Stage::Stored(..) => 3,
            Stage::Committing(_) => 4,
            Stage::Answering(_) => 5,
            Stage::Replied(_) => 6,
        }
    }
}

// The order means nothing: it makes one out of worlds that differ in the order of things alone.
impl Ord for Stage {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank()).then_with(|| format!("{self:?}").cmp(&format!("{other:?}")))
    }
}

impl PartialOrd for Stage {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl State {
    pub fn new(script: &Script, faults: u8) -> Self {
        let shared = SharedRows {
            flow: FlowId(Uuid::nil()),
            video: VideoId(Uuid::nil()),
            total_bytes: script.total,
            uploaded_bytes: 0,
            flow_status: FlowStatus::Created,
            video_status: VideoStatus::Created,
        };
        let queued =
            |piece: &Piece| Delivery { piece: *piece, whereabouts: Whereabouts::Queued, answered: false };
        State {
            database: Database {
                session: Session { shared: Some(shared), ..Session::default() },
                runs: Vec::new(),
                open: Vec::new(),
                room: true,
                foreign: false,
            },
            files: Vec::new(),
            replicas: Default::default(),
            broker: script.sent.iter().map(queued).collect(),
            faults_left: faults,
            undisturbed: script.proper,
            history: UploadHistory::default(),
            broken: None,
        }
    }

    pub fn own(&self) -> Option<&OwnRow> {
        self.database.session.own.as_ref()
    }

    pub fn own_state(&self) -> Option<SessionState> {
        self.own().map(|own| own.state)
    }

    pub fn piece(&self, held: &Held) -> Piece {
        self.broker[held.delivery].piece
    }

    /// The chunks that can be read back out of the runs; whatever does not fit its run ends the reading there.
    pub fn readable(&self) -> Vec<ChunkFacts> {
        let mut read = Vec::new();
        for run in &self.database.runs {
            let Some(file) = self.files.get(run.place.writer.0.as_u128() as usize) else { break };
            let mut at = run.start;
            for position in run.place.position..run.place.record_end {
                let Some(Record::Whole(piece)) = file.get(position as usize) else { break };
                if piece.facts().start != at || at >= run.start + run.length {
                    break;
                }
                at = piece.facts().end();
                read.push(piece.facts());
            }
        }
        read
    }

    /// Notes the first rule that is broken.
    pub fn note<E: std::fmt::Display>(&mut self, rule: Result<(), E>) {
        if let Err(violation) = rule
            && self.broken.is_none()
        {
            self.broken = Some(violation.to_string());
        }
    }

    /// Replicas and what they hold in one fixed order.
    pub fn in_order(mut self) -> Self {
        self.replicas.iter_mut().for_each(|replica| replica.held.sort());
        self.replicas.sort();
        self
    }
}

/// The writer of a file, by its number.
pub fn writer(file: usize) -> ReplicaId {
    ReplicaId(Uuid::from_u128(file as u128))
}
