//! What can be cleaned, in memory: what a test put there, and what became of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::ids::{SessionId, VideoId};
use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::cleaning::{Abandoned, CleaningStore, Expired, Folders, Stage};

/// Everything that may be cleaned.
#[derive(Debug, Default)]
pub struct Cleanable {
    /// Videos that nobody uses; one whose id is in `held` is spared.
    pub abandoned: Vec<VideoId>,
    /// Videos whose uploads have ended.
    pub emptied: Vec<VideoId>,
    /// Videos that somebody holds.
    pub held: Vec<VideoId>,
    /// Videos that the database refuses to end.
    pub refused: Vec<VideoId>,
    /// How many videos each transaction was about.
    pub transactions: Vec<usize>,
    /// Sessions whose rows others removed.
    pub removed: u64,
    /// Sessions that have rows.
    pub known: Vec<SessionId>,
    /// Failed sessions whose bytes are due.
    pub failed: Vec<SessionId>,
    /// Ended sessions that are not cleaned.
    pub uncleaned: Vec<SessionId>,
    /// Ended sessions that are.
    pub cleaned: Vec<SessionId>,
    /// Tombstones past their time.
    pub tombstones: u64,
    /// Whether every call fails.
    pub away: bool,
}

/// Clones share the content.
#[derive(Debug, Clone, Default)]
pub struct MemoryCleaning {
    content: Arc<Mutex<Cleanable>>,
}

impl MemoryCleaning {
    /// Reads or changes anything.
    pub fn with<T>(&self, look: impl FnOnce(&mut Cleanable) -> T) -> T {
        look(&mut self.locked())
    }

    fn locked(&self) -> MutexGuard<'_, Cleanable> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reachable(&self) -> Result<MutexGuard<'_, Cleanable>, StoreError> {
        let content = self.locked();
        if content.away {
            return Err(StoreError::Unavailable("away, as scripted".to_owned()));
        }
        Ok(content)
    }
}

fn taken<T>(from: &mut Vec<T>, limit: u32) -> Vec<T> {
    let count = from.len().min(limit as usize);
    from.drain(..count).collect()
}

#[async_trait]
impl CleaningStore for MemoryCleaning {
    async fn abandoned(
        &self,
        stage: Stage,
        _: Duration,
        after: Option<VideoId>,
        limit: u32,
    ) -> Result<Abandoned, StoreError> {
        let content = self.reachable()?;
        let mut videos = match stage {
            Stage::Uploads => content.abandoned.clone(),
            Stage::Emptied => content.emptied.clone(),
        };
        videos.sort();
        videos.retain(|video| after.is_none_or(|after| *video > after));
        videos.truncate(limit as usize);
        let next = videos.last().copied().filter(|_| videos.len() == limit as usize);
        Ok(Abandoned { videos, next })
    }

    async fn expire(&self, videos: &[VideoId], _: Duration) -> Result<Expired, StoreError> {
        let mut content = self.reachable()?;
        content.transactions.push(videos.len());
        if videos.iter().any(|video| content.refused.contains(video)) {
            return Err(StoreError::Refused("scripted".to_owned()));
        }
        let emptied: Vec<VideoId> =
            videos.iter().copied().filter(|video| !content.held.contains(video)).collect();
        content.abandoned.retain(|other| !emptied.contains(other));
        content.emptied.extend(&emptied);
        Ok(Expired { emptied, blocked: Vec::new() })
    }

    async fn remove(&self, videos: &[VideoId], _: Duration) -> Result<u64, StoreError> {
        let mut content = self.reachable()?;
        content.emptied.retain(|other| !videos.contains(other));
        Ok(videos.len() as u64)
    }

    async fn expire_removed(&self, _: u32) -> Result<u64, StoreError> {
        Ok(std::mem::take(&mut self.reachable()?.removed))
    }

    async fn judge_folders(&self, folders: &[SessionId]) -> Result<Folders, StoreError> {
        let mut content = self.reachable()?;
        let mut judged = Folders::default();
        for session in folders {
            if content.cleaned.contains(session) {
                judged.late.push(*session);
            } else if !content.known.contains(session) && !content.uncleaned.contains(session) {
                content.uncleaned.push(*session);
                judged.buried.push(*session);
            }
        }
        Ok(judged)
    }

    async fn give_up_bytes(&self, _: Duration, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        Ok(taken(&mut self.reachable()?.failed, limit))
    }

    async fn uncleaned(&self, after: Option<SessionId>, limit: u32) -> Result<Vec<SessionId>, StoreError> {
        let mut due = self.reachable()?.uncleaned.clone();
        due.sort();
        due.retain(|session| after.is_none_or(|after| *session > after));
        due.truncate(limit as usize);
        Ok(due)
    }

    async fn drop_runs(&self, _: &[SessionId]) -> Result<(), StoreError> {
        self.reachable().map(|_| ())
    }

    async fn set_cleaned(&self, sessions: &[SessionId]) -> Result<(), StoreError> {
        let mut content = self.reachable()?;
        content.uncleaned.retain(|other| !sessions.contains(other));
        content.cleaned.extend(sessions);
        Ok(())
    }

    async fn forget_runs(&self, _: u32) -> Result<u64, StoreError> {
        self.reachable().map(|_| 0)
    }

    async fn forget_tombstones(&self, _: Duration, _: u32) -> Result<u64, StoreError> {
        Ok(std::mem::take(&mut self.reachable()?.tombstones))
    }

    async fn forget_replicas(&self, _: u32) -> Result<u64, StoreError> {
        self.reachable().map(|_| 0)
    }
}
