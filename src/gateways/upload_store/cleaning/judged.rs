//! Which videos are abandoned: one definition, for the search, for the look at locked rows and for the preview.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult};
use uuid::Uuid;

use super::super::StoreError;
use super::super::rows::get;
use super::super::sql::{statement, uuid_array};
use super::Abandoned;
use crate::domain::ids::VideoId;

/// Candidates that one search judges.
const PAGE: i64 = 5_000;

/// The statuses that an abandoned video may have.
pub(super) const UNFINISHED: &str = "status IN ('CREATED', 'UPLOADING', 'BLOCKED')";

/// Goes on from a CTE `page (id, status, created_at)` of videos; `$1` is the time-to-live in seconds. `judged` holds
/// those that are abandoned. The tables are joined once for the page: `flows` has no index by video. A video whose
/// flows all play is never abandoned, whatever its status says.
pub(super) const JUDGED: &str = "\
     uses AS (SELECT s.video_id, bool_or(s.state = 'OPEN') AS open, bool_or(s.state = 'SEALED') AS sealed, \
       max(greatest(s.last_activity, s.ended_at)) AS used, count(*) AS sessions \
       FROM uploader.session s JOIN page ON page.id = s.video_id GROUP BY s.video_id), \
     parts AS (SELECT f.video_id, bool_and(f.status = 'DISTRIBUTED') AS all_play, \
       bool_or(f.status = 'DISTRIBUTED') AS plays, count(*) AS flows \
       FROM flows f JOIN page ON page.id = f.video_id GROUP BY f.video_id), \
     judged AS (SELECT v.id, v.status::text AS status, coalesce(p.plays, false) AS plays, \
       greatest(v.created_at, u.used) AS used, coalesce(u.sessions, 0) AS sessions, coalesce(p.flows, 0) AS flows \
       FROM page v LEFT JOIN uses u ON u.video_id = v.id LEFT JOIN parts p ON p.video_id = v.id \
       WHERE (v.status IN ('CREATED', 'UPLOADING') OR (v.status = 'BLOCKED' AND u.open)) \
       AND NOT coalesce(u.sealed, false) AND NOT coalesce(p.all_play, false) \
       AND greatest(v.created_at, u.used) < clock_timestamp() - make_interval(secs => $1) \
       AND EXISTS (SELECT 1 FROM uploader.service \
         WHERE consuming_since < clock_timestamp() - make_interval(secs => $1)) \
       AND EXISTS (SELECT 1 FROM uploader.replica WHERE consuming AND lease_until > clock_timestamp()))";

/// One page by id, so that every video is met once on a way through, whatever becomes of those before it.
pub(super) async fn abandoned(
    db: &DatabaseConnection,
    ttl: Duration,
    after: Option<VideoId>,
    limit: u32,
) -> Result<Abandoned, StoreError> {
    let query = format!(
        "WITH page AS MATERIALIZED (SELECT id, status, created_at FROM videos WHERE id > $2 AND {UNFINISHED} \
           AND created_at < clock_timestamp() - make_interval(secs => $1) ORDER BY id LIMIT $3), {JUDGED} \
         SELECT (SELECT count(*) FROM page) AS seen, (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS last, \
           ARRAY(SELECT id FROM judged ORDER BY id LIMIT $4) AS found"
    );
    let after = after.map_or(Uuid::nil(), |video| video.0);
    let values = [ttl.as_secs_f64().into(), after.into(), PAGE.into(), i64::from(limit).into()];
    let Some(row) = db.query_one_raw(statement(&query, values)).await? else {
        return Ok(Abandoned::default());
    };
    page(&row, limit)
}

fn page(row: &QueryResult, limit: u32) -> Result<Abandoned, StoreError> {
    let found: Vec<Uuid> = get(row, "found")?;
    let videos: Vec<VideoId> = found.into_iter().map(VideoId).collect();
    let next = if videos.len() >= limit as usize {
        videos.last().copied()
    } else if get::<i64>(row, "seen")? >= PAGE {
        get::<Option<Uuid>>(row, "last")?.map(VideoId)
    } else {
        None
    };
    Ok(Abandoned { videos, next })
}

/// Those of these videos that are abandoned as the rows are now, and whether one of their flows plays.
pub(super) async fn still_abandoned(
    db: &impl ConnectionTrait,
    videos: &[Uuid],
    ttl: Duration,
) -> Result<Vec<(Uuid, bool)>, StoreError> {
    let query = format!(
        "WITH page AS MATERIALIZED (SELECT id, status, created_at FROM videos WHERE id = ANY($2)), {JUDGED} \
         SELECT id, plays FROM judged ORDER BY id"
    );
    let values = [ttl.as_secs_f64().into(), uuid_array(videos.iter().copied())];
    let found = db.query_all_raw(statement(&query, values)).await?;
    found.iter().map(|row| Ok((get(row, "id")?, get(row, "plays")?))).collect()
}
