//! How an abandoned video ends: one transaction, in the one order of locks.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, TransactionTrait};
use uuid::Uuid;

use super::super::StoreError;
use super::super::rows::get;
use super::super::sql::statement;
use super::Expired;
use crate::domain::ids::VideoId;

/// Holds for the row `v` of `videos`; `$1` is the time-to-live in seconds. A video whose flows all play is never
/// abandoned, whatever its status says.
const ABANDONED: &str = "(v.status IN ('CREATED', 'UPLOADING') OR (v.status = 'BLOCKED' AND EXISTS \
     (SELECT 1 FROM uploader.session s WHERE s.video_id = v.id AND s.state = 'OPEN'))) \
     AND v.created_at < clock_timestamp() - make_interval(secs => $1) \
     AND NOT EXISTS (SELECT 1 FROM uploader.session s WHERE s.video_id = v.id AND (s.state = 'SEALED' \
     OR greatest(s.last_activity, s.ended_at) >= clock_timestamp() - make_interval(secs => $1))) \
     AND (NOT EXISTS (SELECT 1 FROM flows f WHERE f.video_id = v.id) \
     OR EXISTS (SELECT 1 FROM flows f WHERE f.video_id = v.id AND f.status <> 'DISTRIBUTED')) \
     AND EXISTS (SELECT 1 FROM uploader.service \
     WHERE consuming_since < clock_timestamp() - make_interval(secs => $1)) \
     AND EXISTS (SELECT 1 FROM uploader.replica WHERE consuming AND lease_until > clock_timestamp())";

/// By chance, so that videos which cannot be ended now do not stand in the way of the others.
pub(super) async fn abandoned(
    db: &DatabaseConnection,
    ttl: Duration,
    limit: u32,
) -> Result<Vec<VideoId>, StoreError> {
    let query = format!("SELECT v.id FROM videos v WHERE {ABANDONED} ORDER BY random() LIMIT $2");
    let values = [ttl.as_secs_f64().into(), i64::from(limit).into()];
    let found = db.query_all_raw(statement(&query, values)).await?;
    found.iter().map(|row| get(row, "id").map(VideoId)).collect()
}

pub(super) async fn expire(
    db: &DatabaseConnection,
    video: VideoId,
    ttl: Duration,
) -> Result<Expired, StoreError> {
    let transaction = db.begin().await?;
    if !lock(&transaction, video).await? || !is_abandoned(&transaction, video, ttl).await? {
        transaction.rollback().await?;
        return Ok(Expired::Spared);
    }
    let keep = plays(&transaction, video).await?;
    end_sessions(&transaction, video, keep, ttl).await?;
    let ended = if keep { block(&transaction, video).await? } else { delete(&transaction, video).await? };
    transaction.commit().await?;
    Ok(ended)
}

/// Everything of the video, in the one order, each table in a statement of its own. `false` when somebody holds the
/// video. A session that is held is waited for as long as `lock_timeout` allows.
async fn lock(transaction: &DatabaseTransaction, video: VideoId) -> Result<bool, StoreError> {
    let locks = [
        "SELECT id FROM videos WHERE id = $1 FOR UPDATE SKIP LOCKED",
        "SELECT session_id AS id FROM uploader.session WHERE video_id = $1 ORDER BY session_id FOR NO KEY UPDATE",
        "SELECT id FROM flows WHERE video_id = $1 ORDER BY id FOR UPDATE",
        "SELECT u.id FROM upload_sessions u JOIN flows f ON f.id = u.flow_id WHERE f.video_id = $1 \
         ORDER BY u.id FOR UPDATE OF u",
    ];
    for (place, lock) in locks.into_iter().enumerate() {
        let found = transaction.query_all_raw(statement(lock, [video.0.into()])).await?;
        if place == 0 && found.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn is_abandoned(
    transaction: &DatabaseTransaction,
    video: VideoId,
    ttl: Duration,
) -> Result<bool, StoreError> {
    let query = format!("SELECT v.id FROM videos v WHERE v.id = $2 AND {ABANDONED}");
    let values = [ttl.as_secs_f64().into(), video.0.into()];
    Ok(transaction.query_one_raw(statement(&query, values)).await?.is_some())
}

async fn plays(transaction: &DatabaseTransaction, video: VideoId) -> Result<bool, StoreError> {
    let query = "SELECT id FROM flows WHERE video_id = $1 AND status = 'DISTRIBUTED' LIMIT 1";
    Ok(transaction.query_one_raw(statement(query, [video.0.into()])).await?.is_some())
}

/// Writes down the live generations of the sessions that `$1` selects, where they run if that is known.
pub(in crate::gateways::upload_store) fn strays_of(condition: &str) -> String {
    format!(
        "INSERT INTO uploader.stray (name, session_id, base_url) SELECT n.name, n.session_id, \
         CASE WHEN right(n.flow_url, length(n.name) + 1) = '/' || n.name \
         THEN left(n.flow_url, -length(n.name) - 1) END \
         FROM (SELECT session_id, flow_url, session_id::text || CASE WHEN generation > 1 \
         THEN '~' || generation ELSE '' END AS name FROM uploader.session WHERE generation > 0 AND {condition}) n \
         ON CONFLICT (name) DO NOTHING"
    )
}

/// What an expired session's row becomes; `recent` stays, so that duplicates are answered as before.
pub(in crate::gateways::upload_store) const EXPIRE: &str = "UPDATE uploader.session SET state = 'EXPIRED', epoch = epoch + 1, owner = NULL, \
     settled = false, flow_url = NULL, next_attempt_at = NULL, ended_at = clock_timestamp(), last_error = $2";

/// Every upload of the video gets a tombstone, also one without a row of ours: its first chunk may be on its way.
/// A parked session ends only together with its video.
async fn end_sessions(
    transaction: &DatabaseTransaction,
    video: VideoId,
    keep: bool,
    ttl: Duration,
) -> Result<(), StoreError> {
    let reason = || format!("no activity for {} s", ttl.as_secs());
    let strays = strays_of("video_id = $1 AND state = 'OPEN'");
    transaction.execute_raw(statement(&strays, [video.0.into()])).await?;
    let ended = if keep { "state = 'OPEN'" } else { "state IN ('OPEN', 'FAILED')" };
    let expire = format!("{EXPIRE} WHERE video_id = $1 AND {ended}");
    transaction.execute_raw(statement(&expire, [video.0.into(), reason().into()])).await?;
    let bury = "INSERT INTO uploader.session (session_id, flow_id, video_id, state, epoch, last_error, ended_at) \
         SELECT u.id, u.flow_id, f.video_id, 'EXPIRED', 1, $2, clock_timestamp() \
         FROM upload_sessions u JOIN flows f ON f.id = u.flow_id WHERE f.video_id = $1 ORDER BY u.id \
         ON CONFLICT (session_id) DO NOTHING";
    transaction.execute_raw(statement(bury, [video.0.into(), reason().into()])).await?;
    Ok(())
}

/// The rows that hang on it go by the cascades of the shared tables.
async fn delete(transaction: &DatabaseTransaction, video: VideoId) -> Result<Expired, StoreError> {
    write(transaction, "DELETE FROM videos WHERE id = $1", video.0).await?;
    Ok(Expired::Deleted)
}

async fn block(transaction: &DatabaseTransaction, video: VideoId) -> Result<Expired, StoreError> {
    write(transaction, "UPDATE videos SET status = 'BLOCKED' WHERE id = $1", video.0).await?;
    let hide = "UPDATE flows SET status = 'HIDDEN' WHERE video_id = $1 AND status <> 'DISTRIBUTED'";
    write(transaction, hide, video.0).await?;
    Ok(Expired::Blocked)
}

async fn write(transaction: &DatabaseTransaction, write: &str, id: Uuid) -> Result<(), StoreError> {
    transaction.execute_raw(statement(write, [id.into()])).await?;
    Ok(())
}
