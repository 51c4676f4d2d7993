//! Every row of the chunk table, and what any order of chunks leaves behind.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::ids::SessionId;
use crate::domain::invariants::{chunk_decision_is_sound, session_is_sound, transition_is_sound};

const TOTAL: i64 = 1000;
const WAIT: Duration = Duration::from_secs(30);

fn chunk(start: i64, size: u32) -> ChunkFacts {
    let digest = (start as u128) << 32 | u128::from(size);
    ChunkFacts { session: SessionId(Uuid::nil()), start, size, digest }
}

fn terms() -> Terms {
    Terms { window_bytes: 400, reorder_wait: WAIT, waited: Duration::ZERO, spool_left: TOTAL }
}

fn shared() -> SharedRows {
    SharedRows {
        flow: FlowId(Uuid::nil()),
        video: VideoId(Uuid::nil()),
        total_bytes: TOTAL,
        uploaded_bytes: 0,
        flow_status: FlowStatus::Created,
        video_status: VideoStatus::Created,
    }
}

fn fresh() -> Session {
    Session { shared: Some(shared()), ..Session::default() }
}

/// A session with its first 300 bytes stored in chunks of 100.
fn begun() -> Session {
    (0..3).fold(fresh(), |session, n| accepted(&session, &chunk(n * 100, 100)))
}

fn accepted(session: &Session, chunk: &ChunkFacts) -> Session {
    let (after, next) = judged(session, chunk, &terms());
    assert!(matches!(next, Next::Accept(_)), "{next:?}");
    after
}

/// `decide`, with its answer checked.
fn judged(session: &Session, chunk: &ChunkFacts, terms: &Terms) -> (Session, Next) {
    let (after, next) = decide(session, chunk, terms);
    chunk_decision_is_sound(session, chunk, &after, &next).unwrap();
    (after, next)
}

fn refused(session: &Session, chunk: &ChunkFacts, terms: &Terms) -> Refusal {
    match judged(session, chunk, terms).1 {
        Next::Refuse(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn ended(state: SessionState, reason: Option<&str>) -> Session {
    let mut session = begun();
    let own = session.own.as_mut().unwrap();
    (own.state, own.last_error) = (state, reason.map(str::to_owned));
    session
}

fn with_shared(change: impl FnOnce(&mut SharedRows)) -> Session {
    let mut session = begun();
    change(session.shared.as_mut().unwrap());
    session
}

#[test]
fn a_stored_chunk_is_answered_again_in_every_state() {
    use SessionState::{Done, Expired, Failed, Open, Sealed};
    for state in [Open, Sealed, Done, Expired, Failed] {
        let session = ended(state, None);
        assert_eq!(judged(&session, &chunk(100, 100), &terms()).1, Next::Repeat, "{state:?}");
        let removed = Session { shared: None, ..session };
        assert_eq!(judged(&removed, &chunk(200, 100), &terms()).1, Next::Repeat, "{state:?}, removed");
    }
}

#[test]
fn a_session_with_an_unreadable_row_answers_its_duplicates_and_refuses_the_rest() {
    let what = || Some("flows.status is \"NONSENSE\"".to_owned());
    let session = Session { shared: None, unreadable: what(), ..begun() };
    assert_eq!(judged(&session, &chunk(200, 100), &terms()).1, Next::Repeat);
    for session in [session, Session { unreadable: what(), ..Session::default() }] {
        let refusal = refused(&session, &chunk(300, 100), &terms());
        assert_eq!((refusal.kind, refusal.retryable), (RefusalKind::Inconsistent, false));
        assert!(refusal.reason.contains("NONSENSE"), "{}", refusal.reason);
    }
}

#[test]
fn a_chunk_that_differs_in_anything_is_no_duplicate() {
    let stored = chunk(200, 100);
    let others = [
        ChunkFacts { digest: 7, ..stored },
        ChunkFacts { size: 50, ..stored },
        ChunkFacts { start: 150, ..stored },
    ];
    for other in others {
        assert_eq!(refused(&begun(), &other, &terms()).expected, Some(300), "{other:?}");
    }
}

#[test]
fn only_the_newest_sixteen_chunks_are_answered_again() {
    let session = (0..20).fold(fresh(), |session, n| accepted(&session, &chunk(n * 10, 10)));
    assert_eq!(judged(&session, &chunk(40, 10), &terms()).1, Next::Repeat);
    assert_eq!(refused(&session, &chunk(30, 10), &terms()).expected, Some(200));
}

#[test]
fn a_session_that_takes_no_chunks_says_why() {
    use RefusalKind::{Ended, Inconsistent, Unknown};
    use SessionState::{Done, Expired, Failed};
    let foreign =
        Session { shared: Some(SharedRows { uploaded_bytes: 8192, ..shared() }), ..Session::default() };
    let cases = [
        ("nobody knows it", Session::default(), Unknown, "unknown"),
        ("its rows were removed", Session { shared: None, ..begun() }, Unknown, "removed"),
        ("it is complete", ended(Done, None), Ended, "complete"),
        ("it has expired", ended(Expired, None), Ended, "expired"),
        ("it has failed, and its reason is told", ended(Failed, Some("no index")), Ended, "no index"),
        (
            "its video is blocked",
            with_shared(|rows| rows.video_status = VideoStatus::Blocked),
            Ended,
            "blocked",
        ),
        (
            "its video is distributed",
            with_shared(|rows| rows.video_status = VideoStatus::Distributed),
            Ended,
            "distributed",
        ),
        ("its flow is hidden", with_shared(|rows| rows.flow_status = FlowStatus::Hidden), Ended, "hidden"),
        (
            "its flow is distributed",
            with_shared(|rows| rows.flow_status = FlowStatus::Distributed),
            Ended,
            "distributed",
        ),
        ("its file is empty", with_shared(|rows| rows.total_bytes = 0), Inconsistent, "empty"),
        ("its file has no size", with_shared(|rows| rows.total_bytes = -5), Inconsistent, "empty"),
        ("somebody moved the row", with_shared(|rows| rows.uploaded_bytes = 299), Inconsistent, "299"),
        ("another uploader began it", foreign, Inconsistent, "another uploader"),
    ];
    for (name, session, kind, word) in cases {
        let refusal = refused(&session, &chunk(300, 100), &terms());
        assert_eq!(refusal.kind, kind, "{name}");
        assert!(refusal.reason.contains(word), "{name}: {}", refusal.reason);
        assert!(!refusal.retryable, "{name}");
    }
}

#[test]
fn a_chunk_past_the_end_is_refused_for_good() {
    for (start, size) in [(300, 701), (900, 101), (1000, 1), (i64::MAX - 100, 50)] {
        let refusal = refused(&begun(), &chunk(start, size), &terms());
        assert_eq!((refusal.kind, refusal.retryable), (RefusalKind::Offset, false), "{start}+{size}");
        assert_eq!(refusal.expected, Some(300));
        assert!(refusal.reason.contains("past the end"), "{}", refusal.reason);
    }
}

#[test]
fn the_first_chunk_opens_its_session_flow_and_video() {
    let (after, next) = judged(&fresh(), &chunk(0, 100), &terms());
    let Next::Accept(admission) = next else { panic!("{next:?}") };
    assert!(admission.first() && !admission.last());
    let rows = after.shared.unwrap();
    assert_eq!(rows.uploaded_bytes, 100);
    assert_eq!((rows.flow_status, rows.video_status), (FlowStatus::Uploading, VideoStatus::Uploading));
    assert_eq!(after.own.unwrap().state, SessionState::Open);
}

#[test]
fn the_last_chunk_seals_the_session() {
    let (after, next) = judged(&begun(), &chunk(300, 700), &terms());
    let Next::Accept(admission) = next else { panic!("{next:?}") };
    assert!(admission.last() && !admission.first());
    assert_eq!(after.shared.unwrap().flow_status, FlowStatus::Processing);
    assert_eq!(after.own.unwrap().state, SessionState::Sealed);
}

#[test]
fn a_whole_file_in_one_chunk_is_first_and_last() {
    let (after, next) = judged(&fresh(), &chunk(0, TOTAL as u32), &terms());
    let Next::Accept(admission) = next else { panic!("{next:?}") };
    assert!(admission.first() && admission.last());
    let rows = after.shared.unwrap();
    assert_eq!((rows.flow_status, rows.video_status), (FlowStatus::Processing, VideoStatus::Uploading));
}

#[test]
fn only_a_session_that_is_not_admitted_yet_meets_the_quota() {
    let full = Terms { spool_left: TOTAL - 1, ..terms() };
    let refusal = refused(&fresh(), &chunk(0, 100), &full);
    assert_eq!((refusal.kind, refusal.retryable), (RefusalKind::StorageFull, true));
    assert!(matches!(judged(&fresh(), &chunk(0, 100), &terms()).1, Next::Accept(_)));
    let none = Terms { spool_left: i64::MIN, ..terms() };
    assert!(matches!(judged(&begun(), &chunk(300, 100), &none).1, Next::Accept(_)));
}

#[test]
fn an_early_chunk_steps_aside_for_its_time_and_is_then_refused() {
    for start in [301, 400, 700] {
        let early = chunk(start, 100);
        assert_eq!(judged(&begun(), &early, &terms()).1, Next::StepAside, "{start}");
        let almost = Terms { waited: WAIT - Duration::from_millis(1), ..terms() };
        assert_eq!(judged(&begun(), &early, &almost).1, Next::StepAside, "{start}");
        let refusal = refused(&begun(), &early, &Terms { waited: WAIT, ..terms() });
        assert_eq!((refusal.expected, refusal.retryable), (Some(300), true), "{start}");
    }
}

#[test]
fn a_chunk_beyond_the_window_is_refused_at_once() {
    let refusal = refused(&begun(), &chunk(701, 100), &terms());
    assert_eq!((refusal.expected, refusal.retryable), (Some(300), false));
    assert!(refusal.reason.contains("expected 300"), "{}", refusal.reason);
}

#[test]
fn overlapping_and_forgotten_chunks_are_refused_with_the_expected_offset() {
    for (start, size) in [(0, 50), (0, 300), (250, 100), (299, 2), (100, 900)] {
        let refusal = refused(&begun(), &chunk(start, size), &terms());
        assert_eq!((refusal.kind, refusal.expected), (RefusalKind::Offset, Some(300)), "{start}+{size}");
    }
}

#[test]
fn an_ended_session_is_told_before_a_wrong_offset() {
    let refusal = refused(&ended(SessionState::Done, None), &chunk(5000, 100), &terms());
    assert_eq!(refusal.kind, RefusalKind::Ended);
}

#[test]
fn states_move_only_forward() {
    use SessionState::{Done, Expired, Failed, Open, Sealed};
    let allowed = [(Open, Sealed), (Open, Expired), (Sealed, Done), (Sealed, Failed), (Failed, Sealed)];
    assert!(allowed.iter().all(|(before, after)| transition_is_sound(*before, *after).is_ok()));
    let forbidden = [(Done, Open), (Expired, Sealed), (Sealed, Open), (Failed, Open), (Open, Done)];
    assert!(forbidden.iter().all(|(before, after)| transition_is_sound(*before, *after).is_err()));
}

/// Any piece of the file, in pieces of 100, or shifted and cut against them.
fn any_chunk() -> impl Strategy<Value = ChunkFacts> {
    let whole = (0..12i64).prop_map(|n| chunk(n * 100, 100));
    let other = (0..1200i64, 1..400u32).prop_map(|(start, size)| chunk(start, size));
    let foreign = (0..10i64).prop_map(|n| ChunkFacts { digest: 1, ..chunk(n * 100, 100) });
    prop_oneof![6 => whole, 2 => other, 1 => foreign]
}

proptest! {
    #[test]
    fn any_interleaving_leaves_exactly_the_accepted_prefix(
        chunks in prop::collection::vec((any_chunk(), 0..60u64), 1..200)
    ) {
        let mut session = fresh();
        let mut stored: Vec<ChunkFacts> = Vec::new();
        for (chunk, waited) in chunks {
            let terms = Terms { waited: Duration::from_secs(waited), ..terms() };
            let (after, next) = decide(&session, &chunk, &terms);
            let sound = chunk_decision_is_sound(&session, &chunk, &after, &next);
            prop_assert!(sound.is_ok(), "{:?}", sound);
            prop_assert!(session_is_sound(&after).is_ok());
            if let (Some(before), Some(own)) = (&session.own, &after.own) {
                prop_assert!(transition_is_sound(before.state, own.state).is_ok());
            }
            match next {
                Next::Accept(_) => stored.push(chunk),
                Next::Repeat => prop_assert!(stored.iter().rev().take(16).any(|known| *known == chunk)),
                Next::StepAside | Next::Refuse(_) => {}
            }
            session = after;
        }
        let mut end = 0;
        for chunk in &stored {
            prop_assert_eq!(chunk.start, end);
            end = chunk.end();
        }
        prop_assert_eq!(session.own.map_or(0, |own| own.committed), end);
        prop_assert!(end <= TOTAL);
    }

    #[test]
    fn a_client_that_sends_in_order_and_repeats_itself_completes(
        sizes in prop::collection::vec((1..200u32, 0..3usize), 1..40)
    ) {
        let mut session = fresh();
        let mut start = 0;
        for (size, repeats) in sizes {
            let size = i64::from(size).min(TOTAL - start) as u32;
            if size == 0 {
                break;
            }
            let chunk = chunk(start, size);
            session = accepted(&session, &chunk);
            for _ in 0..repeats {
                prop_assert_eq!(judged(&session, &chunk, &terms()).1, Next::Repeat);
            }
            start += i64::from(size);
        }
        let own = session.own.unwrap();
        prop_assert_eq!(own.committed, start);
        prop_assert_eq!(own.state == SessionState::Sealed, start == TOTAL);
    }
}
