//! Taking ownership of sessions.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult};

use super::super::rows::get;
use super::super::sql::{statement, uuids};
use super::super::{StoreError, rows};
use super::Wanted;
use crate::domain::feed::Claim;
use crate::domain::ids::{Epoch, FlowId, Generation, SessionId, VideoId};
use crate::domain::status::SessionState;

/// Longer ago than anything that a claim tells of.
const A_CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Takes sessions over. `$1` me, `$2` not these, `$3` only these or NULL, `$4` limit, `$5` start bytes, `$6` from expired owners too.
///
/// The old `settled` and owner are read under the row's lock, in the CTE: `RETURNING` would give the new ones.
pub const CLAIM: &str = "WITH candidate AS (\
     SELECT s.session_id, s.settled, s.owner FROM uploader.session s \
     WHERE s.ended_at IS NULL AND s.state IN ('OPEN', 'SEALED') \
     AND (s.committed > s.fed OR s.state = 'SEALED') \
     AND (s.state = 'SEALED' OR s.generation > 0 OR s.committed >= $5) \
     AND (s.next_attempt_at IS NULL OR s.next_attempt_at <= clock_timestamp()) \
     AND ($3::uuid[] IS NULL OR s.session_id = ANY($3)) \
     AND s.session_id <> ALL($2) \
     AND (s.owner IS NULL OR s.owner = $1 \
     OR (s.owner <> $1 AND $6 AND NOT EXISTS (SELECT 1 FROM uploader.replica r \
     WHERE r.replica_id = s.owner AND r.lease_until > clock_timestamp()))) \
     ORDER BY s.state = 'SEALED' DESC, s.created_at LIMIT $4 FOR NO KEY UPDATE OF s SKIP LOCKED) \
     UPDATE uploader.session s SET owner = $1, epoch = s.epoch + 1, settled = false FROM candidate c \
     WHERE s.session_id = c.session_id \
     RETURNING s.session_id, s.flow_id, s.video_id, s.total_bytes, s.committed, s.state, s.epoch, s.generation, \
     s.flow_url, s.fed, s.farthest, s.strikes, c.settled AS was_settled, \
     c.owner IS NOT NULL AND c.owner <> $1 AS owner_died, \
     extract(epoch FROM clock_timestamp() - s.finish_sent_at)::float8 AS finish_sent, \
     extract(epoch FROM clock_timestamp() - s.failing_since)::float8 AS failing";

pub(super) async fn claim(db: &DatabaseConnection, wanted: &Wanted<'_>) -> Result<Vec<Claim>, StoreError> {
    let only = wanted.only.map_or(sea_orm::Value::Array(sea_orm::sea_query::ArrayType::Uuid, None), uuids);
    let values = [
        wanted.me.0.into(),
        uuids(wanted.except),
        only,
        wanted.limit.into(),
        wanted.start_bytes.into(),
        wanted.from_expired.into(),
    ];
    let claimed = db.query_all_raw(statement(CLAIM, values)).await?;
    claimed.iter().map(read).collect()
}

fn read(row: &QueryResult) -> Result<Claim, StoreError> {
    let ago = |column: &str| -> Result<Option<Duration>, StoreError> {
        // An infinite timestamp is a row that somebody wrote by hand; it must not end the claiming actor.
        let span = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(A_CENTURY);
        Ok(get::<Option<f64>>(row, column)?.map(span))
    };
    Ok(Claim {
        session: SessionId(get(row, "session_id")?),
        flow: FlowId(get(row, "flow_id")?),
        video: VideoId(get(row, "video_id")?),
        total: get(row, "total_bytes")?,
        committed: get(row, "committed")?,
        sealed: rows::state_of(&get::<String>(row, "state")?)? == SessionState::Sealed,
        epoch: Epoch(get(row, "epoch")?),
        generation: Generation(get(row, "generation")?),
        flow_url: get(row, "flow_url")?,
        fed: get(row, "fed")?,
        settled: get(row, "was_settled")?,
        farthest: get(row, "farthest")?,
        strikes: get(row, "strikes")?,
        finish_sent: ago("finish_sent")?,
        failing: ago("failing")?,
        owner_died: get(row, "owner_died")?,
    })
}
