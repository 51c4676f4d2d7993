//! What an operator does to one session: locked in the one order, decided on the locked rows, committed at once.

use std::future::Future;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction};
use uuid::Uuid;

use super::super::cleaning::{EXPIRE, strays_of};
use super::super::rows::{self, get};
use super::super::sql::{statement, write_exactly};
use super::super::{StoreError, pool};
use super::{Change, Intervened};
use crate::domain::ids::SessionId;
use crate::domain::intervention::{self, Expiry, Facts, OwnFacts, Retry, SharedFacts};
use crate::domain::retry::Backoff;
use crate::domain::status::SessionState;
use crate::fault::{Classified, Fault};

/// Attempts at an intervention whose rows others hold for longer than `lock_timeout`.
const ATTEMPTS: u32 = 4;
/// Pauses between them.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) };

/// What one attempt leaves: its transaction, still open, and how it is to end.
type Attempt = (DatabaseTransaction, Intervened<Change>);

/// The session's rows, locked, and what they say.
struct Locked {
    facts: Facts,
    flow: Option<Uuid>,
    video: Option<Uuid>,
}

/// FAILED becomes SEALED, with nothing left of the failures, for whoever claims it next. The janitor decides about its
/// bytes on the same row.
pub(super) async fn retry(
    db: &DatabaseConnection,
    session: SessionId,
) -> Result<Intervened<Change>, StoreError> {
    concluded(|| try_retry(db, session)).await
}

/// The row becomes a tombstone, or gets one: its owner is fenced and its late chunks are refused.
pub(super) async fn expire(
    db: &DatabaseConnection,
    session: SessionId,
    force: bool,
    reason: &str,
) -> Result<Intervened<Change>, StoreError> {
    concluded(|| try_expire(db, session, force, reason)).await
}

/// What fails before its commit has surely changed nothing and runs again; a commit whose outcome is unknown does not.
async fn concluded<F>(attempt: impl Fn() -> F) -> Result<Intervened<Change>, StoreError>
where
    F: Future<Output = Result<Attempt, StoreError>>,
{
    let mut attempts = 0;
    loop {
        attempts += 1;
        match attempt().await {
            Ok((transaction, done @ Intervened::Done(_))) => {
                transaction.commit().await?;
                return Ok(done);
            }
            Ok((transaction, refused @ Intervened::Refused(_))) => {
                transaction.rollback().await?;
                return Ok(refused);
            }
            Err(error) if error.fault() != Fault::Transient || attempts == ATTEMPTS => return Err(error),
            Err(_) => tokio::time::sleep(BACKOFF.wait(attempts - 1, fastrand::f64())).await,
        }
    }
}

async fn try_retry(db: &DatabaseConnection, session: SessionId) -> Result<Attempt, StoreError> {
    let transaction = pool::begin(db).await?;
    let locked = lock(&transaction, session).await?;
    let retry = match intervention::retry(&locked.facts) {
        Ok(retry) => retry,
        Err(refused) => return Ok((transaction, Intervened::Refused(refused))),
    };
    let again = "UPDATE uploader.session SET state = 'SEALED', epoch = epoch + 1, owner = NULL, settled = false, \
         flow_url = NULL, fed = 0, strikes = 0, farthest = 0, failing_since = NULL, next_attempt_at = NULL, \
         finish_sent_at = NULL, ended_at = NULL, last_error = NULL, last_activity = clock_timestamp() \
         WHERE session_id = $1";
    write_exactly(&transaction, statement(again, [session.0.into()]), 1, "uploader.session").await?;
    let (flow, video) = (locked.flow, locked.video);
    let show = "UPDATE flows SET status = 'PROCESSING' WHERE id = $1";
    write_exactly(&transaction, statement(show, [flow.into()]), 1, "flows").await?;
    let Retry { unblock } = retry;
    if unblock {
        let unblock = "UPDATE videos SET status = 'UPLOADING' WHERE id = $1";
        write_exactly(&transaction, statement(unblock, [video.into()]), 1, "videos").await?;
    }
    let video_status = Some(if unblock { "UPLOADING" } else { "BLOCKED" }.to_owned());
    Ok((transaction, Intervened::Done(locked.change(SessionState::Sealed, video_status, false))))
}

async fn try_expire(
    db: &DatabaseConnection,
    session: SessionId,
    force: bool,
    reason: &str,
) -> Result<Attempt, StoreError> {
    let transaction = pool::begin(db).await?;
    let locked = lock(&transaction, session).await?;
    let Expiry { own, block, finish_sent } = match intervention::expire(&locked.facts, force) {
        Ok(expiry) => expiry,
        Err(refused) => return Ok((transaction, Intervened::Refused(refused))),
    };
    if own {
        let strays = strays_of("session_id = $1");
        transaction.execute_raw(statement(&strays, [session.0.into()])).await?;
        let expire = statement(&format!("{EXPIRE} WHERE session_id = $1"), [session.0.into(), reason.into()]);
        write_exactly(&transaction, expire, 1, "uploader.session").await?;
    } else {
        bury(&transaction, session, &locked, reason).await?;
    }
    if block {
        let hide = "UPDATE flows SET status = 'HIDDEN' WHERE id = $1";
        write_exactly(&transaction, statement(hide, [locked.flow.into()]), 1, "flows").await?;
        let block = "UPDATE videos SET status = 'BLOCKED' WHERE id = $1";
        write_exactly(&transaction, statement(block, [locked.video.into()]), 1, "videos").await?;
    }
    let video_status = block.then(|| "BLOCKED".to_owned());
    Ok((transaction, Intervened::Done(locked.change(SessionState::Expired, video_status, finish_sent))))
}

async fn bury(
    transaction: &DatabaseTransaction,
    session: SessionId,
    locked: &Locked,
    reason: &str,
) -> Result<(), StoreError> {
    let bury = "INSERT INTO uploader.session (session_id, flow_id, video_id, state, epoch, last_error, ended_at) \
         VALUES ($1, $2, $3, 'EXPIRED', 1, $4, clock_timestamp()) ON CONFLICT (session_id) DO NOTHING";
    let values = [session.0.into(), locked.flow.into(), locked.video.into(), reason.into()];
    // The first chunk was faster: run again on the row that it made.
    write_exactly(transaction, statement(bury, values), 1, "uploader.session").await
}

/// Locks the video, the session, the video's flows and the upload, in this order, each in a statement of its own, and
/// reads what depends on them afterwards. Waits for as long as `lock_timeout` allows.
async fn lock(transaction: &DatabaseTransaction, session: SessionId) -> Result<Locked, StoreError> {
    const VIDEO: &str = "SELECT coalesce((SELECT f.video_id FROM upload_sessions u JOIN flows f ON f.id = u.flow_id \
         WHERE u.id = $1), (SELECT video_id FROM uploader.session WHERE session_id = $1)) AS video_id";
    let video = transaction.query_one_raw(statement(VIDEO, [session.0.into()])).await?;
    let video: Option<Uuid> = video.map(|row| get(&row, "video_id")).transpose()?.flatten();
    let locks = [
        ("SELECT id FROM videos WHERE id = $1 FOR NO KEY UPDATE", video),
        ("SELECT session_id FROM uploader.session WHERE session_id = $1 FOR NO KEY UPDATE", Some(session.0)),
        ("SELECT id FROM flows WHERE video_id = $1 ORDER BY id FOR NO KEY UPDATE", video),
        ("SELECT id FROM upload_sessions WHERE id = $1 FOR NO KEY UPDATE", Some(session.0)),
    ];
    for (lock, id) in locks {
        transaction.query_all_raw(statement(lock, [id.into()])).await?;
    }
    read(transaction, session).await
}

const FACTS: &str = "SELECT s.state, s.committed, s.total_bytes, s.spool_gone_at IS NOT NULL AS spool_gone, \
     s.finish_sent_at IS NOT NULL AS finish_sent, f.id AS flow, f.status::text AS flow_status, \
     coalesce(v.id, s.video_id) AS video, v.status::text AS video_status, EXISTS (SELECT 1 FROM flows o \
     WHERE o.video_id = v.id AND o.id <> f.id AND o.status::text = 'HIDDEN') AS other_hidden \
     FROM (SELECT $1::uuid AS id) k LEFT JOIN uploader.session s ON s.session_id = k.id \
     LEFT JOIN upload_sessions u ON u.id = k.id LEFT JOIN flows f ON f.id = u.flow_id \
     LEFT JOIN videos v ON v.id = f.video_id";

async fn read(transaction: &DatabaseTransaction, session: SessionId) -> Result<Locked, StoreError> {
    let row = transaction.query_one_raw(statement(FACTS, [session.0.into()])).await?;
    let row = row.ok_or_else(|| StoreError::Unavailable("no answer to a query of one row".to_owned()))?;
    let own = match get::<Option<String>>(&row, "state")? {
        None => None,
        Some(state) => Some(OwnFacts {
            state: rows::state_of(&state)?,
            committed: get(&row, "committed")?,
            total_bytes: get(&row, "total_bytes")?,
            spool_gone: get(&row, "spool_gone")?,
            finish_sent: get(&row, "finish_sent")?,
        }),
    };
    let statuses: (Option<String>, Option<String>) = (get(&row, "flow_status")?, get(&row, "video_status")?);
    let shared = match statuses {
        (Some(flow), Some(video)) => Some(SharedFacts {
            flow: rows::flow_status_of(&flow)?,
            video: rows::video_status_of(&video)?,
            other_hidden: get(&row, "other_hidden")?,
        }),
        _ => None,
    };
    Ok(Locked { facts: Facts { own, shared }, flow: get(&row, "flow")?, video: get(&row, "video")? })
}

impl Locked {
    fn change(&self, after: SessionState, video_status: Option<String>, finish_sent: bool) -> Change {
        Change {
            video_id: self.video.map(|video| video.to_string()),
            before: self.facts.own.as_ref().map(|own| own.state.as_str().to_owned()),
            after: after.as_str().to_owned(),
            video_status,
            finish_sent,
        }
    }
}
