//! The janitor road's statements: what nobody uses any more, found in bounded batches and ended in short transactions.

mod ends;
mod expiry;

use std::time::Duration;

use async_trait::async_trait;
use sea_orm::DatabaseConnection;

pub(super) use expiry::{EXPIRE, strays_of};

use super::feeds::{FeedStore, PgFeedStore};
use super::{StoreError, sql};
use crate::domain::ids::{SessionId, VideoId};

/// What became of one abandoned video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// Its rows are gone, its sessions are tombstones.
    Deleted,
    /// One of its flows plays: the others are HIDDEN, the video is BLOCKED.
    Blocked,
    /// Somebody holds it or used it meanwhile: not now.
    Spared,
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
    /// Unfinished videos that nobody has used for `ttl`; none until the farm has taken chunks without a gap for as long.
    async fn abandoned(&self, ttl: Duration, limit: u32) -> Result<Vec<VideoId>, StoreError>;
    /// Ends one of them, if it is still abandoned once its rows are locked.
    async fn expire(&self, video: VideoId, ttl: Duration) -> Result<Expired, StoreError>;
    /// Ends sessions whose `upload_sessions` row somebody else removed; says how many.
    async fn expire_removed(&self, limit: u32) -> Result<u64, StoreError>;
    /// Which of these spool folders nobody needs. One without a row of ours is the normal state between an append and
    /// its commit: it is left alone while its id is in `upload_sessions`, otherwise it gets a tombstone first.
    async fn judge_folders(&self, folders: &[SessionId]) -> Result<Folders, StoreError>;
    /// Failed sessions older than `ttl` whose bytes may go: `spool_gone_at` is committed when this returns.
    async fn give_up_bytes(&self, ttl: Duration, limit: u32) -> Result<Vec<SessionId>, StoreError>;
    /// Final sessions whose route, spool or runs may be there still.
    async fn uncleaned(&self, limit: u32) -> Result<Vec<SessionId>, StoreError>;
    /// Removes the run rows of an ended session.
    async fn drop_runs(&self, session: SessionId) -> Result<(), StoreError>;
    /// Route, spool and runs of a final session are gone.
    async fn set_cleaned(&self, session: SessionId) -> Result<(), StoreError>;
    /// Removes tombstones older than `ttl` that have nothing left to clean; says how many.
    async fn forget_tombstones(&self, ttl: Duration, limit: u32) -> Result<u64, StoreError>;
    /// Removes replicas whose lease ended an hour ago; says how many.
    async fn forget_replicas(&self, limit: u32) -> Result<u64, StoreError>;
}

/// [`CleaningStore`] on PostgreSQL.
pub struct PgCleaningStore {
    db: DatabaseConnection,
    feeds: PgFeedStore,
}

impl PgCleaningStore {
    /// Uses the pool `db`.
    pub fn new(db: DatabaseConnection) -> Self {
        PgCleaningStore { feeds: PgFeedStore::new(db.clone()), db }
    }
}

#[async_trait]
impl CleaningStore for PgCleaningStore {
    async fn abandoned(&self, ttl: Duration, limit: u32) -> Result<Vec<VideoId>, StoreError> {
        sql::within(expiry::abandoned(&self.db, ttl, limit)).await
    }

    async fn expire(&self, video: VideoId, ttl: Duration) -> Result<Expired, StoreError> {
        sql::within(expiry::expire(&self.db, video, ttl)).await
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

    async fn uncleaned(&self, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        sql::within(ends::uncleaned(&self.db, limit)).await
    }

    async fn drop_runs(&self, session: SessionId) -> Result<(), StoreError> {
        self.feeds.drop_runs(session).await
    }

    async fn set_cleaned(&self, session: SessionId) -> Result<(), StoreError> {
        self.feeds.set_cleaned(session).await
    }

    async fn forget_tombstones(&self, ttl: Duration, limit: u32) -> Result<u64, StoreError> {
        sql::within(ends::forget_tombstones(&self.db, ttl, limit)).await
    }

    async fn forget_replicas(&self, limit: u32) -> Result<u64, StoreError> {
        sql::within(ends::forget_replicas(&self.db, limit)).await
    }
}
