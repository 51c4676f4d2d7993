//! How sessions end: DISTRIBUTED, or parked; and what is removed afterwards.

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction};

use super::super::cleaning::REMOVED;
use super::super::sql::statement;
use super::super::{StoreError, pool};
use super::{GUARD, Guard, Written};
use crate::domain::feed::Claim;
use crate::domain::ids::{FlowName, SessionId};

/// Why a session is parked, and the process it leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// For operators, in `last_error`.
    pub reason: String,
    /// The current generation's name, if it has one.
    pub stray: Option<FlowName>,
    /// The replica it lived at, if known.
    pub stray_base: Option<String>,
}

/// The video's row is locked first, in a statement of its own: two flows of one video may finish at once, and the
/// second must see the first one's flow.
pub(super) async fn complete(
    db: &DatabaseConnection,
    guard: Guard,
    claim: &Claim,
) -> Result<Written, StoreError> {
    let transaction = pool::begin(db).await?;
    lock_video(&transaction, claim).await?;
    let done = format!(
        "UPDATE uploader.session SET state = 'DONE', owner = NULL, ended_at = clock_timestamp(), \
         fed = committed WHERE {GUARD}"
    );
    if transaction.execute_raw(statement(&done, guard.values())).await?.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(Written::Fenced);
    }
    let flow = "UPDATE flows SET status = 'DISTRIBUTED', uploaded_at = clock_timestamp() WHERE id = $1";
    let flows = transaction.execute_raw(statement(flow, [claim.flow.0.into()])).await?.rows_affected();
    if flows == 0 {
        // Somebody removed the upload meanwhile: nothing of it plays, and its late chunks are told why.
        let removed = "UPDATE uploader.session SET state = 'EXPIRED', last_error = $2 WHERE session_id = $1";
        transaction.execute_raw(statement(removed, [claim.session.0.into(), REMOVED.into()])).await?;
    }
    let video = "UPDATE videos SET status = 'DISTRIBUTED', uploaded_at = clock_timestamp() \
                 WHERE id = $1 AND status IN ('CREATED', 'UPLOADING') \
                 AND NOT EXISTS (SELECT 1 FROM flows WHERE video_id = $1 AND status <> 'DISTRIBUTED')";
    transaction.execute_raw(statement(video, [claim.video.0.into()])).await?;
    let session = "DELETE FROM upload_sessions WHERE id = $1";
    transaction.execute_raw(statement(session, [claim.session.0.into()])).await?;
    transaction.commit().await?;
    Ok(Written::Done)
}

pub(super) async fn park(
    db: &DatabaseConnection,
    guard: Guard,
    claim: &Claim,
    ending: &Ending,
) -> Result<Written, StoreError> {
    let transaction = pool::begin(db).await?;
    lock_video(&transaction, claim).await?;
    let failed = format!(
        "UPDATE uploader.session SET state = 'FAILED', owner = NULL, settled = false, flow_url = NULL, fed = 0, \
         last_error = $5, ended_at = clock_timestamp() WHERE {GUARD}"
    );
    let values = guard.values().into_iter().chain([ending.reason.clone().into()]);
    if transaction.execute_raw(statement(&failed, values)).await?.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(Written::Fenced);
    }
    let flow = "UPDATE flows SET status = 'HIDDEN' WHERE id = $1";
    transaction.execute_raw(statement(flow, [claim.flow.0.into()])).await?;
    let video = "UPDATE videos SET status = 'BLOCKED' WHERE id = $1";
    transaction.execute_raw(statement(video, [claim.video.0.into()])).await?;
    add_stray(&transaction, claim.session, ending).await?;
    transaction.commit().await?;
    Ok(Written::Done)
}

async fn lock_video(transaction: &DatabaseTransaction, claim: &Claim) -> Result<(), StoreError> {
    let lock = "SELECT id FROM videos WHERE id = $1 FOR NO KEY UPDATE";
    transaction.query_all_raw(statement(lock, [claim.video.0.into()])).await?;
    Ok(())
}

pub(super) async fn add_stray(
    transaction: &impl ConnectionTrait,
    session: SessionId,
    ending: &Ending,
) -> Result<(), StoreError> {
    let Some(name) = &ending.stray else {
        return Ok(());
    };
    let insert = "INSERT INTO uploader.stray (name, session_id, base_url) VALUES ($1, $2, $3) \
                  ON CONFLICT (name) DO NOTHING";
    let values = [name.as_str().into(), session.0.into(), ending.stray_base.clone().into()];
    transaction.execute_raw(statement(insert, values)).await?;
    Ok(())
}

/// Rows of one session removed in one statement.
const RUNS_PER_BATCH: i64 = 5_000;

/// Removes a batch of a session's runs; says whether there may be more.
pub(super) async fn drop_runs(db: &DatabaseConnection, session: SessionId) -> Result<bool, StoreError> {
    let delete = "DELETE FROM uploader.run WHERE session_id = $1 AND start IN \
                  (SELECT start FROM uploader.run WHERE session_id = $1 ORDER BY start LIMIT $2)";
    let values = [session.0.into(), RUNS_PER_BATCH.into()];
    Ok(db.execute_raw(statement(delete, values)).await?.rows_affected() == RUNS_PER_BATCH as u64)
}

pub(super) async fn set_cleaned(db: &DatabaseConnection, session: SessionId) -> Result<(), StoreError> {
    let update = "UPDATE uploader.session SET cleaned_at = clock_timestamp() \
                  WHERE session_id = $1 AND state IN ('DONE', 'EXPIRED') AND cleaned_at IS NULL";
    db.execute_raw(statement(update, [session.0.into()])).await?;
    Ok(())
}

/// The bytes stay; when the session goes on, a new generation replays them. `fed` stays too, so that a session
/// without new bytes has no work.
pub(super) async fn drop_idle_flows(
    db: &DatabaseConnection,
    idle_seconds: f64,
    limit: i64,
) -> Result<u64, StoreError> {
    let query = "WITH idle AS (SELECT session_id FROM uploader.session WHERE ended_at IS NULL AND state = 'OPEN' \
         AND owner IS NULL AND settled AND last_activity < clock_timestamp() - make_interval(secs => $1) \
         LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED), \
         dropped AS (UPDATE uploader.session s SET settled = false, flow_url = NULL FROM idle \
         WHERE s.session_id = idle.session_id RETURNING s.session_id, s.generation, s.flow_url) \
         INSERT INTO uploader.stray (name, session_id) \
         SELECT session_id::text || CASE WHEN generation > 1 THEN '~' || generation ELSE '' END, session_id \
         FROM dropped ON CONFLICT (name) DO NOTHING";
    Ok(db.execute_raw(statement(query, [idle_seconds.into(), limit.into()])).await?.rows_affected())
}
