//! What becomes of a chunk, given the state of its session.

mod refusal;

use std::time::Duration;

use super::chunk::ChunkFacts;
use super::ids::{FlowId, ReplicaId, VideoId};
use super::recent::Recent;
use super::status::{FlowStatus, SessionState, VideoStatus};

/// The shared rows of a session, as the whole platform sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SharedRows {
    /// `upload_sessions.flow_id`
    pub flow: FlowId,
    /// `flows.video_id`
    pub video: VideoId,
    /// `upload_sessions.total_bytes`
    pub total_bytes: i64,
    /// `upload_sessions.uploaded_bytes`
    pub uploaded_bytes: i64,
    /// `flows.status`
    pub flow_status: FlowStatus,
    /// `videos.status`
    pub video_status: VideoStatus,
}

/// Our own row of a session, as far as chunks are concerned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OwnRow {
    /// `uploader.session.state`
    pub state: SessionState,
    /// Bytes stored without a gap from 0.
    pub committed: i64,
    /// The newest chunks.
    pub recent: Recent,
    /// Why it FAILED or EXPIRED, if it did.
    pub last_error: Option<String>,
    /// The replica that feeds it, and whether anybody does.
    pub owner: Option<ReplicaId>,
}

/// All that is known of a session. Either part may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Session {
    /// Our row; none before the first chunk.
    pub own: Option<OwnRow>,
    /// The shared rows; none when the session is unknown or was removed.
    pub shared: Option<SharedRows>,
    /// What stands in one of its rows and cannot be read; the part it belongs to is none then.
    pub unreadable: Option<String>,
}

/// The limits a chunk is judged by, and how long it has waited.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How far ahead of `committed` an early chunk may start, in bytes.
    pub window_bytes: i64,
    /// How long an early chunk may wait for the gap to close.
    pub reorder_wait: Duration,
    /// How long this chunk has waited so far, without the time its predecessor was held here.
    pub waited: Duration,
    /// Bytes of the spool's quota that no session has reserved.
    pub spool_left: i64,
}

/// The right to store one chunk. Only [`decide`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Admission {
    facts: ChunkFacts,
    first: bool,
    last: bool,
}

impl Admission {
    /// The admitted chunk.
    pub fn facts(&self) -> ChunkFacts {
        self.facts
    }

    /// Whether it opens its session: flow and video become UPLOADING.
    pub fn first(&self) -> bool {
        self.first
    }

    /// Whether it completes its file: the session is sealed, the flow becomes PROCESSING.
    pub fn last(&self) -> bool {
        self.last
    }
}

/// Why a chunk is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For the sender.
    pub reason: String,
    /// The offset that would be taken, on a mismatch.
    pub expected: Option<i64>,
    /// Whether the same chunk may be taken later.
    pub retryable: bool,
    /// For metrics: one of a few words.
    pub kind: RefusalKind,
}

/// Refusals by cause, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// Its headers or size are bad.
    Malformed,
    /// Nobody knows its session, or parts of it are gone.
    Unknown,
    /// Its session, flow or video has ended or was given up.
    Ended,
    /// The rows contradict each other.
    Inconsistent,
    /// It is not the next chunk.
    Offset,
    /// The spool is full.
    StorageFull,
    /// Too many early chunks wait.
    Crowded,
    /// A dependency was away for too long.
    Unavailable,
}

impl RefusalKind {
    /// The word that it is counted under.
    pub fn word(self) -> &'static str {
        match self {
            RefusalKind::Malformed => "malformed",
            RefusalKind::Unknown => "unknown",
            RefusalKind::Ended => "ended",
            RefusalKind::Inconsistent => "inconsistent",
            RefusalKind::Offset => "offset",
            RefusalKind::StorageFull => "storage_full",
            RefusalKind::Crowded => "crowded",
            RefusalKind::Unavailable => "unavailable",
        }
    }
}

/// The next step for one chunk. Whoever matches on it must pass the ticket on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It was stored before: `ack` again.
    Repeat,
    /// Store it.
    Accept(Admission),
    /// It is early: let others pass and look again.
    StepAside,
    /// `nack` it.
    Refuse(Refusal),
}

/// Judges one chunk against its session; returns the session as it is once the step is done.
///
/// The order is the contract: the first rule that fits answers.
pub fn decide(session: &Session, chunk: &ChunkFacts, terms: &Terms) -> (Session, Next) {
    if session.own.as_ref().is_some_and(|own| own.recent.holds(chunk)) {
        return (session.clone(), Next::Repeat);
    }
    let committed = match standing(session) {
        Ok(committed) => committed,
        Err(refusal) => return (session.clone(), Next::Refuse(refusal)),
    };
    let total = session.shared.map_or(0, |shared| shared.total_bytes);
    if chunk.end() > total {
        let reason = format!("chunk ends at byte {}, past the end of the file at {total}", chunk.end());
        return (session.clone(), Next::Refuse(mismatch(reason, committed, false)));
    }
    if chunk.start == committed {
        return accept(session, chunk, total, terms);
    }
    let early = chunk.start > committed && chunk.start - committed <= terms.window_bytes;
    if early && terms.waited < terms.reorder_wait {
        return (session.clone(), Next::StepAside);
    }
    let reason = format!("chunk starts at byte {}, expected {committed}", chunk.start);
    (session.clone(), Next::Refuse(mismatch(reason, committed, early)))
}

/// Whether the session takes chunks at all; the offset it expects, or why not.
fn standing(session: &Session) -> Result<i64, Refusal> {
    if let Some(what) = &session.unreadable {
        let reason = format!("the session's rows cannot be read: {what}");
        return Err(refusal(RefusalKind::Inconsistent, &reason));
    }
    if let Some(own) = &session.own {
        alive(own)?;
    }
    let Some(shared) = &session.shared else {
        let removed =
            if session.own.is_some() { "upload session was removed" } else { "upload session is unknown" };
        return Err(refusal(RefusalKind::Unknown, removed));
    };
    in_demand(shared)?;
    if shared.total_bytes < 1 {
        return Err(refusal(RefusalKind::Inconsistent, "the file is empty, there is nothing to upload"));
    }
    let committed = session.own.as_ref().map_or(0, |own| own.committed);
    if shared.uploaded_bytes == committed {
        return Ok(committed);
    }
    Err(refusal(RefusalKind::Inconsistent, &foreign_progress(session.own.is_some(), shared, committed)))
}

fn alive(own: &OwnRow) -> Result<(), Refusal> {
    let because = |what: &str| match &own.last_error {
        Some(reason) => refusal(RefusalKind::Ended, &format!("{what}: {reason}")),
        None => refusal(RefusalKind::Ended, what),
    };
    match own.state {
        SessionState::Open | SessionState::Sealed => Ok(()),
        SessionState::Done => Err(because("upload is complete")),
        SessionState::Expired => Err(because("upload has expired")),
        SessionState::Failed => Err(because("upload has failed")),
    }
}

fn in_demand(shared: &SharedRows) -> Result<(), Refusal> {
    match shared.video_status {
        VideoStatus::Created | VideoStatus::Uploading => {}
        VideoStatus::Distributed => return Err(refusal(RefusalKind::Ended, "video is already distributed")),
        VideoStatus::Blocked => return Err(refusal(RefusalKind::Ended, "video is blocked")),
    }
    match shared.flow_status {
        FlowStatus::Created | FlowStatus::Uploading | FlowStatus::Processing => Ok(()),
        FlowStatus::Distributed => Err(refusal(RefusalKind::Ended, "flow is already distributed")),
        FlowStatus::Hidden => Err(refusal(RefusalKind::Ended, "flow is hidden")),
    }
}

fn foreign_progress(ours: bool, shared: &SharedRows, committed: i64) -> String {
    let uploaded = shared.uploaded_bytes;
    if ours {
        format!("the session's row says {uploaded} bytes, but {committed} are stored")
    } else {
        format!("another uploader took the first {uploaded} bytes, they are not in this spool")
    }
}

fn accept(session: &Session, chunk: &ChunkFacts, total: i64, terms: &Terms) -> (Session, Next) {
    let first = session.own.is_none();
    if first && total > terms.spool_left {
        let full = refusal(RefusalKind::StorageFull, "storage full, try again later");
        return (session.clone(), Next::Refuse(Refusal { retryable: true, ..full }));
    }
    let last = chunk.end() == total;
    let mut after = session.clone();
    let own = after.own.get_or_insert_with(|| OwnRow {
        state: SessionState::Open,
        committed: 0,
        recent: Recent::default(),
        last_error: None,
        owner: None,
    });
    own.committed = chunk.end();
    own.recent.remember(chunk);
    own.state = if last { SessionState::Sealed } else { own.state };
    if let Some(shared) = &mut after.shared {
        advance(shared, chunk.end(), last);
    }
    (after, Next::Accept(Admission { facts: *chunk, first, last }))
}

fn advance(shared: &mut SharedRows, uploaded: i64, last: bool) {
    shared.uploaded_bytes = uploaded;
    if shared.video_status == VideoStatus::Created {
        shared.video_status = VideoStatus::Uploading;
    }
    if last {
        shared.flow_status = FlowStatus::Processing;
    } else if shared.flow_status == FlowStatus::Created {
        shared.flow_status = FlowStatus::Uploading;
    }
}

fn mismatch(reason: String, expected: i64, retryable: bool) -> Refusal {
    Refusal { reason, expected: Some(expected), retryable, kind: RefusalKind::Offset }
}

fn refusal(kind: RefusalKind, reason: &str) -> Refusal {
    Refusal { reason: reason.to_owned(), expected: None, retryable: false, kind }
}

#[cfg(test)]
mod tests;
