//! What holds for a session on its whole way, whoever carries it and whatever dies: seen from outside.

use super::{Violation, require, transition_is_sound};
use crate::domain::ids::{Epoch, Generation};
use crate::domain::status::SessionState;

/// A session's row as an onlooker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// Where it stands.
    pub state: SessionState,
    /// Bytes stored without a gap from 0.
    pub committed: i64,
    /// Changes of owner.
    pub epoch: Epoch,
    /// ffmpeg processes.
    pub generation: Generation,
}

/// Between two looks a session only went on: final states stay, and what is counted never falls.
pub fn progress_is_sound(before: &Sighting, after: &Sighting) -> Result<(), Violation> {
    transition_is_sound(before.state, after.state)?;
    let grows = before.committed <= after.committed
        && before.epoch <= after.epoch
        && before.generation <= after.generation;
    require(grows, || format!("{before:?} became {after:?}"))
}

/// An ffmpeg process got the file's bytes from 0 on, in order and each once; all of them before it finished.
pub fn process_is_sound(file: &[u8], got: &[u8], finished: bool) -> Result<(), Violation> {
    let common = file.iter().zip(got).take_while(|(wanted, given)| wanted == given).count();
    require(common == got.len(), || {
        format!("got {} bytes, the first wrong one at {common} of {}", got.len(), file.len())
    })?;
    require(!finished || got.len() == file.len(), || {
        format!("finished with {} of {} bytes", got.len(), file.len())
    })
}

/// What was answered `ack` up to `end` is stored: below `committed`, and readable as long as the session needs it.
pub fn ack_is_sound(end: i64, row: Option<&Sighting>, file: &[u8], stored: &[u8]) -> Result<(), Violation> {
    let Some(row) = row else {
        return Err(Violation(format!("acked up to {end}, but there is no row")));
    };
    require(row.committed >= end, || format!("acked up to {end}, but committed is {}", row.committed))?;
    if !matches!(row.state, SessionState::Open | SessionState::Sealed) {
        return Ok(());
    }
    let length = usize::try_from(row.committed).unwrap_or(0);
    require(file.get(..length) == stored.get(..length) && stored.len() >= length, || {
        format!("committed is {}, but {} bytes are readable or they are others", row.committed, stored.len())
    })
}

/// Each delivery is answered once at most; when all is quiet, each chunk was.
pub fn answers_are_sound(delivered: usize, answered: usize, quiet: bool) -> Result<(), Violation> {
    require(answered <= delivered, || format!("{answered} answers to {delivered} deliveries"))?;
    require(!quiet || answered > 0, || format!("{delivered} deliveries and no answer"))
}

/// How a session may end. `troubles` counts what was done to its processes.
pub fn ending_is_sound(
    state: Option<SessionState>,
    complete: bool,
    troubles: usize,
    least: usize,
) -> Result<(), Violation> {
    match state {
        Some(SessionState::Done) => require(complete, || "DONE, but not all of it was sent".to_owned()),
        Some(SessionState::Failed) => {
            require(troubles >= least, || format!("FAILED after {troubles} troubles, it takes {least}"))
        }
        None | Some(SessionState::Expired) => {
            require(!complete, || "a whole upload was not distributed".to_owned())
        }
        Some(state @ (SessionState::Open | SessionState::Sealed)) => {
            Err(Violation(format!("{} when all is quiet", state.as_str())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = b"0123456789";

    fn sighting(state: SessionState, committed: i64) -> Sighting {
        Sighting { state, committed, epoch: Epoch(2), generation: Generation(2) }
    }

    #[test]
    fn a_session_only_goes_on() {
        let before = sighting(SessionState::Open, 4);
        assert!(progress_is_sound(&before, &sighting(SessionState::Sealed, 10)).is_ok());
        assert!(progress_is_sound(&before, &sighting(SessionState::Open, 3)).is_err());
        assert!(progress_is_sound(&before, &Sighting { epoch: Epoch(1), ..before }).is_err());
        assert!(progress_is_sound(&before, &Sighting { generation: Generation(1), ..before }).is_err());
        let done = sighting(SessionState::Done, 10);
        assert!(progress_is_sound(&done, &sighting(SessionState::Sealed, 10)).is_err());
    }

    #[test]
    fn a_process_gets_the_file_from_its_beginning() {
        assert!(process_is_sound(FILE, b"", false).is_ok());
        assert!(process_is_sound(FILE, b"01234", false).is_ok());
        assert!(process_is_sound(FILE, FILE, true).is_ok());
        for (got, finished) in
            [(&b"1"[..], false), (b"0133", false), (b"01234567899", false), (b"0123", true)]
        {
            assert!(process_is_sound(FILE, got, finished).is_err(), "{got:?}");
        }
    }

    #[test]
    fn an_ack_means_stored() {
        let open = sighting(SessionState::Open, 5);
        assert!(ack_is_sound(5, Some(&open), FILE, b"01234").is_ok());
        assert!(ack_is_sound(6, Some(&open), FILE, b"01234").is_err(), "not committed");
        assert!(ack_is_sound(5, Some(&open), FILE, b"0123").is_err(), "not readable");
        assert!(ack_is_sound(5, Some(&open), FILE, b"01235").is_err(), "other bytes");
        assert!(ack_is_sound(5, None, FILE, b"").is_err(), "no row");
        let done = sighting(SessionState::Done, 10);
        assert!(ack_is_sound(5, Some(&done), FILE, b"").is_ok(), "its bytes are no longer needed");
    }

    #[test]
    fn each_delivery_is_answered_once() {
        assert!(answers_are_sound(2, 2, true).is_ok());
        assert!(answers_are_sound(2, 0, false).is_ok());
        assert!(answers_are_sound(1, 2, false).is_err());
        assert!(answers_are_sound(2, 0, true).is_err());
    }

    #[test]
    fn an_ending_has_its_reason() {
        use SessionState::{Done, Expired, Failed, Open};
        let sound = |state, complete, troubles| ending_is_sound(state, complete, troubles, 2).is_ok();
        assert!(sound(Some(Done), true, 0) && sound(Some(Failed), true, 2) && sound(Some(Expired), false, 0));
        assert!(sound(None, false, 0));
        for (state, complete, troubles) in [
            (Some(Done), false, 0),
            (Some(Failed), true, 1),
            (Some(Expired), true, 9),
            (Some(Open), false, 0),
        ] {
            assert!(!sound(state, complete, troubles), "{state:?}");
        }
    }
}
