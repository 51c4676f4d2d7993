//! The janitor road's statements: what nobody uses any more, found in bounded batches and ended in short transactions.

mod ends;
mod expiry;
mod judged;
mod preview;

use std::time::Duration;

use async_trait::async_trait;
use sea_orm::DatabaseConnection;

pub(super) use ends::REMOVED;
pub(super) use expiry::{EXPIRE, strays_of};

use super::{StoreError, sql};
use crate::domain::ids::{SessionId, VideoId};

pub use preview::{DeadReplica, DoomedSession, DoomedVideo, Listed, OldStray, PgPreview, Preview, Terms};

/// A page of abandoned videos.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Abandoned {
    /// The videos, by id.
    pub videos: Vec<VideoId>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<VideoId>,
}

/// What is left of an abandoned video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Flows, whose uploads end first.
    Uploads,
    /// Only the video itself.
    Emptied,
}

/// What became of some abandoned videos; those that are in neither are held by somebody or were used meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired {
    /// Their flows are gone, their sessions are tombstones.
    pub emptied: Vec<VideoId>,
    /// One of their flows plays: the others are HIDDEN, the video is BLOCKED.
    pub blocked: Vec<VideoId>,
}

/// What a look at spool folders showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folders {
    /// Without any row until now: tombstones since this look, to be cleaned like every ended session.
    pub buried: Vec<SessionId>,
    /// Of ended sessions that were cleaned before: a late append made the folder again.
    pub late: Vec<SessionId>,
}

/// Finds and ends what is abandoned. Every call is idempotent, takes at most `limit` rows and may run in several
/// replicas at once: a row that another transaction holds is passed over.
#[async_trait]
pub trait CleaningStore: Send + Sync {
    /// Judges the `limit` unfinished videos after `after`, by id: those that nobody has used for `ttl`; none until the
    /// farm has taken chunks without a gap for as long.
    async fn abandoned(
        &self,
        stage: Stage,
        ttl: Duration,
        after: Option<VideoId>,
        limit: u32,
    ) -> Result<Abandoned, StoreError>;
    /// Ends the uploads of those of them that are still abandoned once their rows are locked, in one transaction.
    async fn expire(&self, videos: &[VideoId], ttl: Duration) -> Result<Expired, StoreError>;
    /// Removes those of them that are still abandoned and without flows once they are locked, in one transaction;
    /// says how many.
    async fn remove(&self, videos: &[VideoId], ttl: Duration) -> Result<u64, StoreError>;
    /// Ends sessions whose `upload_sessions` row somebody else removed; says how many.
    async fn expire_removed(&self, limit: u32) -> Result<u64, StoreError>;
    /// Which of these spool folders nobody needs. One without a row of ours is the normal state between an append and
    /// its commit: it is left alone while its id is in `upload_sessions`, otherwise it gets a tombstone first.
    async fn judge_folders(&self, folders: &[SessionId]) -> Result<Folders, StoreError>;
    /// Failed sessions older than `ttl` whose bytes may go: `spool_gone_at` is committed when this returns.
    async fn give_up_bytes(&self, ttl: Duration, limit: u32) -> Result<Vec<SessionId>, StoreError>;
    /// Final sessions after `after`, by id, whose route, spool or runs may be there still.
    async fn uncleaned(&self, after: Option<SessionId>, limit: u32) -> Result<Vec<SessionId>, StoreError>;
    /// Removes the run rows of ended sessions, in bounded batches.
    async fn drop_runs(&self, sessions: &[SessionId]) -> Result<(), StoreError>;
    /// Route, spool and runs of final sessions are gone.
    async fn set_cleaned(&self, sessions: &[SessionId]) -> Result<(), StoreError>;
    /// Removes run rows of sessions that have no row, or are final and cleaned; says how many.
    async fn forget_runs(&self, limit: u32) -> Result<u64, StoreError>;
    /// Removes tombstones older than `ttl` that have nothing left to clean; says how many.
    async fn forget_tombstones(&self, ttl: Duration, limit: u32) -> Result<u64, StoreError>;
    /// Removes replicas whose lease ended an hour ago; says how many.
    async fn forget_replicas(&self, limit: u32) -> Result<u64, StoreError>;
}

/// [`CleaningStore`] on PostgreSQL.
pub struct PgCleaningStore {
    db: DatabaseConnection,
}

impl PgCleaningStore {
    /// Uses the pool `db`.
    pub fn new(db: DatabaseConnection) -> Self {
        PgCleaningStore { db }
    }
}

#[async_trait]
impl CleaningStore for PgCleaningStore {
    async fn abandoned(
        &self,
        stage: Stage,
        ttl: Duration,
        after: Option<VideoId>,
        limit: u32,
    ) -> Result<Abandoned, StoreError> {
        sql::within(judged::abandoned(&self.db, stage, ttl, after, limit)).await
    }

    async fn remove(&self, videos: &[VideoId], ttl: Duration) -> Result<u64, StoreError> {
        sql::within(expiry::remove(&self.db, videos, ttl)).await
    }

    async fn expire(&self, videos: &[VideoId], ttl: Duration) -> Result<Expired, StoreError> {
        sql::within(expiry::expire(&self.db, videos, ttl)).await
    }

    async fn expire_removed(&self, limit: u32) -> Result<u64, StoreError> {
        sql::within(ends::expire_removed(&self.db, limit)).await
    }

    async fn judge_folders(&self, folders: &[SessionId]) -> Result<Folders, StoreError> {
        sql::within(ends::judge_folders(&self.db, folders)).await
    }

    async fn give_up_bytes(&self, ttl: Duration, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        sql::within(ends::give_up_bytes(&self.db, ttl, limit)).await
    }

    async fn uncleaned(&self, after: Option<SessionId>, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        sql::within(ends::uncleaned(&self.db, after, limit)).await
    }

    async fn drop_runs(&self, sessions: &[SessionId]) -> Result<(), StoreError> {
        ends::drop_runs(&self.db, sessions).await
    }

    async fn set_cleaned(&self, sessions: &[SessionId]) -> Result<(), StoreError> {
        sql::within(ends::set_cleaned(&self.db, sessions)).await
    }

    async fn forget_runs(&self, limit: u32) -> Result<u64, StoreError> {
        sql::within(ends::forget_runs(&self.db, limit)).await
    }

    async fn forget_tombstones(&self, ttl: Duration, limit: u32) -> Result<u64, StoreError> {
        sql::within(ends::forget_tombstones(&self.db, ttl, limit)).await
    }

    async fn forget_replicas(&self, limit: u32) -> Result<u64, StoreError> {
        sql::within(ends::forget_replicas(&self.db, limit)).await
    }
}
