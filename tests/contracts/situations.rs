//! Every situation in which a chunk is refused, and what the service's own rules say in it.

use std::time::Duration;

use uploader_v4::domain::chunk::{ChunkFacts, Defect};
use uploader_v4::domain::ids::{FlowId, SessionId, VideoId};
use uploader_v4::domain::recent::Recent;
use uploader_v4::domain::session::{Next, OwnRow, Refusal, RefusalKind, Session, SharedRows, Terms, decide};
use uploader_v4::domain::status::{FlowStatus, SessionState, VideoStatus};
use uuid::Uuid;

use crate::chunks::parsed;
use crate::document::Document;

/// The file's length, and as much of it as is stored.
const TOTAL: i64 = 1000;
const STORED: i64 = 300;

fn terms() -> Terms {
    let reorder_wait = Duration::from_secs(30);
    Terms { window_bytes: 400, reorder_wait, waited: Duration::ZERO, spool_left: TOTAL }
}

fn session() -> Session {
    let shared = SharedRows {
        flow: FlowId(Uuid::nil()),
        video: VideoId(Uuid::nil()),
        total_bytes: TOTAL,
        uploaded_bytes: STORED,
        flow_status: FlowStatus::Uploading,
        video_status: VideoStatus::Uploading,
    };
    let own = OwnRow {
        state: SessionState::Open,
        committed: STORED,
        recent: Recent::default(),
        last_error: None,
        owner: None,
    };
    Session { own: Some(own), shared: Some(shared), unreadable: None }
}

/// The refusal of a chunk of 100 bytes at `start`.
fn refused(session: &Session, start: i64, terms: &Terms) -> Refusal {
    let chunk = ChunkFacts { session: SessionId(Uuid::nil()), start, size: 100, digest: 7 };
    match decide(session, &chunk, terms).1 {
        Next::Refuse(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn with_own(change: impl FnOnce(&mut OwnRow)) -> Refusal {
    let mut session = session();
    change(session.own.as_mut().unwrap());
    refused(&session, STORED, &terms())
}

fn with_shared(change: impl FnOnce(&mut SharedRows)) -> Refusal {
    let mut session = session();
    change(session.shared.as_mut().unwrap());
    refused(&session, STORED, &terms())
}

fn ended(state: SessionState, why: Option<&str>) -> Refusal {
    with_own(|own| (own.state, own.last_error) = (state, why.map(str::to_owned)))
}

fn not_yet_ours(uploaded: i64, terms: &Terms) -> Refusal {
    let shared = session().shared.map(|shared| SharedRows { uploaded_bytes: uploaded, ..shared });
    refused(&Session { own: None, shared, unreadable: None }, uploaded, terms)
}

fn of_rows() -> Vec<(&'static str, Refusal)> {
    vec![
        ("upload is complete", ended(SessionState::Done, None)),
        ("upload has expired", ended(SessionState::Expired, Some("removed by another"))),
        ("upload has failed", ended(SessionState::Failed, Some("ffmpeg gave up"))),
        ("session unknown", refused(&Session::default(), 0, &terms())),
        ("session removed", refused(&Session { shared: None, ..session() }, STORED, &terms())),
        ("video distributed", with_shared(|rows| rows.video_status = VideoStatus::Distributed)),
        ("video blocked", with_shared(|rows| rows.video_status = VideoStatus::Blocked)),
        ("flow distributed", with_shared(|rows| rows.flow_status = FlowStatus::Distributed)),
        ("flow hidden", with_shared(|rows| rows.flow_status = FlowStatus::Hidden)),
        ("file empty", with_shared(|rows| rows.total_bytes = 0)),
        ("rows disagree", with_shared(|rows| rows.uploaded_bytes = 7)),
        ("begun by another uploader", not_yet_ours(STORED, &terms())),
        ("storage full", not_yet_ours(0, &Terms { spool_left: TOTAL - 1, ..terms() })),
        ("cannot be recorded", Refusal::unrecordable()),
        ("temporarily unavailable", Refusal::unavailable()),
    ]
}

fn of_offsets() -> Vec<(&'static str, Refusal)> {
    let overdue = Terms { waited: Duration::from_secs(30), ..terms() };
    vec![
        ("past the end", refused(&session(), TOTAL - 99, &terms())),
        ("too many early chunks", Refusal::crowded()),
        ("early for too long", refused(&session(), STORED + 100, &overdue)),
        ("below what is stored", refused(&session(), STORED - 150, &terms())),
        ("far ahead", refused(&session(), TOTAL - 100, &terms())),
    ]
}

/// Chunks of the contract that are none.
fn of_headers(document: &Document) -> Vec<(String, Refusal)> {
    let refused = document.examples("/components/messages/chunk/x-refused");
    let refusal = |(name, example): (String, _)| match parsed(example) {
        Err(Defect::Refused { reason, .. }) => (name, Refusal::malformed(reason)),
        other => panic!("{name}: {other:?}"),
    };
    refused.into_iter().map(refusal).collect()
}

/// All of them, by the name of their example in the contract.
pub fn refusals(document: &Document) -> Vec<(String, Refusal)> {
    let named = of_rows().into_iter().chain(of_offsets());
    let named = named.map(|(name, refusal)| (name.to_owned(), refusal));
    of_headers(document).into_iter().chain(named).collect()
}

/// Every kind; one that is added breaks the build here.
fn after(kind: Option<RefusalKind>) -> Option<RefusalKind> {
    use RefusalKind::{Crowded, Ended, Inconsistent, Malformed, Offset, StorageFull, Unavailable, Unknown};
    match kind {
        None => Some(Malformed),
        Some(Malformed) => Some(Unknown),
        Some(Unknown) => Some(Ended),
        Some(Ended) => Some(Inconsistent),
        Some(Inconsistent) => Some(Offset),
        Some(Offset) => Some(StorageFull),
        Some(StorageFull) => Some(Crowded),
        Some(Crowded) => Some(Unavailable),
        Some(Unavailable) => None,
    }
}

#[test]
fn every_kind_of_refusal_has_an_example() {
    let refusals = refusals(&Document::asyncapi());
    let kinds = std::iter::successors(after(None), |kind| after(Some(*kind)));
    let missing: Vec<_> =
        kinds.filter(|kind| refusals.iter().all(|(_, refusal)| refusal.kind != *kind)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
