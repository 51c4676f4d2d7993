//! Sessions as operators look at them: read without locks, times as PostgreSQL counts them.

use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, Value};
use uuid::Uuid;

use super::super::StoreError;
use super::super::rows::get;
use super::super::sql::{rfc3339, statement, text_array};
use super::{Filter, SessionDetail, SessionLine};
use crate::domain::ids::SessionId;

fn line_columns() -> String {
    format!(
        "s.session_id, s.video_id, s.state, s.committed, s.total_bytes, {} AS last_activity, \
         extract(epoch FROM clock_timestamp() - s.last_activity)::float8 AS idle_seconds, \
         coalesce(r.name, s.owner::text) AS owner, s.generation, s.strikes, s.last_error",
        rfc3339("s.last_activity")
    )
}

pub(super) async fn list(db: &DatabaseConnection, filter: &Filter) -> Result<Vec<SessionLine>, StoreError> {
    let query = format!(
        "SELECT {} FROM uploader.session s LEFT JOIN uploader.replica r ON r.replica_id = s.owner \
         WHERE (cardinality($1::text[]) = 0 OR s.state = ANY($1)) AND ($2::uuid IS NULL OR s.video_id = $2) \
         ORDER BY s.last_activity DESC, s.session_id LIMIT $3",
        line_columns()
    );
    let states = text_array(filter.states.iter().map(|state| state.as_str().to_owned()));
    let video: Value = filter.video.map(|video| video.0).into();
    let found = db.query_all_raw(statement(&query, [states, video, i64::from(filter.limit).into()])).await?;
    found.iter().map(line).collect()
}

fn line(row: &QueryResult) -> Result<SessionLine, StoreError> {
    Ok(SessionLine {
        session_id: get::<Uuid>(row, "session_id")?.to_string(),
        video_id: id(row, "video_id")?,
        state: get(row, "state")?,
        committed: get(row, "committed")?,
        total_bytes: get(row, "total_bytes")?,
        last_activity: get(row, "last_activity")?,
        idle_seconds: get(row, "idle_seconds")?,
        owner: get(row, "owner")?,
        generation: get(row, "generation")?,
        strikes: get(row, "strikes")?,
        last_error: get(row, "last_error")?,
    })
}

fn id(row: &QueryResult, column: &str) -> Result<Option<String>, StoreError> {
    Ok(get::<Option<Uuid>>(row, column)?.map(|id| id.to_string()))
}

pub(super) async fn show(
    db: &DatabaseConnection,
    session: SessionId,
) -> Result<Option<SessionDetail>, StoreError> {
    let times =
        ["failing_since", "next_attempt_at", "finish_sent_at", "ended_at", "cleaned_at", "spool_gone_at"]
            .map(|column| format!("{} AS {column}", rfc3339(&format!("s.{column}"))))
            .join(", ");
    let query = format!(
        "SELECT {}, s.flow_id, v.status::text AS video_status, f.status::text AS flow_status, \
         u.uploaded_bytes::bigint AS uploaded_bytes, s.epoch, \
         extract(epoch FROM r.lease_until - clock_timestamp())::float8 AS owner_lease_seconds, \
         s.flow_url, s.fed, s.settled, s.farthest, {times}, \
         (SELECT count(*) FROM uploader.run WHERE session_id = s.session_id) AS runs, \
         (SELECT count(DISTINCT writer) FROM uploader.run WHERE session_id = s.session_id) AS writers, \
         (SELECT coalesce(string_agg(name, ' ' ORDER BY name), '') FROM uploader.stray \
          WHERE session_id = s.session_id) AS strays \
         FROM uploader.session s LEFT JOIN uploader.replica r ON r.replica_id = s.owner \
         LEFT JOIN upload_sessions u ON u.id = s.session_id LEFT JOIN flows f ON f.id = s.flow_id \
         LEFT JOIN videos v ON v.id = s.video_id WHERE s.session_id = $1",
        line_columns()
    );
    let found = db.query_one_raw(statement(&query, [session.0.into()])).await?;
    found.as_ref().map(detail).transpose()
}

fn detail(row: &QueryResult) -> Result<SessionDetail, StoreError> {
    let strays: String = get(row, "strays")?;
    Ok(SessionDetail {
        line: line(row)?,
        flow_id: id(row, "flow_id")?,
        video_status: get(row, "video_status")?,
        flow_status: get(row, "flow_status")?,
        uploaded_bytes: get(row, "uploaded_bytes")?,
        epoch: get(row, "epoch")?,
        owner_lease_seconds: get(row, "owner_lease_seconds")?,
        flow_url: get(row, "flow_url")?,
        fed: get(row, "fed")?,
        settled: get(row, "settled")?,
        farthest: get(row, "farthest")?,
        failing_since: get(row, "failing_since")?,
        next_attempt_at: get(row, "next_attempt_at")?,
        finish_sent_at: get(row, "finish_sent_at")?,
        ended_at: get(row, "ended_at")?,
        cleaned_at: get(row, "cleaned_at")?,
        spool_gone_at: get(row, "spool_gone_at")?,
        runs: get(row, "runs")?,
        writers: get(row, "writers")?,
        strays: strays.split_whitespace().map(str::to_owned).collect(),
    })
}
