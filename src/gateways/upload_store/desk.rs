//! What operators read and do by hand: sessions listed, looked at, tried again, ended.

mod interventions;
mod reads;

use async_trait::async_trait;
use sea_orm::DatabaseConnection;
use serde::Serialize;

use super::{StoreError, sql};
use crate::domain::ids::{SessionId, VideoId};
use crate::domain::intervention::Refused;
use crate::domain::status::SessionState;

/// Which sessions to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only these states; all when empty.
    pub states: Vec<SessionState>,
    /// Only this video's.
    pub video: Option<VideoId>,
    /// At most so many, the newest activity first.
    pub limit: u32,
}

/// One session in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionLine {
    /// `uploader.session.session_id`
    pub session_id: String,
    /// `uploader.session.video_id`
    pub video_id: Option<String>,
    /// `uploader.session.state`
    pub state: String,
    /// Bytes stored.
    pub committed: i64,
    /// Bytes of the file.
    pub total_bytes: i64,
    /// RFC 3339.
    pub last_activity: String,
    /// Seconds since then, by PostgreSQL's clock.
    pub idle_seconds: f64,
    /// The name of the replica that feeds it.
    pub owner: Option<String>,
    /// ffmpeg processes begun for it.
    pub generation: i32,
    /// Processes that failed without getting farther.
    pub strikes: i32,
    /// Why it failed or ended, or what went wrong last.
    pub last_error: Option<String>,
}

/// Everything of one session.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionDetail {
    /// As in a list.
    #[serde(flatten)]
    pub line: SessionLine,
    /// `uploader.session.flow_id`
    pub flow_id: Option<String>,
    /// `videos.status`; none when the row is gone.
    pub video_status: Option<String>,
    /// `flows.status`; none when the row is gone.
    pub flow_status: Option<String>,
    /// `upload_sessions.uploaded_bytes`; none when the row is gone.
    pub uploaded_bytes: Option<i64>,
    /// The fencing number of its ownership.
    pub epoch: i64,
    /// Seconds that the owner's lease lasts still; negative when it has ended.
    pub owner_lease_seconds: Option<f64>,
    /// Where its ffmpeg process lives.
    pub flow_url: Option<String>,
    /// Bytes fed, as of the last release.
    pub fed: i64,
    /// Handed over with nothing in doubt.
    pub settled: bool,
    /// The farthest that any of its processes came.
    pub farthest: i64,
    /// RFC 3339; when it began to fail without progress.
    pub failing_since: Option<String>,
    /// RFC 3339; not fed before.
    pub next_attempt_at: Option<String>,
    /// RFC 3339; when the finish was asked for.
    pub finish_sent_at: Option<String>,
    /// RFC 3339; when it became DONE, EXPIRED or FAILED.
    pub ended_at: Option<String>,
    /// RFC 3339; when route, spool and runs were gone.
    pub cleaned_at: Option<String>,
    /// RFC 3339; when its stored bytes were given up.
    pub spool_gone_at: Option<String>,
    /// Stretches of its bytes in the spool.
    pub runs: i64,
    /// Files of the spool that hold them.
    pub writers: i64,
    /// Its ffmpeg processes that wait to be deleted.
    pub strays: Vec<String>,
}

/// How an intervention ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intervened<T> {
    /// Committed.
    Done(T),
    /// Nothing was changed.
    Refused(Refused),
}

/// What was changed, for the log and the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The video it belongs to.
    pub video_id: Option<String>,
    /// The state before; none where there was no row of ours.
    pub before: Option<String>,
    /// The state now.
    pub after: String,
    /// `videos.status` now.
    pub video_status: Option<String>,
    /// A finish was on its way: files may still appear on holder.
    pub finish_sent: bool,
}

/// The operator's reads and interventions. An intervention is one transaction in the order of locks; after an
/// `Unavailable` nothing is known of it: look at the session.
#[async_trait]
pub trait OperatorDesk: Send + Sync {
    /// The sessions that fit.
    async fn list(&self, filter: &Filter) -> Result<Vec<SessionLine>, StoreError>;
    /// One session; none when nobody knows it.
    async fn show(&self, session: SessionId) -> Result<Option<SessionDetail>, StoreError>;
    /// Has a FAILED session fed again from its stored bytes.
    async fn retry(&self, session: SessionId) -> Result<Intervened<Change>, StoreError>;
    /// Ends a session that is not over; `reason` is what its late chunks are told.
    async fn expire(
        &self,
        session: SessionId,
        force: bool,
        reason: &str,
    ) -> Result<Intervened<Change>, StoreError>;
}

/// [`OperatorDesk`] on PostgreSQL.
pub struct PgDesk {
    db: DatabaseConnection,
}

impl PgDesk {
    /// Uses the pool `db`.
    pub fn new(db: DatabaseConnection) -> Self {
        PgDesk { db }
    }
}

#[async_trait]
impl OperatorDesk for PgDesk {
    async fn list(&self, filter: &Filter) -> Result<Vec<SessionLine>, StoreError> {
        sql::within(reads::list(&self.db, filter)).await
    }

    async fn show(&self, session: SessionId) -> Result<Option<SessionDetail>, StoreError> {
        sql::within(reads::show(&self.db, session)).await
    }

    async fn retry(&self, session: SessionId) -> Result<Intervened<Change>, StoreError> {
        sql::within(interventions::retry(&self.db, session)).await
    }

    async fn expire(
        &self,
        session: SessionId,
        force: bool,
        reason: &str,
    ) -> Result<Intervened<Change>, StoreError> {
        sql::within(interventions::expire(&self.db, session, force, reason)).await
    }
}
