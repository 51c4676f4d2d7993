//! The service as a whole, as its tables tell: replicas, fflow replicas, and whether the database keeps promises.

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult};
use serde::Serialize;
use uuid::Uuid;

use super::StoreError;
use super::rows::get;
use super::sql::{self, statement};

/// One replica of this service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplicaLine {
    /// `uploader.replica.replica_id`, new at each start.
    pub replica_id: String,
    /// For people.
    pub name: String,
    /// Whether it lives: its lease has not ended.
    pub alive: bool,
    /// Seconds until its lease ends; negative since it has ended.
    pub lease_seconds: f64,
    /// Whether it takes chunks.
    pub consuming: bool,
    /// Seconds since it started.
    pub age_seconds: f64,
    /// Sessions that it feeds.
    pub feeds: i64,
}

/// One replica of fflow, as it was last seen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FflowLine {
    /// Its address.
    pub base_url: String,
    /// Seconds since it answered a create.
    pub seen_seconds: f64,
    /// Seconds since it last took a push.
    pub push_seconds: Option<f64>,
    /// Seconds since a finish of it was last seen whole.
    pub finish_seconds: Option<f64>,
}

/// The one row of the service, and what hangs on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overview {
    /// The marker that every replica's spool must have.
    pub spool_id: Option<Uuid>,
    /// Seconds since when somebody has been consuming without a gap.
    pub consuming_seconds: Option<f64>,
    /// The version of the schema `uploader`.
    pub schema_version: i32,
    /// Replicas of this service, the living first.
    pub replicas: Vec<ReplicaLine>,
    /// Replicas of fflow.
    pub fflow: Vec<FflowLine>,
    /// Sessions that are OPEN or SEALED.
    pub live_sessions: i64,
}

/// What the database server itself is and may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerFacts {
    /// `server_version`
    pub version: String,
    /// `fsync`: off loses committed chunks in a power cut.
    pub fsync: bool,
    /// `synchronous_commit`: off loses them when the server crashes.
    pub synchronous_commit: bool,
    /// Whether this user may create the schema, should it be absent.
    pub may_create: bool,
    /// Shared tables that this user may not read or write, of those that are there.
    pub unwritable: Vec<String>,
}

/// Reads the overview; changes nothing.
#[async_trait]
pub trait OverviewStore: Send + Sync {
    /// What the server is.
    async fn server(&self) -> Result<ServerFacts, StoreError>;
    /// The service. Needs the schema.
    async fn overview(&self) -> Result<Overview, StoreError>;
}

/// [`OverviewStore`] on PostgreSQL.
pub struct PgOverview {
    db: DatabaseConnection,
}

impl PgOverview {
    /// Uses the pool `db`.
    pub fn new(db: DatabaseConnection) -> Self {
        PgOverview { db }
    }

    async fn all(&self, query: &str) -> Result<Vec<QueryResult>, StoreError> {
        Ok(self.db.query_all_raw(statement(query, [])).await?)
    }

    async fn one(&self, query: &str) -> Result<QueryResult, StoreError> {
        let row = self.db.query_one_raw(statement(query, [])).await?;
        row.ok_or_else(|| StoreError::Refused("uploader.service has no row, run migrate".to_owned()))
    }
}

const SERVER: &str = "SELECT current_setting('server_version') AS version, current_setting('fsync') = 'on' AS fsync, \
     current_setting('synchronous_commit') <> 'off' AS synchronous_commit, \
     has_database_privilege(current_database(), 'CREATE') AS may_create";
const UNWRITABLE: &str = "SELECT t.name FROM (VALUES ('videos'), ('flows'), ('upload_sessions')) AS t(name) \
     WHERE to_regclass(t.name) IS NOT NULL AND NOT (has_table_privilege(to_regclass(t.name), 'SELECT') \
     AND has_table_privilege(to_regclass(t.name), 'UPDATE') AND has_table_privilege(to_regclass(t.name), 'DELETE'))";
const SERVICE: &str = "SELECT spool_id, schema_version, \
     extract(epoch FROM clock_timestamp() - consuming_since)::float8 AS consuming_seconds, \
     (SELECT count(*) FROM uploader.session WHERE state IN ('OPEN', 'SEALED')) AS live_sessions \
     FROM uploader.service WHERE id = 1";
const REPLICAS: &str = "SELECT r.replica_id, r.name, r.consuming, r.lease_until > clock_timestamp() AS alive, \
     extract(epoch FROM r.lease_until - clock_timestamp())::float8 AS lease_seconds, \
     extract(epoch FROM clock_timestamp() - r.started_at)::float8 AS age_seconds, \
     (SELECT count(*) FROM uploader.session s WHERE s.owner = r.replica_id AND s.ended_at IS NULL) AS feeds \
     FROM uploader.replica r ORDER BY alive DESC, r.name, r.replica_id LIMIT 1000";
const FFLOW: &str = "SELECT base_url, extract(epoch FROM clock_timestamp() - last_seen)::float8 AS seen_seconds, \
     extract(epoch FROM clock_timestamp() - last_push_ok)::float8 AS push_seconds, \
     extract(epoch FROM clock_timestamp() - last_finish_ok)::float8 AS finish_seconds \
     FROM uploader.fflow_replica ORDER BY base_url LIMIT 1000";

#[async_trait]
impl OverviewStore for PgOverview {
    async fn server(&self) -> Result<ServerFacts, StoreError> {
        sql::within(async {
            let row = self.one(SERVER).await?;
            let unwritable = self.all(UNWRITABLE).await?;
            Ok(ServerFacts {
                version: get(&row, "version")?,
                fsync: get(&row, "fsync")?,
                synchronous_commit: get(&row, "synchronous_commit")?,
                may_create: get(&row, "may_create")?,
                unwritable: unwritable.iter().map(|row| get(row, "name")).collect::<Result<_, _>>()?,
            })
        })
        .await
    }

    async fn overview(&self) -> Result<Overview, StoreError> {
        sql::within(async {
            let service = self.one(SERVICE).await?;
            let replicas = self.all(REPLICAS).await?;
            let fflow = self.all(FFLOW).await?;
            Ok(Overview {
                spool_id: get(&service, "spool_id")?,
                consuming_seconds: get(&service, "consuming_seconds")?,
                schema_version: get(&service, "schema_version")?,
                live_sessions: get(&service, "live_sessions")?,
                replicas: replicas.iter().map(replica).collect::<Result<_, _>>()?,
                fflow: fflow.iter().map(fflow_line).collect::<Result<_, _>>()?,
            })
        })
        .await
    }
}

fn replica(row: &QueryResult) -> Result<ReplicaLine, StoreError> {
    Ok(ReplicaLine {
        replica_id: get::<Uuid>(row, "replica_id")?.to_string(),
        name: get(row, "name")?,
        alive: get(row, "alive")?,
        lease_seconds: get(row, "lease_seconds")?,
        consuming: get(row, "consuming")?,
        age_seconds: get(row, "age_seconds")?,
        feeds: get(row, "feeds")?,
    })
}

fn fflow_line(row: &QueryResult) -> Result<FflowLine, StoreError> {
    Ok(FflowLine {
        base_url: get(row, "base_url")?,
        seen_seconds: get(row, "seen_seconds")?,
        push_seconds: get(row, "push_seconds")?,
        finish_seconds: get(row, "finish_seconds")?,
    })
}
