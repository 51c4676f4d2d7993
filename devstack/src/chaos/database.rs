//! What PostgreSQL knows of the uploads, asked directly and not over a cable that is being cut.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use sea_orm::{
    ConnectOptions, ConnectionTrait, DatabaseConnection, DbBackend, QueryResult, Statement, Value,
};
use uuid::Uuid;

const CONNECT: Duration = Duration::from_secs(5);

/// The database, by a new connection for each question: it may have been restarted.
pub(super) struct Database(String);

/// One session as the service left it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) state: String,
    pub(super) committed: u64,
    pub(super) generation: u64,
    pub(super) last_error: String,
    /// Route, runs and spool are gone.
    pub(super) cleaned: bool,
    /// The bytes of a failed session are gone.
    pub(super) spool_gone: bool,
    /// From its last activity to its end, in milliseconds.
    pub(super) outlived_ms: u64,
}

/// Everything that the checks ask of PostgreSQL.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    pub(super) sessions: HashMap<String, Row>,
    /// Statuses of flows and of their videos, by the flow's id.
    pub(super) flows: HashMap<String, (String, String)>,
    /// Sessions that gateway still knows.
    pub(super) announced: u64,
    pub(super) runs: u64,
    pub(super) strays: u64,
}

impl Database {
    pub(super) fn open(url: &str) -> Self {
        Self(url.to_owned())
    }

    /// Everything, as it is now.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub(super) async fn truth(&self) -> anyhow::Result<Truth> {
        let connection = self.connect().await?;
        let truth = read(&connection).await;
        connection.close().await?;
        truth
    }

    /// The bytes that uploads have reserved in the spool, as the service counts them.
    pub(super) async fn reserved(&self) -> anyhow::Result<u64> {
        let connection = self.connect().await?;
        let sum = count(
            &connection,
            "SELECT coalesce(sum(total_bytes), 0)::bigint FROM uploader.session \
             WHERE state IN ('OPEN', 'SEALED') OR (cleaned_at IS NULL AND spool_gone_at IS NULL)",
        );
        let sum = sum.await;
        connection.close().await?;
        sum
    }

    /// How long the service has been consuming without a gap, by its own word; none if it never has.
    pub(super) async fn consuming_for(&self) -> anyhow::Result<Option<Duration>> {
        let connection = self.connect().await?;
        let select = "SELECT (extract(epoch FROM clock_timestamp() - consuming_since) * 1000)::bigint \
                      FROM uploader.service";
        let rows = query(&connection, select).await;
        connection.close().await?;
        let rows = rows?;
        let age = rows.first().map(|row| row.try_get_by_index::<Option<i64>>(0)).transpose()?.flatten();
        Ok(age.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis))
    }

    /// Removes a video with its flows and sessions, as its user could.
    pub(super) async fn delete_video(&self, video: &str) -> anyhow::Result<()> {
        let connection = self.connect().await?;
        let id: Value = Uuid::parse_str(video).context("a video without an id")?.into();
        let delete =
            Statement::from_sql_and_values(DbBackend::Postgres, "DELETE FROM videos WHERE id = $1", [id]);
        let deleted = connection.execute_raw(delete).await;
        connection.close().await?;
        deleted?;
        Ok(())
    }

    async fn connect(&self) -> anyhow::Result<DatabaseConnection> {
        let mut options = ConnectOptions::new(&self.0);
        options.max_connections(1).connect_timeout(CONNECT).acquire_timeout(CONNECT).sqlx_logging(false);
        let connecting = tokio::time::timeout(CONNECT, sea_orm::Database::connect(options));
        connecting.await.context("no connection in time")?.context("cannot connect to PostgreSQL")
    }
}

async fn read(connection: &DatabaseConnection) -> anyhow::Result<Truth> {
    let select = "SELECT session_id::text AS id, state, committed, generation, \
                  coalesce(last_error, '') AS last_error, cleaned_at IS NOT NULL AS cleaned, \
                  spool_gone_at IS NOT NULL AS spool_gone, \
                  (extract(epoch FROM coalesce(ended_at, last_activity) - last_activity) * 1000)::bigint \
                  AS outlived FROM uploader.session";
    let mut truth = Truth::default();
    for row in query(connection, select).await? {
        truth.sessions.insert(row.try_get("", "id")?, session(&row)?);
    }
    let select = "SELECT f.id::text AS id, f.status AS flow, v.status AS video \
                  FROM flows f JOIN videos v ON v.id = f.video_id";
    for row in query(connection, select).await? {
        truth.flows.insert(row.try_get("", "id")?, (row.try_get("", "flow")?, row.try_get("", "video")?));
    }
    truth.announced = count(connection, "SELECT count(*) FROM upload_sessions").await?;
    truth.runs = count(connection, "SELECT count(*) FROM uploader.run").await?;
    truth.strays = count(connection, "SELECT count(*) FROM uploader.stray").await?;
    Ok(truth)
}

fn session(row: &QueryResult) -> anyhow::Result<Row> {
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    Ok(Row {
        state: row.try_get("", "state")?,
        committed: number(row.try_get("", "committed")?),
        generation: number(row.try_get::<i32>("", "generation")?.into()),
        last_error: row.try_get("", "last_error")?,
        cleaned: row.try_get("", "cleaned")?,
        spool_gone: row.try_get("", "spool_gone")?,
        outlived_ms: number(row.try_get("", "outlived")?),
    })
}

async fn count(connection: &DatabaseConnection, sql: &str) -> anyhow::Result<u64> {
    let rows = query(connection, sql).await?;
    let row = rows.first().context("a count without a row")?;
    Ok(u64::try_from(row.try_get_by_index::<i64>(0)?)?)
}

async fn query(connection: &DatabaseConnection, sql: &str) -> anyhow::Result<Vec<QueryResult>> {
    Ok(connection.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await?)
}
