//! What holds whatever happens: checks over the states and steps that `session::decide` and `feed::decide` return.
//!
//! Pure and independent of how the deciding is done, so that tests, model and simulation share them.

mod farm_history;
mod feed_history;
mod journey;
mod upload_history;
mod video;

use std::fmt;

pub use farm_history::FarmHistory;
pub use feed_history::FeedHistory;
pub use journey::{
    Sighting, ack_is_sound, answers_are_sound, ending_is_sound, process_is_sound, progress_is_sound,
};
pub use upload_history::{UploadHistory, acked_is_stored, stored_is_the_prefix};
pub use video::video_agrees;

use super::chunk::ChunkFacts;
use super::session::{Admission, Next, OwnRow, Session, SharedRows};
use super::status::SessionState;

/// A rule that was broken; says which, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

/// The rule holds, or is broken like this.
fn require(holds: bool, broken: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation(broken())) }
}

/// A session's rows agree with each other: committed within the file, SEALED exactly when all of it is stored, and the
/// shared row as far as ours.
pub fn session_is_sound(session: &Session) -> Result<(), Violation> {
    let Some(own) = &session.own else {
        return Ok(());
    };
    require(own.committed >= 0, || format!("committed {} is negative", own.committed))?;
    match (&session.shared, own.state) {
        (Some(shared), SessionState::Open | SessionState::Sealed) => live_rows_agree(own, shared),
        (Some(_) | None, _) => Ok(()),
    }
}

fn live_rows_agree(own: &OwnRow, shared: &SharedRows) -> Result<(), Violation> {
    let (committed, total) = (own.committed, shared.total_bytes);
    require(committed <= total, || format!("committed {committed} is past the end at {total}"))?;
    require((own.state == SessionState::Sealed) == (committed == total), || {
        format!("{} with {committed} of {total} bytes", own.state.as_str())
    })?;
    require(shared.uploaded_bytes == committed, || {
        format!("uploaded_bytes {} unlike committed {committed}", shared.uploaded_bytes)
    })
}

/// One decision about a chunk changed what its answer says, and nothing else.
pub fn chunk_decision_is_sound(
    before: &Session,
    chunk: &ChunkFacts,
    after: &Session,
    next: &Next,
) -> Result<(), Violation> {
    match next {
        Next::Accept(admission) => acceptance_is_sound(before, chunk, after, admission),
        Next::Repeat => {
            let known = before.own.as_ref().is_some_and(|own| own.recent.holds(chunk));
            require(known, || format!("a chunk at {} was never stored, but is answered as if", chunk.start))?;
            unchanged(before, after)
        }
        Next::StepAside | Next::Refuse(_) => unchanged(before, after),
    }
}

fn unchanged(before: &Session, after: &Session) -> Result<(), Violation> {
    require(before == after, || format!("nothing was accepted, but {before:?} became {after:?}"))
}

fn acceptance_is_sound(
    before: &Session,
    chunk: &ChunkFacts,
    after: &Session,
    admission: &Admission,
) -> Result<(), Violation> {
    let committed = before.own.as_ref().map_or(0, |own| own.committed);
    require(chunk.start == committed, || format!("chunk at {} accepted at {committed}", chunk.start))?;
    require(admission.facts() == *chunk, || "another chunk was admitted".to_owned())?;
    let live =
        before.own.as_ref().is_none_or(|own| !is_final(own.state) && own.state != SessionState::Failed);
    require(live, || "a chunk was accepted into an ended session".to_owned())?;
    let Some(own) = &after.own else {
        return Err(Violation("a chunk was accepted, but there is no row".to_owned()));
    };
    require(own.committed == chunk.end(), || format!("committed {} after {}", own.committed, chunk.end()))?;
    require(own.recent.holds(chunk), || "an accepted chunk is not remembered".to_owned())?;
    require(admission.first() == before.own.is_none(), || "first chunk is told wrongly".to_owned())?;
    let sealed = own.state == SessionState::Sealed;
    require(admission.last() == sealed, || "last chunk does not seal".to_owned())?;
    session_is_sound(after)
}

/// A session's state may change like this: final states stay, FAILED leaves only for SEALED, nothing goes back to OPEN.
pub fn transition_is_sound(before: SessionState, after: SessionState) -> Result<(), Violation> {
    use SessionState::{Done, Expired, Failed, Open, Sealed};
    let allowed = match before {
        Open => matches!(after, Open | Sealed | Expired | Failed),
        Sealed => matches!(after, Sealed | Done | Expired | Failed),
        Failed => matches!(after, Failed | Sealed | Expired),
        Done | Expired => after == before,
    };
    require(allowed, || format!("{} became {}", before.as_str(), after.as_str()))
}

fn is_final(state: SessionState) -> bool {
    matches!(state, SessionState::Done | SessionState::Expired)
}
