//! What an installation check reads: the server and how durable it is, rights, and the service's own row. Single
//! statements that only read; nothing is locked, made or changed.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, Value};
use uuid::Uuid;

use super::rows::get;
use super::sql::{self, statement};
use super::{StoreError, chunks};

/// The server, and what this user is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// As it names itself.
    pub version: String,
    /// The database.
    pub database: String,
    /// The user.
    pub user: String,
    /// Whether it takes no writes: a standby, or set so.
    pub read_only: bool,
    /// Whether this user may make a schema here.
    pub may_create: bool,
    /// `fsync`: without it a crash of the machine loses what was committed.
    pub fsync: bool,
    /// `full_page_writes`: without it a crash of the machine can damage a page.
    pub full_page_writes: bool,
    /// `synchronous_commit`: `off` lets a crash of PostgreSQL lose what was committed.
    pub synchronous_commit: String,
}

/// Rights that this user lacks on one table or schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// As `GRANT` names it: `TABLE flows`.
    pub object: String,
    /// As `GRANT` names them: `SELECT, UPDATE`.
    pub privileges: String,
}

/// The service as its tables tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The marker of the spool that all replicas use; none before the first start.
    pub spool_id: Option<Uuid>,
    /// RFC 3339; since when some replica has been consuming without a gap.
    pub consuming_since: Option<String>,
    /// Replicas whose lease holds.
    pub live: i64,
    /// Of them, those that take chunks.
    pub consuming: i64,
    /// Replicas whose lease is over.
    pub dead: i64,
    /// Sessions OPEN or SEALED.
    pub unfinished: i64,
    /// Ended sessions that a janitor should have removed by now.
    pub overdue: i64,
    /// Bytes of the quota that sessions hold.
    pub reserved: i64,
    /// Bytes of those sessions that are stored.
    pub stored: i64,
}

/// Reads for a check, on a connection of its own.
pub struct PgSurvey {
    db: DatabaseConnection,
}

impl PgSurvey {
    /// Uses `db`.
    pub fn new(db: DatabaseConnection) -> Self {
        PgSurvey { db }
    }

    /// The server.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn server(&self) -> Result<Server, StoreError> {
        let row = self.row(SERVER, []).await?;
        Ok(Server {
            version: get(&row, "version")?,
            database: get(&row, "database")?,
            user: get(&row, "username")?,
            read_only: get(&row, "read_only")?,
            may_create: get(&row, "may_create")?,
            fsync: get(&row, "fsync")?,
            full_page_writes: get(&row, "full_page_writes")?,
            synchronous_commit: get(&row, "synchronous_commit")?,
        })
    }

    /// The schema `uploader`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn schema(&self) -> Result<migration::SchemaState, StoreError> {
        sql::within(async { Ok(migration::check(&self.db).await?) }).await
    }

    /// The shared tables that are missing.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn missing_tables(&self) -> Result<Vec<&'static str>, StoreError> {
        sql::within(async { Ok(migration::shared_tables_present(&self.db).await?) }).await
    }

    /// The type of the shared tables' columns that count bytes; none without the table.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn byte_columns(&self) -> Result<Option<String>, StoreError> {
        get(&self.row(BYTE_COLUMNS, []).await?, "kind")
    }

    /// What this user lacks on the tables that are there.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn lacks(&self) -> Result<Vec<Lack>, StoreError> {
        let schema = self.rows(LACKS_SCHEMA, []).await?;
        // Without it the names inside cannot even be looked up.
        let tables = self.rows(LACKS_TABLES, [schema.is_empty().into()]).await?;
        let lack = |row| Ok(Lack { object: get(row, "object")?, privileges: get(row, "privileges")? });
        schema.iter().chain(&tables).map(lack).collect()
    }

    /// The service's row and what stands around it. An ended session is overdue `patience` after its end.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn service(&self, patience: Duration) -> Result<Service, StoreError> {
        let since = sql::rfc3339("consuming_since");
        let query = format!(
            "SELECT spool_id, {since} AS consuming_since, {COUNTS} FROM uploader.service WHERE id = 1"
        );
        let row = self.row(&query, [patience.as_secs_f64().into()]).await?;
        let reserved = sql::within(chunks::reserved(&self.db)).await?;
        Ok(Service {
            spool_id: get(&row, "spool_id")?,
            consuming_since: get(&row, "consuming_since")?,
            live: get(&row, "live")?,
            consuming: get(&row, "consuming")?,
            dead: get(&row, "dead")?,
            unfinished: get(&row, "unfinished")?,
            overdue: get(&row, "overdue")?,
            reserved,
            stored: get(&row, "stored")?,
        })
    }

    async fn row(
        &self,
        query: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<QueryResult, StoreError> {
        let rows = self.rows(query, values).await?;
        let none = || StoreError::Refused("uploader.service has no row, run migrate".to_owned());
        rows.into_iter().next().ok_or_else(none)
    }

    async fn rows(
        &self,
        query: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<QueryResult>, StoreError> {
        sql::within(async { Ok(self.db.query_all_raw(statement(query, values)).await?) }).await
    }
}

const SERVER: &str = "SELECT current_setting('server_version') AS version, \
     current_database()::text AS database, current_user::text AS username, \
     current_setting('transaction_read_only') = 'on' AS read_only, \
     has_database_privilege(current_database(), 'CREATE') AS may_create, \
     current_setting('fsync') = 'on' AS fsync, \
     current_setting('full_page_writes') = 'on' AS full_page_writes, \
     current_setting('synchronous_commit') AS synchronous_commit";

const BYTE_COLUMNS: &str = "SELECT (SELECT format_type(atttypid, NULL) FROM pg_attribute \
     WHERE attrelid = to_regclass('upload_sessions') AND attname = 'total_bytes') AS kind";

const LACKS_SCHEMA: &str = "SELECT 'SCHEMA uploader' AS object, 'USAGE' AS privileges FROM pg_namespace \
     WHERE nspname = 'uploader' AND NOT has_schema_privilege(oid, 'USAGE')";

/// `$1`: whether the schema `uploader` may be looked into. Locking a row needs UPDATE; what is deleted with a video is
/// deleted in its owner's name.
const LACKS_TABLES: &str = "SELECT 'TABLE ' || name AS object, string_agg(privilege, ', ') AS privileges \
     FROM (SELECT shared, privilege FROM unnest(ARRAY['videos', 'flows', 'upload_sessions']) AS shared, \
                unnest(ARRAY['SELECT', 'UPDATE', 'DELETE']) AS privilege \
           WHERE (shared, privilege) <> ('flows', 'DELETE') \
           UNION ALL SELECT 'uploader.' || own, privilege \
           FROM unnest(ARRAY['service', 'replica', 'session', 'run', 'stray', 'fflow_replica']) AS own, \
                unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege \
           WHERE $1 AND (own <> 'service' OR privilege IN ('SELECT', 'UPDATE'))) AS needed (name, privilege) \
     WHERE has_table_privilege(to_regclass(name)::oid, privilege) IS FALSE GROUP BY name ORDER BY name";

const COUNTS: &str = "(SELECT count(*) FROM uploader.replica WHERE lease_until > clock_timestamp()) AS live, \
     (SELECT count(*) FROM uploader.replica WHERE lease_until > clock_timestamp() AND consuming) AS consuming, \
     (SELECT count(*) FROM uploader.replica WHERE lease_until <= clock_timestamp()) AS dead, \
     (SELECT count(*) FROM uploader.session WHERE state IN ('OPEN', 'SEALED')) AS unfinished, \
     (SELECT count(*) FROM uploader.session WHERE state IN ('DONE', 'EXPIRED') \
      AND ended_at < clock_timestamp() - make_interval(secs => $1)) AS overdue, \
     (SELECT coalesce(sum(committed), 0)::bigint FROM uploader.session \
      WHERE state IN ('OPEN', 'SEALED') OR (cleaned_at IS NULL AND spool_gone_at IS NULL)) AS stored";
