//! The world of a video's end: its rows, the transactions on their way, and the memory of feeds.

use uploader_v4::domain::chunk::ChunkFacts;
use uploader_v4::domain::ids::{FlowId, ReplicaId, SessionId, VideoId};
use uploader_v4::domain::invariants::UploadHistory;
use uploader_v4::domain::recent::Recent;
use uploader_v4::domain::session::{OwnRow, Session, SharedRows};
use uploader_v4::domain::status::{FlowStatus, SessionState, VideoStatus};
use uuid::Uuid;

/// Bytes of each file.
pub const TOTAL: i64 = 2;

/// Everything there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The row in `videos`.
    pub video: Option<VideoStatus>,
    pub parts: [Part; 2],
    /// Transactions that have judged and written, and whose commit is on its way.
    pub open: Vec<Open>,
    pub feeds: Vec<FeedMemory>,
    /// Faults and interventions that may still come.
    pub left: u8,
    /// Other hands wrote statuses: they need not agree any more.
    pub meddled: bool,
    /// The first rule that was broken.
    pub broken: Option<String>,
}

/// One session of the video, with its flow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Part {
    pub own: Option<OwnRow>,
    pub epoch: i64,
    pub flow: Option<FlowStatus>,
    /// `uploaded_bytes` of its row in `upload_sessions`.
    pub upload: Option<i64>,
    /// `spool_gone_at` is set.
    pub given_up: bool,
    /// Somebody is about to remove its bytes.
    pub removing: bool,
    /// Its bytes are in the spool.
    pub bytes: bool,
    /// An operator tried it again.
    pub retried: bool,
    /// Chunks that are on their way.
    pub late: Vec<Late>,
    pub history: UploadHistory,
}

/// A chunk of a file of two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Late {
    First,
    Second,
}

impl Late {
    pub fn facts(self) -> ChunkFacts {
        ChunkFacts { session: SessionId(Uuid::nil()), start: self as i64, size: 1, digest: self as u128 }
    }
}

/// A transaction and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Open {
    pub locks_video: bool,
    pub locks: [bool; 2],
    pub write: Write,
}

/// What a transaction writes, decided on the rows that it holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Write {
    Complete { part: usize, epoch: i64, owner: ReplicaId, video_too: bool },
    Park { part: usize, epoch: i64, owner: ReplicaId },
    Expire { ending: [bool; 2], burying: [bool; 2], plays: bool },
    DeleteVideo,
    Retry { part: usize, unblock: bool },
    ByHand { part: usize, own: bool, block: bool },
    Chunk { part: usize, after: Session },
}

/// What a process remembers of one feed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FeedMemory {
    pub part: usize,
    pub owner: ReplicaId,
    pub epoch: i64,
    /// Its bytes turned out to be damaged, or else they were fed and finished.
    pub damaged: bool,
    pub at: At,
    /// For a mutant that reads before its lock is granted: the flows as they were then.
    pub seen: Option<[Option<FlowStatus>; 2]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum At {
    /// It is about to end the session.
    Ending,
    /// That is on its way.
    Written,
    /// Nothing is known of it.
    Unsure,
    /// It is to remove route and spool.
    CleaningUp,
}

impl FeedMemory {
    /// Whether this is the one that a write belongs to.
    pub fn wrote(&self, write: &Write) -> bool {
        match write {
            Write::Complete { part, epoch, owner, .. } | Write::Park { part, epoch, owner } => {
                (self.part, self.epoch, self.owner, self.at) == (*part, *epoch, *owner, At::Written)
            }
            Write::Expire { .. }
            | Write::DeleteVideo
            | Write::Retry { .. }
            | Write::ByHand { .. }
            | Write::Chunk { .. } => false,
        }
    }
}

impl Part {
    /// A session that was announced and has no row of ours.
    pub fn announced() -> Self {
        Part {
            own: None,
            epoch: 0,
            flow: Some(FlowStatus::Created),
            upload: Some(0),
            given_up: false,
            removing: false,
            bytes: false,
            retried: false,
            late: Vec::new(),
            history: UploadHistory::default(),
        }
    }

    /// One with so many bytes stored, in chunks of one byte.
    pub fn stored(state: SessionState, bytes: i64, flow: FlowStatus) -> Self {
        let mut recent = Recent::default();
        [Late::First, Late::Second]
            .iter()
            .take(bytes as usize)
            .for_each(|late| recent.remember(&late.facts()));
        let own = OwnRow { state, committed: bytes, recent, last_error: None, owner: None };
        Part { own: Some(own), flow: Some(flow), upload: Some(bytes), bytes: true, ..Part::announced() }
    }

    pub fn with(self, late: &[Late]) -> Self {
        Part { late: late.to_vec(), ..self }
    }

    pub fn state(&self) -> Option<SessionState> {
        self.own.as_ref().map(|own| own.state)
    }

    pub fn is_live(&self) -> bool {
        matches!(self.state(), Some(SessionState::Open | SessionState::Sealed))
    }
}

impl State {
    pub fn new(video: VideoStatus, parts: [Part; 2], left: u8) -> Self {
        State {
            video: Some(video),
            parts,
            open: Vec::new(),
            feeds: Vec::new(),
            left,
            meddled: false,
            broken: None,
        }
    }

    /// The rows of one session, as `decide` sees them.
    pub fn session(&self, part: usize) -> Session {
        let Part { own, flow, upload, .. } = &self.parts[part];
        let shared = match (upload, flow, self.video) {
            (Some(uploaded), Some(flow), Some(video)) => Some(SharedRows {
                flow: FlowId(Uuid::from_u128(part as u128)),
                video: VideoId(Uuid::nil()),
                total_bytes: TOTAL,
                uploaded_bytes: *uploaded,
                flow_status: *flow,
                video_status: video,
            }),
            _ => None,
        };
        Session { own: own.clone(), shared, unreadable: None }
    }

    pub fn flows(&self) -> [Option<FlowStatus>; 2] {
        [self.parts[0].flow, self.parts[1].flow]
    }

    /// Whether nobody holds these rows.
    pub fn is_free(&self, video: bool, parts: [bool; 2]) -> bool {
        self.open.iter().all(|open| {
            let contested = [open.locks_video && video, open.locks[0] && parts[0], open.locks[1] && parts[1]];
            contested == [false; 3]
        })
    }

    /// Notes the first rule that is broken.
    pub fn note<E: std::fmt::Display>(&mut self, rule: Result<(), E>) {
        if let Err(violation) = rule
            && self.broken.is_none()
        {
            self.broken = Some(violation.to_string());
        }
    }

    pub fn require(&mut self, holds: bool, broken: &str) {
        self.note(if holds { Ok(()) } else { Err(broken) });
    }
}

/// Only this one of the two.
pub fn only(part: usize) -> [bool; 2] {
    [part == 0, part == 1]
}
