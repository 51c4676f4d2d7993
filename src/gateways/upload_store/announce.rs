//! The client's side of the shared tables: announces a file as gateway does, and reads what became of it.

use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, Value};
use uuid::Uuid;

use super::rows::get;
use super::{StoreError, pool, rows, sql};
use crate::domain::ids::{FlowId, SessionId, VideoId};
use crate::domain::recent::Recent;
use crate::domain::status::{FlowStatus, SessionState, VideoStatus};

/// A video with one flow and one upload session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// `videos.id`
    pub video: VideoId,
    /// `flows.id`
    pub flow: FlowId,
    /// `upload_sessions.id`
    pub session: SessionId,
}

/// Where an upload stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The flow it fills, if that is known still.
    pub flow: Option<FlowId>,
    /// The video of this flow.
    pub video: Option<VideoId>,
    /// Bytes of the file.
    pub total_bytes: i64,
    /// Bytes that the service has stored.
    pub stored: i64,
    /// What `upload_sessions` says of that; none when its row is gone.
    pub uploaded: Option<i64>,
    /// Where the service's own session stands; none before its first chunk.
    pub state: Option<SessionState>,
    /// Its newest chunks.
    pub recent: Recent,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// The flow's status; none when it is gone.
    pub flow_status: Option<FlowStatus>,
    /// The video's status; none when it is gone.
    pub video_status: Option<VideoStatus>,
}

/// The least of both columns, and nothing for columns that are not there.
const LARGEST_FILE: &str = "SELECT min(CASE atttypid::regtype::text \
      WHEN 'integer' THEN 2147483647 WHEN 'bigint' THEN 9223372036854775807 END)::bigint AS bytes, \
      to_regclass('uploader.session') IS NOT NULL AS served \
    FROM pg_attribute WHERE attrelid = to_regclass('upload_sessions') AND NOT attisdropped \
      AND attname IN ('total_bytes', 'uploaded_bytes')";

const VIDEO: &str = "INSERT INTO videos (id, title, description, created_at, status) \
    VALUES ($1, $2, '', clock_timestamp(), 'CREATED')";
const FLOW: &str = "INSERT INTO flows (id, created_at, status, video_id) \
    VALUES ($1, clock_timestamp(), 'CREATED', $2)";
const SESSION: &str =
    "INSERT INTO upload_sessions (id, total_bytes, uploaded_bytes, flow_id) VALUES ($1, $2, 0, $3)";

const STANDING: &str = "SELECT s.state, s.recent, s.last_error, \
      COALESCE(s.committed, 0) AS stored, COALESCE(u.total_bytes, s.total_bytes)::bigint AS total_bytes, \
      u.uploaded_bytes::bigint AS uploaded, COALESCE(u.flow_id, s.flow_id) AS flow_id, \
      COALESCE(f.video_id, s.video_id) AS video_id, f.status::text AS flow_status, v.status::text AS video_status \
    FROM (VALUES ($1::uuid)) AS k (id) \
      LEFT JOIN uploader.session s ON s.session_id = k.id \
      LEFT JOIN upload_sessions u ON u.id = k.id \
      LEFT JOIN flows f ON f.id = COALESCE(u.flow_id, s.flow_id) \
      LEFT JOIN videos v ON v.id = COALESCE(f.video_id, s.video_id) \
    WHERE s.session_id IS NOT NULL OR u.id IS NOT NULL";

/// Announcements in PostgreSQL.
#[derive(Clone)]
pub struct Announcements {
    db: DatabaseConnection,
}

impl Announcements {
    /// On this pool, whose connections have their timeouts set.
    pub fn new(db: DatabaseConnection) -> Self {
        Announcements { db }
    }

    /// The largest file that the shared tables can announce, in bytes.
    ///
    /// # Errors
    /// [`StoreError`]; `Refused` when the tables are not there, neither the shared ones nor the service's own.
    pub async fn largest_file(&self) -> Result<i64, StoreError> {
        let refused = |what: &str| StoreError::Refused(what.to_owned());
        let found = self.one(LARGEST_FILE, Vec::new()).await?;
        let row = found.ok_or_else(|| refused("it gives no answer"))?;
        if !get::<bool>(&row, "served")? {
            return Err(refused("the schema uploader is not there: run `uploader-v4 migrate`"));
        }
        let bytes: Option<i64> = get(&row, "bytes")?;
        bytes.ok_or_else(|| refused("the table upload_sessions is not there: gateway makes it at its start"))
    }

    /// Makes a video with one flow and one session, all or nothing.
    ///
    /// # Errors
    /// [`StoreError`]; after `Unavailable` the rows may be there, and nobody knows their ids: the janitor removes them.
    pub async fn announce(&self, title: &str, total_bytes: i64) -> Result<Announced, StoreError> {
        let (video, flow, session) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        sql::within(async {
            let transaction = pool::begin(&self.db).await?;
            let inserts: [(&str, Vec<Value>); 3] = [
                (VIDEO, vec![video.into(), title.into()]),
                (FLOW, vec![flow.into(), video.into()]),
                (SESSION, vec![session.into(), total_bytes.into(), flow.into()]),
            ];
            for (insert, values) in inserts {
                transaction.execute_raw(sql::statement(insert, values)).await?;
            }
            Ok(transaction.commit().await?)
        })
        .await?;
        Ok(Announced { video: VideoId(video), flow: FlowId(flow), session: SessionId(session) })
    }

    /// Where a session stands; `None` for one that was never announced, or is long forgotten.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn standing(&self, session: SessionId) -> Result<Option<Standing>, StoreError> {
        let found = self.one(STANDING, vec![session.0.into()]).await?;
        found.as_ref().map(standing).transpose()
    }

    async fn one(&self, query: &str, values: Vec<Value>) -> Result<Option<QueryResult>, StoreError> {
        sql::within(async { Ok(self.db.query_one_raw(sql::statement(query, values)).await?) }).await
    }
}

fn standing(row: &QueryResult) -> Result<Standing, StoreError> {
    let state: Option<String> = get(row, "state")?;
    let packed: Option<Vec<u8>> = get(row, "recent")?;
    let flow_status: Option<String> = get(row, "flow_status")?;
    let video_status: Option<String> = get(row, "video_status")?;
    Ok(Standing {
        flow: get::<Option<Uuid>>(row, "flow_id")?.map(FlowId),
        video: get::<Option<Uuid>>(row, "video_id")?.map(VideoId),
        total_bytes: get(row, "total_bytes")?,
        stored: get(row, "stored")?,
        uploaded: get(row, "uploaded")?,
        state: state.as_deref().map(rows::state_of).transpose()?,
        recent: packed.and_then(|packed| Recent::unpack(&packed)).unwrap_or_default(),
        last_error: get(row, "last_error")?,
        flow_status: flow_status.as_deref().map(rows::flow_status_of).transpose()?,
        video_status: video_status.as_deref().map(rows::video_status_of).transpose()?,
    })
}
