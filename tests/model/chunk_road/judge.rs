//! `decide`, as it is or with one of its rules taken out.
//!
//! A rule is taken out by showing the real function rows or a chunk that do not run into it.

use std::time::Duration;

use uploader_v4::domain::chunk::ChunkFacts;
use uploader_v4::domain::invariants::chunk_decision_is_sound;
use uploader_v4::domain::recent::Recent;
use uploader_v4::domain::session::{Next, RefusalKind, Session, SharedRows, Terms, decide};
use uploader_v4::domain::status::{FlowStatus, SessionState, VideoStatus};

use super::Safeguard;

/// How long an early chunk may wait; a look either finds this over or not.
pub const REORDER_WAIT: Duration = Duration::from_secs(1);
/// How far ahead a chunk may be, in bytes.
pub const WINDOW: i64 = 1;

/// The terms of a look or a transaction.
pub fn terms(overdue: bool, room: bool) -> Terms {
    Terms {
        window_bytes: WINDOW,
        reorder_wait: REORDER_WAIT,
        waited: if overdue { REORDER_WAIT } else { Duration::ZERO },
        spool_left: if room { i64::MAX } else { 0 },
    }
}

/// Judges a chunk without the safeguard; with all of them the decision itself is checked too.
pub fn judge(
    without: Option<Safeguard>,
    session: &Session,
    chunk: &ChunkFacts,
    terms: &Terms,
) -> (Session, Next, Result<(), String>) {
    let (after, next) = match without {
        Some(safeguard) => lessened(safeguard, session, chunk, terms),
        None => decide(session, chunk, terms),
    };
    let full = matches!(&next, Next::Refuse(refusal) if refusal.kind == RefusalKind::StorageFull);
    let sound = match without {
        _ if full && session.own.is_some() => Err("an admitted session is stopped by the quota".to_owned()),
        Some(_) => Ok(()),
        None => chunk_decision_is_sound(session, chunk, &after, &next).map_err(|broken| broken.to_string()),
    };
    (after, next, sound)
}

fn lessened(without: Safeguard, session: &Session, chunk: &ChunkFacts, terms: &Terms) -> (Session, Next) {
    use Safeguard as S;
    match without {
        S::RecentAnswersFirst => on(session, chunk, terms, forget_if_not_live),
        S::RecentAnswersAtAll => on(session, chunk, terms, forget),
        S::RecentTellsDigests => on_digest(session, chunk, terms),
        S::StateCounts => on(session, chunk, terms, revive),
        S::RowsMustBeThere => on(session, chunk, terms, imagine_rows),
        S::VideoCounts => on(session, chunk, terms, |session| {
            status(session, |rows| rows.video_status = VideoStatus::Uploading)
        }),
        S::FlowCounts => on(session, chunk, terms, |session| {
            status(session, |rows| rows.flow_status = FlowStatus::Uploading)
        }),
        S::UploadedBytesCount => on(session, chunk, terms, believe_committed),
        S::EndOfFileCounts => {
            on(session, chunk, terms, |session| status(session, |rows| rows.total_bytes = i64::MAX))
        }
        S::OnlyTheNextByte => anywhere(session, chunk, terms),
        S::EarlyStepsAside => impatient(session, chunk, terms),
        S::WaitingEnds => decide(session, chunk, &Terms { waited: Duration::ZERO, ..*terms }),
        S::QuotaIsForTheFirst => stingy(session, chunk, terms),
        S::QuotaCounts => decide(session, chunk, &Terms { spool_left: i64::MAX, ..*terms }),
        _ => decide(session, chunk, terms),
    }
}

/// Judges on rows that `change` has changed. What is not accepted leaves the real rows as they are, and no chunk
/// changes the size of its file.
fn on(session: &Session, chunk: &ChunkFacts, terms: &Terms, change: fn(&mut Session)) -> (Session, Next) {
    let mut shown = session.clone();
    change(&mut shown);
    let (mut after, next) = decide(&shown, chunk, terms);
    if let (Some(after), Some(before)) = (&mut after.shared, &session.shared) {
        after.total_bytes = before.total_bytes;
    }
    match next {
        Next::Accept(_) => (after, next),
        Next::Repeat | Next::StepAside | Next::Refuse(_) => (session.clone(), next),
    }
}

fn forget(session: &mut Session) {
    session.own.iter_mut().for_each(|own| own.recent = Recent::default());
}

fn forget_if_not_live(session: &mut Session) {
    let live = session.own.as_ref().is_some_and(|own| own.state == SessionState::Open);
    if !live || session.shared.is_none() {
        forget(session);
    }
}

/// Any chunk of the same place and size counts as the one that is remembered.
fn on_digest(session: &Session, chunk: &ChunkFacts, terms: &Terms) -> (Session, Next) {
    let recent = session.own.as_ref().map(|own| own.recent.clone()).unwrap_or_default();
    let known = recent.chunks().find(|(start, size, _)| (*start, *size) == (chunk.start, chunk.size));
    let digest = known.map_or(chunk.digest, |(_, _, digest)| digest);
    decide(session, &ChunkFacts { digest, ..*chunk }, terms)
}

fn revive(session: &mut Session) {
    session.own.iter_mut().for_each(|own| own.state = SessionState::Open);
}

fn imagine_rows(session: &mut Session) {
    let committed = session.own.as_ref().map_or(0, |own| own.committed);
    session.shared.get_or_insert(SharedRows {
        flow: uploader_v4::domain::ids::FlowId(uuid::Uuid::nil()),
        video: uploader_v4::domain::ids::VideoId(uuid::Uuid::nil()),
        total_bytes: committed + 2,
        uploaded_bytes: committed,
        flow_status: FlowStatus::Uploading,
        video_status: VideoStatus::Uploading,
    });
}

fn status(session: &mut Session, change: impl FnOnce(&mut SharedRows)) {
    if let Some(rows) = &mut session.shared {
        change(rows);
    }
}

fn believe_committed(session: &mut Session) {
    let committed = session.own.as_ref().map_or(0, |own| own.committed);
    status(session, |rows| rows.uploaded_bytes = committed);
}

/// A chunk that is not the next one is taken as if the file had come to where it starts.
fn anywhere(session: &Session, chunk: &ChunkFacts, terms: &Terms) -> (Session, Next) {
    on_offset(session, chunk, terms).unwrap_or_else(|| decide(session, chunk, terms))
}

fn on_offset(session: &Session, chunk: &ChunkFacts, terms: &Terms) -> Option<(Session, Next)> {
    let refused = matches!(decide(session, chunk, terms).1, Next::Refuse(refusal) if refusal.kind == RefusalKind::Offset);
    let mut shown = session.clone();
    shown.own.as_mut()?.committed = chunk.start;
    shown.shared.as_mut()?.uploaded_bytes = chunk.start;
    refused.then(|| decide(&shown, chunk, terms)).filter(|(_, next)| matches!(next, Next::Accept(_)))
}

/// An early chunk is refused as soon as it is looked at.
fn impatient(session: &Session, chunk: &ChunkFacts, terms: &Terms) -> (Session, Next) {
    decide(session, chunk, &Terms { waited: REORDER_WAIT, ..*terms })
}

/// The quota stops sessions that were admitted, too.
fn stingy(session: &Session, chunk: &ChunkFacts, terms: &Terms) -> (Session, Next) {
    let (after, next) = decide(session, chunk, terms);
    let mut newcomer = session.clone();
    newcomer.own = None;
    status(&mut newcomer, |rows| rows.uploaded_bytes = 0);
    match next {
        Next::Accept(_) if terms.spool_left <= 0 => {
            let first = ChunkFacts { start: 0, ..*chunk };
            (session.clone(), decide(&newcomer, &first, terms).1)
        }
        _ => (after, next),
    }
}
