//! The rules bite: what they allow, and what they do not.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::domain::ids::{FlowId, SessionId, VideoId};
use crate::domain::recent::Recent;
use crate::domain::session::SharedRows;
use crate::domain::status::{FlowStatus, VideoStatus};

fn chunk(start: i64, digest: u128) -> ChunkFacts {
    ChunkFacts { session: SessionId(uuid::Uuid::nil()), start, size: 10, digest }
}

fn session(state: SessionState, committed: i64) -> Session {
    let own = OwnRow { state, committed, recent: Recent::default(), last_error: None, owner: None };
    Session { own: Some(own), ..announced() }
}

fn announced() -> Session {
    let shared = SharedRows {
        flow: FlowId(uuid::Uuid::nil()),
        video: VideoId(uuid::Uuid::nil()),
        total_bytes: 100,
        uploaded_bytes: 0,
        flow_status: FlowStatus::Created,
        video_status: VideoStatus::Created,
    };
    Session { shared: Some(shared), ..Session::default() }
}

#[test]
fn an_ack_needs_the_very_bytes() {
    let mut history = UploadHistory::default();
    assert!(history.accept(&chunk(0, 1), &[chunk(0, 1)]).is_ok());
    assert!(history.accept(&chunk(10, 2), &[chunk(0, 1), chunk(10, 3)]).is_err());
    assert!(
        history.clone().accept(&chunk(0, 1), &[chunk(10, 2)]).is_err(),
        "the first one was lost meanwhile"
    );
    assert_eq!(history.acked().len(), 2);
}

#[test]
fn what_was_acked_is_never_refused_for_good() {
    let mut history = UploadHistory::default();
    history.accept(&chunk(0, 1), &[chunk(0, 1)]).unwrap();
    assert!(history.refuse(&chunk(0, 1), &Refusal::unavailable()).is_ok());
    assert!(history.refuse(&chunk(0, 1), &Refusal::unrecordable()).is_err());
    assert!(history.refuse(&chunk(0, 2), &Refusal::unrecordable()).is_ok());
}

#[test]
fn only_an_open_session_advances_and_bytes_are_never_taken_back() {
    use SessionState::{Done, Expired, Failed, Open, Sealed};
    let change = |before: &Session, after: &Session| UploadHistory::default().change(before, after);
    assert!(change(&session(Open, 10), &session(Sealed, 20)).is_ok());
    assert!(change(&session(Open, 10), &session(Open, 0)).is_err());
    for state in [Sealed, Done, Expired, Failed] {
        assert!(change(&session(state, 10), &session(state, 20)).is_err(), "{state:?}");
    }
}

#[test]
fn an_ended_or_removed_session_stays_away() {
    for gone in [session(SessionState::Expired, 10), Session::default()] {
        let mut history = UploadHistory::default();
        assert!(history.change(&session(SessionState::Open, 10), &gone).is_ok());
        assert!(history.change(&gone, &gone).is_ok());
        history.end();
        assert!(history.clone().change(&announced(), &announced()).is_ok());
        assert!(history.change(&gone, &session(SessionState::Open, 10)).is_err());
    }
}

#[test]
fn a_prefix_has_neither_gap_nor_overlap_and_is_all_there() {
    let at = |starts: &[i64]| starts.iter().map(|start| chunk(*start, 0)).collect::<Vec<_>>();
    assert!(stored_is_the_prefix(&at(&[0, 10]), 20).is_ok());
    assert!(stored_is_the_prefix(&[], 0).is_ok());
    for (starts, committed) in
        [(&[0, 20][..], 30), (&[0, 5], 15), (&[0, 10], 30), (&[0, 10], 10), (&[10], 20)]
    {
        assert!(stored_is_the_prefix(&at(starts), committed).is_err(), "{starts:?}");
    }
}
