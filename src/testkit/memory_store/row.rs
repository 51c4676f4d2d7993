//! One session's rows: those that the whole system shares, and ours.

use crate::clock;
use crate::domain::ids::{Epoch, FlowId, Generation, ReplicaId, SessionId, Timestamp, VideoId};
use crate::domain::session::{OwnRow, Session, SharedRows};
use crate::domain::status::{FlowStatus, SessionState, VideoStatus};
use crate::gateways::spool::Run;
use crate::gateways::upload_store::feeds::{FeedRow, Guard};

/// One session as it is stored. `own` holds what chunks change, the rest belongs to the feed.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Gone once the session is DISTRIBUTED, or when somebody removed it.
    pub shared: Option<SharedRows>,
    /// None before the first chunk.
    pub own: Option<OwnRow>,
    /// `flows.status`, which outlives the shared session row.
    pub flow_status: FlowStatus,
    /// `videos.status`, likewise.
    pub video_status: VideoStatus,
    /// The row it fills.
    pub flow: FlowId,
    /// The video of that row.
    pub video: VideoId,
    /// Bytes of the file.
    pub total_bytes: i64,
    /// Where the spool holds its bytes.
    pub runs: Vec<Run>,
    /// The fencing number.
    pub epoch: Epoch,
    /// The newest generation.
    pub generation: Generation,
    /// Its address.
    pub flow_url: Option<String>,
    /// Bytes it got, as the last release told.
    pub fed: i64,
    /// Released with nothing in doubt.
    pub settled: bool,
    /// The most bytes a failed generation got.
    pub farthest: i64,
    /// Strikes.
    pub strikes: i32,
    /// Not to be claimed before.
    pub next_attempt: Option<Timestamp>,
    /// A finish was written down.
    pub finish_sent: Option<Timestamp>,
    /// Since when it fails without progress.
    pub failing: Option<Timestamp>,
    /// Route, spool and runs are gone.
    pub cleaned: bool,
    /// The bytes of a failed session were given up.
    pub spool_gone: bool,
    /// The row in `flows` was removed.
    pub flow_gone: bool,
    /// Somebody else's transaction holds its rows.
    pub locked: bool,
    /// When the newest generation was numbered.
    pub generation_at: Option<Timestamp>,
    /// When its newest chunk was stored, or its upload announced.
    pub last_activity: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    pub(super) created: u64,
}

impl Row {
    pub(super) fn new(shared: SharedRows, created: u64) -> Self {
        Row {
            flow_status: shared.flow_status,
            video_status: shared.video_status,
            flow: shared.flow,
            video: shared.video,
            total_bytes: shared.total_bytes,
            shared: Some(shared),
            own: None,
            runs: Vec::new(),
            epoch: Epoch(0),
            generation: Generation(0),
            flow_url: None,
            fed: 0,
            settled: false,
            farthest: 0,
            strikes: 0,
            next_attempt: None,
            finish_sent: None,
            failing: None,
            cleaned: false,
            spool_gone: false,
            flow_gone: false,
            locked: false,
            generation_at: None,
            last_activity: clock::now(),
            ended_at: None,
            created,
        }
    }

    /// Where the session stands; none before its first chunk.
    pub fn state(&self) -> Option<SessionState> {
        self.own.as_ref().map(|own| own.state)
    }

    /// Bytes stored.
    pub fn committed(&self) -> i64 {
        self.own.as_ref().map_or(0, |own| own.committed)
    }

    /// Who feeds it.
    pub fn owner(&self) -> Option<ReplicaId> {
        self.own.as_ref().and_then(|own| own.owner)
    }

    /// Whether it is OPEN or SEALED.
    pub fn is_live(&self) -> bool {
        matches!(self.state(), Some(SessionState::Open | SessionState::Sealed))
    }

    /// Whether it is DONE or EXPIRED.
    pub fn is_final(&self) -> bool {
        matches!(self.state(), Some(SessionState::Done | SessionState::Expired))
    }

    /// Another replica takes it over.
    pub fn take_over(&mut self, owner: ReplicaId) {
        self.epoch.0 += 1;
        self.settled = false;
        self.set_owner(Some(owner));
    }

    pub(super) fn set_owner(&mut self, owner: Option<ReplicaId>) {
        if let Some(own) = &mut self.own {
            own.owner = owner;
        }
    }

    /// Sets the status of flow and video, in the shared row too while it is there.
    pub(super) fn set_statuses(&mut self, flow: FlowStatus, video: VideoStatus) {
        (self.flow_status, self.video_status) = (flow, video);
        if let Some(shared) = &mut self.shared {
            (shared.flow_status, shared.video_status) = (flow, video);
        }
    }

    /// What chunks are judged by.
    pub fn session(&self) -> Session {
        Session { own: self.own.clone(), shared: self.shared, unreadable: None }
    }

    pub(super) fn reserves(&self) -> bool {
        self.own.is_some() && (self.is_live() || !self.cleaned)
    }

    /// The guard of every write of a feed.
    pub(super) fn admits(&self, guard: &Guard) -> bool {
        self.is_live()
            && self.owner() == Some(guard.owner)
            && self.epoch == guard.epoch
            && self.generation == guard.generation
    }

    pub(super) fn feed_row(&self, session: SessionId) -> Option<FeedRow> {
        let own = self.own.as_ref()?;
        Some(FeedRow {
            session,
            owner: own.owner,
            epoch: self.epoch,
            generation: self.generation,
            flow_url: self.flow_url.clone(),
            finish_sent: self.finish_sent.is_some(),
            state: own.state,
            committed: own.committed,
        })
    }
}
