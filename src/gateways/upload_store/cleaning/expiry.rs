//! How abandoned videos end: some of them in one transaction, in the one order of locks.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, TransactionTrait, Value};
use uuid::Uuid;

use super::super::StoreError;
use super::super::rows::get;
use super::super::sql::{statement, uuid_array};
use super::{Expired, judged};
use crate::domain::ids::VideoId;

pub(super) async fn expire(
    db: &DatabaseConnection,
    videos: &[VideoId],
    ttl: Duration,
) -> Result<Expired, StoreError> {
    let transaction = db.begin().await?;
    let ours = lock(&transaction, videos).await?;
    let ending = judged::still_abandoned(&transaction, &ours, ttl).await?;
    if ending.is_empty() {
        transaction.rollback().await?;
        return Ok(Expired::default());
    }
    let fate = |plays: bool| -> Vec<Uuid> {
        ending.iter().filter(|(_, kept)| *kept == plays).map(|(video, _)| *video).collect()
    };
    let (deleted, blocked) = (fate(false), fate(true));
    end_sessions(&transaction, &deleted, &blocked, ttl).await?;
    block(&transaction, &blocked).await?;
    delete(&transaction, &deleted).await?;
    transaction.commit().await?;
    let ids = |videos: Vec<Uuid>| videos.into_iter().map(VideoId).collect();
    Ok(Expired { deleted: ids(deleted), blocked: ids(blocked) })
}

const LOCK_VIDEOS: &str = "SELECT id FROM videos WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED";
const LOCK_SESSIONS: &str = "SELECT session_id AS id FROM uploader.session WHERE video_id = ANY($1) \
     ORDER BY session_id FOR NO KEY UPDATE SKIP LOCKED";
const LOCK_FLOWS: &str = "SELECT id FROM flows WHERE video_id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED";
const LOCK_UPLOADS: &str =
    "SELECT id FROM upload_sessions WHERE flow_id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED";

/// Videos of which somebody holds a row: it was passed over.
const HELD: &str = "SELECT video_id AS id FROM uploader.session WHERE video_id = ANY($1) AND session_id <> ALL($2) \
     UNION SELECT video_id FROM flows WHERE video_id = ANY($1) AND id <> ALL($3) \
     UNION SELECT f.video_id FROM flows f JOIN upload_sessions u ON u.flow_id = f.id \
     WHERE f.video_id = ANY($1) AND u.id <> ALL($4)";

/// Everything of the videos, in the one order, each table in a statement of its own; nobody is waited for. Returns the
/// videos of which every row is locked.
async fn lock(transaction: &DatabaseTransaction, videos: &[VideoId]) -> Result<Vec<Uuid>, StoreError> {
    let wanted = uuid_array(videos.iter().map(|video| video.0));
    let videos = ids(transaction, LOCK_VIDEOS, [wanted]).await?;
    if videos.is_empty() {
        return Ok(videos);
    }
    let sessions = ids(transaction, LOCK_SESSIONS, [array(&videos)]).await?;
    let flows = ids(transaction, LOCK_FLOWS, [array(&videos)]).await?;
    let uploads = ids(transaction, LOCK_UPLOADS, [array(&flows)]).await?;
    let locked = [array(&videos), array(&sessions), array(&flows), array(&uploads)];
    let held = ids(transaction, HELD, locked).await?;
    Ok(videos.into_iter().filter(|video| !held.contains(video)).collect())
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

/// Every upload of the videos gets a tombstone, also one without a row of ours: its first chunk may be on its way.
/// A parked session ends only together with its video.
async fn end_sessions(
    transaction: &DatabaseTransaction,
    deleted: &[Uuid],
    blocked: &[Uuid],
    ttl: Duration,
) -> Result<(), StoreError> {
    let all = || uuid_array(deleted.iter().chain(blocked).copied());
    let reason = || Value::from(format!("no activity for {} s", ttl.as_secs()));
    write(transaction, &strays_of("video_id = ANY($1) AND state = 'OPEN'"), [all()]).await?;
    let expire = format!(
        "{EXPIRE} WHERE video_id = ANY($1) AND (state = 'OPEN' OR (state = 'FAILED' AND video_id = ANY($3)))"
    );
    write(transaction, &expire, [all(), reason(), array(deleted)]).await?;
    let bury = "INSERT INTO uploader.session (session_id, flow_id, video_id, state, epoch, last_error, ended_at) \
         SELECT u.id, u.flow_id, f.video_id, 'EXPIRED', 1, $2, clock_timestamp() \
         FROM upload_sessions u JOIN flows f ON f.id = u.flow_id WHERE f.video_id = ANY($1) ORDER BY u.id \
         ON CONFLICT (session_id) DO NOTHING";
    write(transaction, bury, [all(), reason()]).await
}

async fn block(transaction: &DatabaseTransaction, videos: &[Uuid]) -> Result<(), StoreError> {
    if videos.is_empty() {
        return Ok(());
    }
    let block = "UPDATE videos SET status = 'BLOCKED' WHERE id = ANY($1)";
    write(transaction, block, [array(videos)]).await?;
    let hide = "UPDATE flows SET status = 'HIDDEN' WHERE video_id = ANY($1) AND status <> 'DISTRIBUTED'";
    write(transaction, hide, [array(videos)]).await
}

/// The rows that hang on them go by the cascades of the shared tables: for each video one walk through `flows`.
async fn delete(transaction: &DatabaseTransaction, videos: &[Uuid]) -> Result<(), StoreError> {
    write(transaction, "DELETE FROM videos WHERE id = ANY($1)", [array(videos)]).await
}

fn array(ids: &[Uuid]) -> Value {
    uuid_array(ids.iter().copied())
}

async fn ids(
    transaction: &DatabaseTransaction,
    query: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<Uuid>, StoreError> {
    let found = transaction.query_all_raw(statement(query, values)).await?;
    found.iter().map(|row| get(row, "id")).collect()
}

async fn write(
    transaction: &DatabaseTransaction,
    write: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<(), StoreError> {
    transaction.execute_raw(statement(write, values)).await?;
    Ok(())
}
