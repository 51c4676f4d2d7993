//! What the senders of one session were told, and what must therefore be so for good.

use super::{Violation, is_final, require, transition_is_sound};
use crate::domain::chunk::ChunkFacts;
use crate::domain::session::{OwnRow, Refusal, Session};
use crate::domain::status::SessionState;

/// Follows one session from outside: its answers, and each change of its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct UploadHistory {
    acked: Vec<ChunkFacts>,
    /// It was final, or its rows were gone, once.
    over: bool,
}

impl UploadHistory {
    /// The chunks that were answered `ack`.
    pub fn acked(&self) -> &[ChunkFacts] {
        &self.acked
    }

    /// A chunk is answered `ack`, while `stored` are the chunks that can be read back below `committed`.
    ///
    /// # Errors
    /// The chunk is not one of them.
    pub fn accept(&mut self, chunk: &ChunkFacts, stored: &[ChunkFacts]) -> Result<(), Violation> {
        if !self.acked.contains(chunk) {
            self.acked.push(*chunk);
            self.acked.sort_by_key(|chunk| (chunk.start, chunk.size, chunk.digest));
        }
        acked_is_stored(&self.acked, stored)
    }

    /// A chunk is answered `nack`.
    ///
    /// # Errors
    /// The same chunk was answered `ack` before, and is refused for good.
    pub fn refuse(&self, chunk: &ChunkFacts, refusal: &Refusal) -> Result<(), Violation> {
        let steady = refusal.retryable || !self.acked.contains(chunk);
        require(steady, || {
            format!("an acked chunk at {} is refused when it comes again: {}", chunk.start, refusal.reason)
        })
    }

    /// The session is ended for good, whatever its rows say.
    pub fn end(&mut self) {
        self.over = true;
    }

    /// The session's rows changed, by whatever hand.
    ///
    /// # Errors
    /// An ended session comes back or moves, or bytes were taken back.
    pub fn change(&mut self, before: &Session, after: &Session) -> Result<(), Violation> {
        self.over |= is_over(before);
        if let (Some(was), Some(is)) = (&before.own, &after.own) {
            transition_is_sound(was.state, is.state)?;
            only_a_live_session_advances(was, is)?;
        }
        let live = after.own.as_ref().is_some_and(|own| !is_final(own.state));
        let came_back = self.over && live;
        require(!came_back, || format!("an ended session came back as {after:?}"))
    }
}

/// Final, or removed: of such a session nothing comes back. A parked one is left for an operator.
fn is_over(session: &Session) -> bool {
    match &session.own {
        Some(own) => is_final(own.state),
        None => session.shared.is_none(),
    }
}

fn only_a_live_session_advances(was: &OwnRow, is: &OwnRow) -> Result<(), Violation> {
    require(is.committed >= was.committed, || {
        format!("committed fell from {} to {}", was.committed, is.committed)
    })?;
    let live = was.state == SessionState::Open;
    let moved = was.committed != is.committed || was.recent != is.recent;
    require(live || !moved, || format!("a chunk was taken into a session that is {}", was.state.as_str()))
}

/// Every chunk that was answered `ack` can be read back as it came.
///
/// # Errors
/// One cannot.
pub fn acked_is_stored(acked: &[ChunkFacts], stored: &[ChunkFacts]) -> Result<(), Violation> {
    match acked.iter().find(|chunk| !stored.contains(chunk)) {
        None => Ok(()),
        Some(lost) => Err(Violation(format!("an acked chunk at {} is not stored", lost.start))),
    }
}

/// The chunks that can be read back are the file from 0 to `committed`: no gap, no byte twice.
///
/// # Errors
/// They are not.
pub fn stored_is_the_prefix(stored: &[ChunkFacts], committed: i64) -> Result<(), Violation> {
    let mut end = 0;
    for chunk in stored {
        require(chunk.start == end, || format!("stored bytes go on at {} after {end}", chunk.start))?;
        end = chunk.end();
    }
    require(end == committed, || format!("{end} bytes are stored, {committed} committed"))
}

#[cfg(test)]
mod tests;
