//! The shared tables: gateway inserts videos, flows and sessions, and reads how far they have come.

use std::time::Duration;

use anyhow::Context;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, QueryResult, Statement,
    TransactionTrait, Value,
};
use serde::Serialize;
use uuid::Uuid;

const POOL: u32 = 8;
const DEADLINE: Duration = Duration::from_secs(10);

/// A video with its flows, as clients see it.
#[derive(Debug, Serialize)]
pub(super) struct Video {
    pub(super) id: Uuid,
    pub(super) title: String,
    pub(super) description: String,
    pub(super) status: String,
    pub(super) flows: Vec<Flow>,
}

/// One flow; its session is gone once the uploader is done with it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Flow {
    pub(super) id: Uuid,
    pub(super) status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upload_session: Option<UploadSession>,
    pub(super) distribution_urls: DistributionUrls,
}

/// One upload session.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UploadSession {
    pub(super) id: Uuid,
    pub(super) total_bytes: i64,
    pub(super) uploaded_bytes: i64,
}

/// Where players find a flow's streams once it is distributed.
#[derive(Debug, Serialize)]
pub(super) struct DistributionUrls {
    pub(super) dash: String,
    pub(super) hls: String,
}

/// The database.
pub(super) struct Store {
    database: DatabaseConnection,
}

impl Store {
    /// Opens the pool.
    ///
    /// # Errors
    /// When the database cannot be reached within ten seconds.
    pub(super) async fn connect(url: &str) -> anyhow::Result<Self> {
        let mut options = ConnectOptions::new(url);
        options
            .max_connections(POOL)
            .connect_timeout(DEADLINE)
            .acquire_timeout(DEADLINE)
            .sqlx_logging(false)
            .test_before_acquire(true);
        Ok(Self { database: Database::connect(options).await? })
    }

    /// Inserts a video with one flow and one session for each size, and gives the video's id.
    ///
    /// # Errors
    /// When the database fails, or a size does not fit its column.
    pub(super) async fn create_video(
        &self,
        title: &str,
        description: &str,
        sizes: &[i64],
    ) -> Result<Uuid, DbErr> {
        let video = Uuid::new_v4();
        let transaction = self.database.begin().await?;
        let insert = "INSERT INTO videos (id, title, description, created_at) VALUES ($1, $2, $3, now())";
        transaction.execute_raw(statement(insert, [video.into(), title.into(), description.into()])).await?;
        for size in sizes {
            let flow = Uuid::new_v4();
            let insert = "INSERT INTO flows (id, created_at, video_id) VALUES ($1, now(), $2)";
            transaction.execute_raw(statement(insert, [flow.into(), video.into()])).await?;
            let insert = "INSERT INTO upload_sessions (id, total_bytes, flow_id) VALUES ($1, $2, $3)";
            let session: [Value; 3] = [Uuid::new_v4().into(), (*size).into(), flow.into()];
            transaction.execute_raw(statement(insert, session)).await?;
        }
        transaction.commit().await?;
        Ok(video)
    }

    /// Whether there is such a session.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn has_session(&self, session: Uuid) -> Result<bool, DbErr> {
        let select = "SELECT 1 FROM upload_sessions WHERE id = $1";
        Ok(self.database.query_one_raw(statement(select, [session.into()])).await?.is_some())
    }

    /// A video as it is now.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn video(&self, id: Uuid, holder_url: &str) -> anyhow::Result<Option<Video>> {
        let select =
            "SELECT title, coalesce(description, '') AS description, status FROM videos WHERE id = $1";
        let Some(row) = self.database.query_one_raw(statement(select, [id.into()])).await? else {
            return Ok(None);
        };
        let select = "SELECT f.id, f.status, s.id AS session_id, s.total_bytes::bigint AS total_bytes, \
                      s.uploaded_bytes::bigint AS uploaded_bytes \
                      FROM flows f LEFT JOIN upload_sessions s ON s.flow_id = f.id \
                      WHERE f.video_id = $1 ORDER BY f.created_at, f.id";
        let rows = self.database.query_all_raw(statement(select, [id.into()])).await?;
        let flows = rows.iter().map(|row| flow(row, id, holder_url)).collect::<Result<_, _>>();
        Ok(Some(Video {
            id,
            title: row.try_get("", "title")?,
            description: row.try_get("", "description")?,
            status: row.try_get("", "status")?,
            flows: flows.context("reading flows")?,
        }))
    }
}

fn flow(row: &QueryResult, video: Uuid, holder_url: &str) -> Result<Flow, DbErr> {
    let id: Uuid = row.try_get("", "id")?;
    let session: Option<Uuid> = row.try_get("", "session_id")?;
    let upload_session = match session {
        Some(id) => Some(UploadSession {
            id,
            total_bytes: row.try_get("", "total_bytes")?,
            uploaded_bytes: row.try_get("", "uploaded_bytes")?,
        }),
        None => None,
    };
    let base = format!("{}/{video}/{id}", holder_url.trim_end_matches('/'));
    let distribution_urls = DistributionUrls {
        dash: format!("{base}/dash/manifest.mpd"),
        hls: format!("{base}/hls/manifest.m3u8"),
    };
    Ok(Flow { id, status: row.try_get("", "status")?, upload_session, distribution_urls })
}

fn statement(sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}
