//! The replicas of this service and of fflow, for people who look: read without locks, ages as PostgreSQL counts them.

use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult};
use serde::Serialize;
use uuid::Uuid;

use super::StoreError;
use super::rows::get;
use super::sql::{self, rfc3339, statement};

/// Everybody who is or was at work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overview {
    /// What the replicas have in common.
    pub service: Service,
    /// The replicas of this service, the living first; at most a thousand.
    pub replicas: Vec<Replica>,
    /// The replicas of fflow, the last seen first; at most a thousand.
    pub fflow_replicas: Vec<FflowReplica>,
}

/// What the replicas have in common.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Service {
    /// The marker of the one spool; none before the first start.
    pub spool_id: Option<String>,
    /// RFC 3339; since when some replica has been consuming without a gap.
    pub consuming_since: Option<String>,
    /// `uploader.service.schema_version`
    pub schema_version: i32,
    /// Sessions OPEN or SEALED that no living replica feeds: idle ones, and those that wait for a feed.
    pub unowned_sessions: i64,
}

/// A process of this service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replica {
    /// `uploader.replica.replica_id`
    pub replica_id: String,
    /// For people; need not be unique.
    pub name: String,
    /// Whether its lease holds.
    pub alive: bool,
    /// Whether it takes chunks, as it last said.
    pub consuming: bool,
    /// RFC 3339
    pub started_at: String,
    /// Since its start.
    pub age_ms: i64,
    /// RFC 3339
    pub lease_until: String,
    /// What is left of its lease; below zero: for how long it has been over.
    pub lease_left_ms: i64,
    /// Sessions OPEN or SEALED that it feeds.
    pub feeds: i64,
}

/// A replica of fflow, as the feeds met it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FflowReplica {
    /// Its address.
    pub base_url: String,
    /// RFC 3339; when it last answered.
    pub last_seen: String,
    /// Since then.
    pub last_seen_ms: i64,
    /// RFC 3339; when it last took a block.
    pub last_push_ok: Option<String>,
    /// Since then.
    pub last_push_ms: Option<i64>,
    /// RFC 3339; when it last made a video.
    pub last_finish_ok: Option<String>,
    /// Since then.
    pub last_finish_ms: Option<i64>,
}

/// Reads the overview.
///
/// # Errors
/// [`StoreError`]
pub async fn read(db: &DatabaseConnection) -> Result<Overview, StoreError> {
    sql::within(async {
        let service = db.query_one_raw(statement(&service_query(), [])).await?;
        let none = || StoreError::Refused("uploader.service has no row, run migrate".to_owned());
        let replicas = db.query_all_raw(statement(&replicas_query(), [])).await?;
        let fflow_replicas = db.query_all_raw(statement(&fflow_query(), [])).await?;
        Ok(Overview {
            service: service_of(&service.ok_or_else(none)?)?,
            replicas: replicas.iter().map(replica_of).collect::<Result<_, _>>()?,
            fflow_replicas: fflow_replicas.iter().map(fflow_of).collect::<Result<_, _>>()?,
        })
    })
    .await
}

/// Milliseconds from one moment to another.
fn millis(from: &str, to: &str) -> String {
    format!("(extract(epoch FROM {to} - {from}) * 1000)::bigint")
}

fn service_query() -> String {
    format!(
        "SELECT spool_id, {} AS consuming_since, schema_version, \
         (SELECT count(*) FROM uploader.session s WHERE state IN ('OPEN', 'SEALED') AND NOT EXISTS \
          (SELECT 1 FROM uploader.replica r WHERE r.replica_id = s.owner AND lease_until > clock_timestamp())) \
         AS unowned_sessions FROM uploader.service WHERE id = 1",
        rfc3339("consuming_since")
    )
}

fn replicas_query() -> String {
    format!(
        "SELECT replica_id, name, lease_until > now AS alive, consuming, {} AS started_at, {} AS age_ms, \
         {} AS lease_until_text, {} AS lease_left_ms, \
         (SELECT count(*) FROM uploader.session WHERE owner = replica_id AND state IN ('OPEN', 'SEALED')) AS feeds \
         FROM uploader.replica, (SELECT clock_timestamp() AS now) AS clock \
         ORDER BY alive DESC, name, replica.started_at LIMIT 1000",
        rfc3339("started_at"),
        millis("started_at", "now"),
        rfc3339("lease_until"),
        millis("now", "lease_until"),
    )
}

fn fflow_query() -> String {
    format!(
        "SELECT base_url, {} AS last_seen_text, {} AS last_seen_ms, {} AS last_push_ok, {} AS last_push_ms, \
         {} AS last_finish_ok, {} AS last_finish_ms \
         FROM uploader.fflow_replica AS f, (SELECT clock_timestamp() AS now) AS clock \
         ORDER BY f.last_seen DESC, base_url LIMIT 1000",
        rfc3339("f.last_seen"),
        millis("f.last_seen", "now"),
        rfc3339("f.last_push_ok"),
        millis("f.last_push_ok", "now"),
        rfc3339("f.last_finish_ok"),
        millis("f.last_finish_ok", "now"),
    )
}

fn service_of(row: &QueryResult) -> Result<Service, StoreError> {
    Ok(Service {
        spool_id: get::<Option<Uuid>>(row, "spool_id")?.map(|id| id.to_string()),
        consuming_since: get(row, "consuming_since")?,
        schema_version: get(row, "schema_version")?,
        unowned_sessions: get(row, "unowned_sessions")?,
    })
}

fn replica_of(row: &QueryResult) -> Result<Replica, StoreError> {
    Ok(Replica {
        replica_id: get::<Uuid>(row, "replica_id")?.to_string(),
        name: get(row, "name")?,
        alive: get(row, "alive")?,
        consuming: get(row, "consuming")?,
        started_at: get(row, "started_at")?,
        age_ms: get(row, "age_ms")?,
        lease_until: get(row, "lease_until_text")?,
        lease_left_ms: get(row, "lease_left_ms")?,
        feeds: get(row, "feeds")?,
    })
}

fn fflow_of(row: &QueryResult) -> Result<FflowReplica, StoreError> {
    Ok(FflowReplica {
        base_url: get(row, "base_url")?,
        last_seen: get(row, "last_seen_text")?,
        last_seen_ms: get(row, "last_seen_ms")?,
        last_push_ok: get(row, "last_push_ok")?,
        last_push_ms: get(row, "last_push_ms")?,
        last_finish_ok: get(row, "last_finish_ok")?,
        last_finish_ms: get(row, "last_finish_ms")?,
    })
}
