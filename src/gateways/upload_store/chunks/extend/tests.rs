//! What becomes an extension, and which session it still fits.
#![allow(clippy::unwrap_used)]
use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::domain::chunk::ChunkFacts;
use crate::domain::ids::{FlowId, VideoId};
use crate::domain::recent::Recent;
use crate::domain::run::RecordPlace;
use crate::domain::session::{self, Terms};

const ID: SessionId = SessionId(Uuid::from_u128(1));
const WRITER: ReplicaId = ReplicaId(Uuid::from_u128(2));
const TERMS: Terms =
    Terms { window_bytes: 0, reorder_wait: Duration::ZERO, waited: Duration::ZERO, spool_left: i64::MAX };

/// Ten of thirty bytes are stored.
fn seen() -> Progress {
    let own = OwnRow {
        state: SessionState::Open,
        committed: 10,
        recent: Recent::default(),
        last_error: None,
        owner: None,
    };
    let shared = SharedRows {
        flow: FlowId(Uuid::from_u128(3)),
        video: VideoId(Uuid::from_u128(4)),
        total_bytes: 30,
        uploaded_bytes: 10,
        flow_status: FlowStatus::Uploading,
        video_status: VideoStatus::Uploading,
    };
    let place = RecordPlace { writer: WRITER, position: 0, record_end: 40 };
    let session = Session { own: Some(own), shared: Some(shared), unreadable: None };
    Progress { session, run: Some(Run { start: 0, length: 10, place }), supposed: false }
}

fn facts(start: i64, size: u32) -> ChunkFacts {
    ChunkFacts { session: ID, start, size, digest: 5 }
}

/// A durable chunk; `seen` must have admitted it.
fn stored(seen: &Progress, facts: ChunkFacts) -> Stored {
    let (_, Next::Accept(admission)) = session::decide(&seen.session, &facts, &TERMS) else {
        unreachable!("not admitted");
    };
    Stored::new(admission, RecordPlace { writer: WRITER, position: 40, record_end: 80 })
}

fn extension(seen: &Progress, stored: &Stored) -> Option<Extension> {
    Extension::of(seen, stored, |session, stored| session::decide(session, &stored.facts(), &TERMS))
}

fn changed(change: impl FnOnce(&mut OwnRow, &mut SharedRows)) -> Progress {
    let mut seen = seen();
    change(seen.session.own.as_mut().unwrap(), seen.session.shared.as_mut().unwrap());
    seen
}

#[test]
fn a_chunk_in_the_middle_extends_its_session_and_its_run() {
    let extension = extension(&seen(), &stored(&seen(), facts(10, 10))).unwrap();
    let after = extension.after(Some(WRITER), None);
    let own = after.session.own.as_ref().unwrap();
    assert_eq!((own.committed, own.owner), (20, Some(WRITER)));
    assert!(own.recent.holds(&facts(10, 10)));
    assert_eq!(after.session.shared.unwrap().uploaded_bytes, 20);
    assert_eq!((after.run.unwrap().start, after.run.unwrap().length), (0, 20));
}

#[test]
fn without_a_known_run_it_begins_one() {
    let seen = Progress { run: None, ..seen() };
    let after = extension(&seen, &stored(&seen, facts(10, 10))).unwrap().after(None, None);
    assert_eq!((after.run.unwrap().start, after.run.unwrap().place.position), (10, 40));
}

#[test]
fn the_first_and_the_last_chunk_turn_a_status_and_take_the_long_way() {
    let unseen = Progress {
        session: Session { own: None, ..changed(|_, shared| shared.uploaded_bytes = 0).session },
        run: None,
        supposed: false,
    };
    assert!(extension(&unseen, &stored(&unseen, facts(0, 10))).is_none());
    assert!(extension(&seen(), &stored(&seen(), facts(10, 20))).is_none());
}

#[test]
fn a_status_that_is_behind_takes_the_long_way() {
    for seen in [
        changed(|_, shared| shared.flow_status = FlowStatus::Created),
        changed(|_, shared| shared.flow_status = FlowStatus::Processing),
        changed(|_, shared| shared.video_status = VideoStatus::Created),
    ] {
        assert!(extension(&seen, &stored(&seen, facts(10, 10))).is_none(), "{seen:?}");
    }
}

#[test]
fn what_is_not_to_be_taken_extends_nothing() {
    let chunk = stored(&seen(), facts(10, 10));
    for seen in [
        changed(|own, _| own.state = SessionState::Expired),
        changed(|own, shared| (own.committed, shared.uploaded_bytes) = (20, 20)),
        changed(|_, shared| shared.uploaded_bytes = 9),
    ] {
        assert!(extension(&seen, &chunk).is_none(), "{seen:?}");
    }
}

#[test]
fn it_fits_the_session_as_seen_and_no_other() {
    let extension = extension(&seen(), &stored(&seen(), facts(10, 10))).unwrap();
    assert!(extension.fits(&seen().session));
    for other in [
        changed(|own, _| own.state = SessionState::Failed),
        changed(|own, _| own.committed = 20),
        changed(|_, shared| shared.uploaded_bytes = 9),
        changed(|_, shared| shared.total_bytes = 31),
        changed(|_, shared| shared.flow_status = FlowStatus::Hidden),
        changed(|_, shared| shared.video_status = VideoStatus::Blocked),
    ] {
        assert!(!extension.fits(&other.session), "{other:?}");
    }
}
