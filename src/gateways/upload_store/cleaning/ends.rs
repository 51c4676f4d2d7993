//! What is left of sessions that have ended, and of those whose rows others removed.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, Value};
use uuid::Uuid;

use super::super::rows::get;
use super::super::sql::{self, statement, uuids};
use super::super::{StoreError, pool};
use super::Folders;
use super::expiry::{EXPIRE, strays_of};
use crate::domain::ids::SessionId;

/// The reason that late chunks of such a session are told.
pub(in crate::gateways::upload_store) const REMOVED: &str = "removed by another";

/// A session that is not final, or parked, and whose `upload_sessions` row is gone.
pub(super) const ORPHANED: &str = "state IN ('OPEN', 'SEALED', 'FAILED') \
     AND NOT EXISTS (SELECT 1 FROM upload_sessions u WHERE u.id = session_id)";

/// Locked first, looked at again in a later statement: between the two nobody can make the row come back.
pub(super) async fn expire_removed(db: &DatabaseConnection, limit: u32) -> Result<u64, StoreError> {
    let transaction = pool::begin(db).await?;
    let lock = format!(
        "SELECT session_id FROM uploader.session WHERE {ORPHANED} ORDER BY session_id LIMIT $1 \
         FOR NO KEY UPDATE SKIP LOCKED"
    );
    let orphans = sessions(&transaction, &lock, [i64::from(limit).into()]).await?;
    if orphans.is_empty() {
        transaction.rollback().await?;
        return Ok(0);
    }
    let theirs = format!("session_id = ANY($1) AND {ORPHANED}");
    transaction.execute_raw(statement(&strays_of(&theirs), [uuids(&orphans)])).await?;
    let expire = format!("{EXPIRE} WHERE {theirs}");
    let expired = transaction.execute_raw(statement(&expire, [uuids(&orphans), REMOVED.into()])).await?;
    transaction.commit().await?;
    Ok(expired.rows_affected())
}

/// The tombstone is committed before the files go: a first chunk that comes later is refused by it.
pub(super) async fn judge_folders(
    db: &DatabaseConnection,
    folders: &[SessionId],
) -> Result<Folders, StoreError> {
    let bury = "INSERT INTO uploader.session (session_id, state, epoch, last_error, ended_at) \
         SELECT k.id, 'EXPIRED', 1, $2, clock_timestamp() FROM unnest($1::uuid[]) AS k(id) \
         WHERE NOT EXISTS (SELECT 1 FROM upload_sessions u WHERE u.id = k.id) ORDER BY k.id \
         ON CONFLICT (session_id) DO NOTHING RETURNING session_id";
    let buried = sessions(db, bury, [uuids(folders), REMOVED.into()]).await?;
    let late = "SELECT session_id FROM uploader.session WHERE session_id = ANY($1) \
         AND ((state IN ('DONE', 'EXPIRED') AND cleaned_at IS NOT NULL) \
         OR (state = 'FAILED' AND spool_gone_at IS NOT NULL))";
    Ok(Folders { buried, late: sessions(db, late, [uuids(folders)]).await? })
}

pub(super) async fn give_up_bytes(
    db: &DatabaseConnection,
    ttl: Duration,
    limit: u32,
) -> Result<Vec<SessionId>, StoreError> {
    let query = "UPDATE uploader.session SET spool_gone_at = clock_timestamp() WHERE session_id IN \
         (SELECT session_id FROM uploader.session WHERE state = 'FAILED' AND spool_gone_at IS NULL \
         AND ended_at < clock_timestamp() - make_interval(secs => $1) ORDER BY ended_at LIMIT $2 \
         FOR NO KEY UPDATE SKIP LOCKED) RETURNING session_id";
    sessions(db, query, [ttl.as_secs_f64().into(), i64::from(limit).into()]).await
}

/// By id, so that on a way through each is met once, and those which cannot be cleaned now do not stand in the way.
pub(super) async fn uncleaned(
    db: &DatabaseConnection,
    after: Option<SessionId>,
    limit: u32,
) -> Result<Vec<SessionId>, StoreError> {
    let query = "SELECT session_id FROM uploader.session WHERE session_id > $1 \
         AND state IN ('DONE', 'EXPIRED') AND cleaned_at IS NULL ORDER BY session_id LIMIT $2";
    let after = after.map_or(Uuid::nil(), |session| session.0);
    sessions(db, query, [after.into(), i64::from(limit).into()]).await
}

/// Rows of `uploader.run` removed in one statement.
const RUNS_PER_BATCH: i64 = 5_000;

/// A session of many chunks has many runs; each batch has its own time.
pub(super) async fn drop_runs(db: &DatabaseConnection, ended: &[SessionId]) -> Result<(), StoreError> {
    let delete = "DELETE FROM uploader.run WHERE session_id = ANY($1) AND (session_id, start) IN \
         (SELECT session_id, start FROM uploader.run WHERE session_id = ANY($1) \
         ORDER BY session_id, start LIMIT $2)";
    loop {
        let values = [uuids(ended), RUNS_PER_BATCH.into()];
        let gone = sql::within(deleted(db, delete, values)).await?;
        if gone < RUNS_PER_BATCH as u64 {
            return Ok(());
        }
    }
}

pub(super) async fn set_cleaned(db: &DatabaseConnection, ended: &[SessionId]) -> Result<(), StoreError> {
    let update = "UPDATE uploader.session SET cleaned_at = clock_timestamp() WHERE session_id IN \
         (SELECT session_id FROM uploader.session WHERE session_id = ANY($1) \
         AND state IN ('DONE', 'EXPIRED') AND cleaned_at IS NULL ORDER BY session_id FOR NO KEY UPDATE)";
    db.execute_raw(statement(update, [uuids(ended)])).await?;
    Ok(())
}

/// A run is written together with its session's row: one without that row belongs to nobody any more.
pub(super) async fn forget_runs(db: &DatabaseConnection, limit: u32) -> Result<u64, StoreError> {
    let delete = "DELETE FROM uploader.run WHERE (session_id, start) IN (SELECT r.session_id, r.start \
         FROM uploader.run r LEFT JOIN uploader.session s ON s.session_id = r.session_id \
         WHERE s.session_id IS NULL OR (s.state IN ('DONE', 'EXPIRED') AND s.cleaned_at IS NOT NULL) LIMIT $1)";
    deleted(db, delete, [i64::from(limit).into()]).await
}

pub(super) async fn forget_tombstones(
    db: &DatabaseConnection,
    ttl: Duration,
    limit: u32,
) -> Result<u64, StoreError> {
    let delete = "DELETE FROM uploader.session WHERE session_id IN \
         (SELECT session_id FROM uploader.session WHERE state IN ('DONE', 'EXPIRED') AND cleaned_at IS NOT NULL \
         AND ended_at < clock_timestamp() - make_interval(secs => $1) ORDER BY ended_at LIMIT $2 \
         FOR UPDATE SKIP LOCKED)";
    deleted(db, delete, [ttl.as_secs_f64().into(), i64::from(limit).into()]).await
}

/// A replica that wakes after that writes its row anew, and finds its sessions with others.
pub(super) async fn forget_replicas(db: &DatabaseConnection, limit: u32) -> Result<u64, StoreError> {
    let delete = "DELETE FROM uploader.replica WHERE replica_id IN (SELECT replica_id FROM uploader.replica \
         WHERE lease_until < clock_timestamp() - interval '1 hour' LIMIT $1 FOR UPDATE SKIP LOCKED)";
    deleted(db, delete, [i64::from(limit).into()]).await
}

async fn deleted(
    db: &DatabaseConnection,
    delete: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<u64, StoreError> {
    Ok(db.execute_raw(statement(delete, values)).await?.rows_affected())
}

async fn sessions(
    db: &impl ConnectionTrait,
    query: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<SessionId>, StoreError> {
    let found = db.query_all_raw(statement(query, values)).await?;
    found.iter().map(|row| get(row, "session_id").map(SessionId)).collect()
}
