//! How abandoned videos end, some of them in one transaction, in the one order of locks: first their uploads, then they.

use std::collections::HashSet;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, Value};
use uuid::Uuid;

use super::super::rows::get;
use super::super::sql::{statement, uuid_array};
use super::super::{StoreError, pool};
use super::{Expired, Stage, judged};
use crate::domain::ids::VideoId;

pub(super) async fn expire(
    db: &DatabaseConnection,
    videos: &[VideoId],
    ttl: Duration,
) -> Result<Expired, StoreError> {
    let transaction = pool::begin(db).await?;
    let locked = lock(&transaction, videos).await?;
    let flows = locked.flows_where(|_| true);
    let ending = judged::still(&transaction, Stage::Uploads, &locked.videos, Some(&flows), ttl).await?;
    if ending.is_empty() {
        transaction.rollback().await?;
        return Ok(Expired::default());
    }
    let fate = |plays: bool| -> Vec<Uuid> {
        ending.iter().filter(|(_, kept)| *kept == plays).map(|(video, _)| *video).collect()
    };
    let (emptied, blocked) = (fate(false), fate(true));
    end_sessions(&transaction, &emptied, &blocked, ttl).await?;
    bury(&transaction, &locked.flows_of(&ending), ttl).await?;
    block(&transaction, &blocked, &locked).await?;
    empty(&transaction, &emptied, &locked).await?;
    transaction.commit().await?;
    let ids = |videos: Vec<Uuid>| videos.into_iter().map(VideoId).collect();
    Ok(Expired { emptied: ids(emptied), blocked: ids(blocked) })
}

/// Each video costs a walk through all flows, by the cascade of the shared tables: they have no index by video.
pub(super) async fn remove(
    db: &DatabaseConnection,
    videos: &[VideoId],
    ttl: Duration,
) -> Result<u64, StoreError> {
    let transaction = pool::begin(db).await?;
    let videos = ids(&transaction, LOCK_VIDEOS, [uuid_array(videos.iter().map(|video| video.0))]).await?;
    let emptied = judged::still(&transaction, Stage::Emptied, &videos, None, ttl).await?;
    if emptied.is_empty() {
        transaction.rollback().await?;
        return Ok(0);
    }
    let delete = "DELETE FROM videos WHERE id = ANY($1)";
    write(&transaction, delete, [uuid_array(emptied.iter().map(|(video, _)| *video))]).await?;
    transaction.commit().await?;
    Ok(emptied.len() as u64)
}

const LOCK_VIDEOS: &str = "SELECT id FROM videos WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED";
const LOCK_SESSIONS: &str = "SELECT session_id AS id FROM uploader.session WHERE video_id = ANY($1) \
     ORDER BY session_id FOR NO KEY UPDATE SKIP LOCKED";
const FLOWS: &str = "SELECT id, video_id FROM flows WHERE video_id = ANY($1)";
const LOCK_FLOWS: &str = "SELECT id FROM flows WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED";
const LOCK_UPLOADS: &str =
    "SELECT id FROM upload_sessions WHERE flow_id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED";

/// Videos of which somebody holds a session: it was passed over.
const HELD: &str = "SELECT video_id AS id FROM uploader.session WHERE video_id = ANY($1) AND session_id <> ALL($2) \
     UNION SELECT f.video_id FROM flows f JOIN upload_sessions u ON u.flow_id = f.id \
     WHERE u.flow_id = ANY($3) AND u.id <> ALL($4)";

/// Videos of which every row is locked, and their flows.
struct Locked {
    videos: Vec<Uuid>,
    /// Flow and video.
    flows: Vec<(Uuid, Uuid)>,
}

impl Locked {
    fn flows_of(&self, ending: &[(Uuid, bool)]) -> Vec<Uuid> {
        self.flows_where(|video| ending.iter().any(|(other, _)| *other == video))
    }

    fn flows_where(&self, of: impl Fn(Uuid) -> bool) -> Vec<Uuid> {
        self.flows.iter().filter(|(_, video)| of(*video)).map(|(flow, _)| *flow).collect()
    }
}

/// Everything of the videos, in the one order, each table in a statement of its own; nobody is waited for. Once a video
/// is locked, nobody can give it another flow.
async fn lock(transaction: &DatabaseTransaction, videos: &[VideoId]) -> Result<Locked, StoreError> {
    let wanted = uuid_array(videos.iter().map(|video| video.0));
    let videos = ids(transaction, LOCK_VIDEOS, [wanted]).await?;
    if videos.is_empty() {
        return Ok(Locked { videos, flows: Vec::new() });
    }
    let sessions = ids(transaction, LOCK_SESSIONS, [array(&videos)]).await?;
    let found = transaction.query_all_raw(statement(FLOWS, [array(&videos)])).await?;
    let flows: Vec<(Uuid, Uuid)> = found
        .iter()
        .map(|row| Ok((get(row, "id")?, get(row, "video_id")?)))
        .collect::<Result<_, StoreError>>()?;
    let flow_ids: Vec<Uuid> = flows.iter().map(|(flow, _)| *flow).collect();
    let locked: HashSet<Uuid> = ids(transaction, LOCK_FLOWS, [array(&flow_ids)]).await?.into_iter().collect();
    let uploads = ids(transaction, LOCK_UPLOADS, [array(&flow_ids)]).await?;
    let all = [array(&videos), array(&sessions), array(&flow_ids), array(&uploads)];
    let mut held: HashSet<Uuid> = ids(transaction, HELD, all).await?.into_iter().collect();
    held.extend(flows.iter().filter(|(flow, _)| !locked.contains(flow)).map(|(_, video)| *video));
    Ok(Locked { videos: videos.into_iter().filter(|video| !held.contains(video)).collect(), flows })
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

/// A parked session ends only together with its video.
async fn end_sessions(
    transaction: &DatabaseTransaction,
    emptied: &[Uuid],
    blocked: &[Uuid],
    ttl: Duration,
) -> Result<(), StoreError> {
    let all = || uuid_array(emptied.iter().chain(blocked).copied());
    write(transaction, &strays_of("video_id = ANY($1) AND state = 'OPEN'"), [all()]).await?;
    let expire = format!(
        "{EXPIRE} WHERE video_id = ANY($1) AND (state = 'OPEN' OR (state = 'FAILED' AND video_id = ANY($3)))"
    );
    write(transaction, &expire, [all(), reason(ttl), array(emptied)]).await
}

/// Every upload gets a tombstone, also one without a row of ours: its first chunk may be on its way. The tombstone is
/// no sign of life of its video.
async fn bury(transaction: &DatabaseTransaction, flows: &[Uuid], ttl: Duration) -> Result<(), StoreError> {
    let bury = "INSERT INTO uploader.session (session_id, flow_id, video_id, state, epoch, last_error, ended_at, \
         last_activity) SELECT u.id, u.flow_id, f.video_id, 'EXPIRED', 1, $2, clock_timestamp(), f.created_at \
         FROM upload_sessions u JOIN flows f ON f.id = u.flow_id WHERE u.flow_id = ANY($1) ORDER BY u.id \
         ON CONFLICT (session_id) DO NOTHING";
    write(transaction, bury, [array(flows), reason(ttl)]).await
}

fn reason(ttl: Duration) -> Value {
    format!("no activity for {} s", ttl.as_secs()).into()
}

async fn block(
    transaction: &DatabaseTransaction,
    videos: &[Uuid],
    locked: &Locked,
) -> Result<(), StoreError> {
    if videos.is_empty() {
        return Ok(());
    }
    let block = "UPDATE videos SET status = 'BLOCKED' WHERE id = ANY($1)";
    write(transaction, block, [array(videos)]).await?;
    let hide = "UPDATE flows SET status = 'HIDDEN' WHERE id = ANY($1) AND status <> 'DISTRIBUTED'";
    write(transaction, hide, [array(&locked.flows_where(|video| videos.contains(&video)))]).await
}

/// Removes the flows by their own ids, and with them what hangs on each by its index.
async fn empty(
    transaction: &DatabaseTransaction,
    videos: &[Uuid],
    locked: &Locked,
) -> Result<(), StoreError> {
    let flows = locked.flows_where(|video| videos.contains(&video));
    write(transaction, "DELETE FROM flows WHERE id = ANY($1)", [array(&flows)]).await
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
