//! Which videos are abandoned: one definition, for the search, for the look at locked rows and for the preview.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, Value};
use uuid::Uuid;

use super::super::StoreError;
use super::super::rows::get;
use super::super::sql::{statement, uuid_array};
use super::{Abandoned, Stage};
use crate::domain::ids::VideoId;

/// The statuses that an abandoned video may have.
pub(super) const UNFINISHED: &str = "status IN ('CREATED', 'UPLOADING', 'BLOCKED')";

/// Goes on from a CTE `page (id, status, created_at)` of videos and one named `theirs`, of their flows; `$1` is the
/// time-to-live in seconds. `judged` holds those that are abandoned, with what they have. A video whose flows all play is never abandoned, whatever its status says. That an upload expired is no use
/// of its video.
pub(super) const JUDGED: &str = "\
     uses AS (SELECT s.video_id, bool_or(s.state = 'OPEN') AS open, bool_or(s.state = 'SEALED') AS sealed, \
       max(greatest(s.last_activity, CASE WHEN s.state <> 'EXPIRED' THEN s.ended_at END)) AS used, \
       count(*) AS sessions \
       FROM uploader.session s JOIN page ON page.id = s.video_id GROUP BY s.video_id), \
     parts AS (SELECT f.video_id, bool_and(f.status = 'DISTRIBUTED') AS all_play, \
       bool_or(f.status = 'DISTRIBUTED') AS plays, max(f.created_at) AS created_at, count(*) AS flows \
       FROM theirs f GROUP BY f.video_id), \
     judged AS (SELECT v.id, v.status::text AS status, coalesce(p.plays, false) AS plays, \
       greatest(v.created_at, p.created_at, u.used) AS used, coalesce(u.open, false) AS open, \
       coalesce(u.sessions, 0) AS sessions, coalesce(p.flows, 0) AS flows \
       FROM page v LEFT JOIN uses u ON u.video_id = v.id LEFT JOIN parts p ON p.video_id = v.id \
       WHERE (v.status IN ('CREATED', 'UPLOADING') \
         OR (v.status = 'BLOCKED' AND (u.open OR (u.sessions > 0 AND p.flows IS NULL)))) \
       AND NOT coalesce(u.sealed, false) AND NOT coalesce(p.all_play, false) \
       AND greatest(v.created_at, p.created_at, u.used) < clock_timestamp() - make_interval(secs => $1) \
       AND EXISTS (SELECT 1 FROM uploader.service \
         WHERE consuming_since < clock_timestamp() - make_interval(secs => $1)) \
       AND EXISTS (SELECT 1 FROM uploader.replica WHERE consuming AND lease_until > clock_timestamp()))";

/// The flows of a page's videos: they have no index by video, so all of them are walked through, once.
pub(super) const THEIRS: &str = "theirs AS (SELECT f.* FROM flows f JOIN page ON page.id = f.video_id)";

impl Stage {
    /// Holds for the rows of `judged` that are at this stage.
    fn condition(self) -> &'static str {
        match self {
            Stage::Uploads => "flows > 0",
            Stage::Emptied => "flows = 0 AND NOT open",
        }
    }
}

/// One page by id, so that every video is met once on a way through, whatever becomes of those before it.
pub(super) async fn abandoned(
    db: &DatabaseConnection,
    stage: Stage,
    ttl: Duration,
    after: Option<VideoId>,
    limit: u32,
) -> Result<Abandoned, StoreError> {
    let query = format!(
        "WITH page AS MATERIALIZED (SELECT id, status, created_at FROM videos WHERE id > $2 AND {UNFINISHED} \
           AND created_at < clock_timestamp() - make_interval(secs => $1) ORDER BY id LIMIT $3), {THEIRS}, {JUDGED} \
         SELECT (SELECT id FROM page ORDER BY id OFFSET $3 - 1 LIMIT 1) AS next, \
           ARRAY(SELECT id FROM judged WHERE {} ORDER BY id) AS found",
        stage.condition()
    );
    let after = after.map_or(Uuid::nil(), |video| video.0);
    let values = [ttl.as_secs_f64().into(), after.into(), i64::from(limit).into()];
    let Some(row) = db.query_one_raw(statement(&query, values)).await? else {
        return Ok(Abandoned::default());
    };
    let (found, next): (Vec<Uuid>, Option<Uuid>) = (get(&row, "found")?, get(&row, "next")?);
    Ok(Abandoned { videos: found.into_iter().map(VideoId).collect(), next: next.map(VideoId) })
}

/// Those of these videos that are abandoned and at this stage as the rows are now, and whether one of their flows plays.
/// With the ids of their flows, if they are known, the table need not be walked through.
pub(super) async fn still(
    db: &impl ConnectionTrait,
    stage: Stage,
    videos: &[Uuid],
    flows: Option<&[Uuid]>,
    ttl: Duration,
) -> Result<Vec<(Uuid, bool)>, StoreError> {
    let theirs = match flows {
        Some(_) => "theirs AS (SELECT * FROM flows WHERE id = ANY($3))",
        None => THEIRS,
    };
    let query = format!(
        "WITH page AS MATERIALIZED (SELECT id, status, created_at FROM videos WHERE id = ANY($2)), {theirs}, {JUDGED} \
         SELECT id, plays FROM judged WHERE {} ORDER BY id",
        stage.condition()
    );
    let array = |ids: &[Uuid]| uuid_array(ids.iter().copied());
    let values: Vec<Value> =
        [ttl.as_secs_f64().into(), array(videos)].into_iter().chain(flows.map(array)).collect();
    let found = db.query_all_raw(statement(&query, values)).await?;
    found.iter().map(|row| Ok((get(row, "id")?, get(row, "plays")?))).collect()
}
