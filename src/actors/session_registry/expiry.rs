//! Ends abandoned uploads, some in each transaction, beside the chunks' batches.

use std::sync::Arc;

use tokio::time::Instant;

use crate::domain::ids::VideoId;
use crate::domain::pace::Pace;
use crate::fault::{Classified, Fault};
use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::cleaning::{CleaningStore, Expired, Stage};
use crate::messages::{ExpireSessions, Expiry};

/// Videos judged by one search.
const PAGE: u32 = 1_000;
/// Videos in one transaction, at least: most of what it costs is one walk through all flows.
const LEAST: usize = 10;
/// Transactions that a round loses to a database that is away before it gives up.
const LOST: usize = 3;

/// One bounded round. What cannot be ended now is told of and left to the next run.
pub(super) async fn expire(store: Arc<dyn CleaningStore>, asked: ExpireSessions) -> Expiry {
    let mut expiry = Expiry::default();
    match store.expire_removed(asked.limit).await {
        Ok(removed) => expiry.removed = removed,
        Err(error) => expiry.failed(&error),
    }
    match store.abandoned(Stage::Uploads, asked.ttl, asked.after, PAGE).await {
        Ok(page) => {
            expiry.next = page.next;
            let pace = Pace::new(LEAST, asked.limit as usize);
            let mut round = Round { store, asked, expiry, pace, lost: 0 };
            round.expire(&page.videos).await;
            round.expiry
        }
        Err(error) => {
            expiry.failed(&error);
            expiry.next = asked.after;
            expiry
        }
    }
}

struct Round {
    store: Arc<dyn CleaningStore>,
    asked: ExpireSessions,
    expiry: Expiry,
    pace: Pace,
    lost: usize,
}

impl Round {
    async fn expire(&mut self, mut videos: &[VideoId]) {
        while !videos.is_empty() && self.lost < LOST {
            let (batch, rest) = videos.split_at(self.pace.size().min(videos.len()));
            videos = rest;
            self.batch(batch).await;
        }
    }

    /// A batch that the database refuses is halved until the culprit is alone.
    async fn batch(&mut self, batch: &[VideoId]) {
        let mut waiting = vec![batch];
        while let Some(batch) = waiting.pop() {
            let began = Instant::now();
            match self.store.expire(batch, self.asked.ttl).await {
                Ok(expired) => {
                    self.pace.took(batch.len(), began.elapsed());
                    self.ended(&expired);
                }
                Err(error) if error.fault() == Fault::Poison && batch.len() > 1 => {
                    let (left, right) = batch.split_at(batch.len() / 2);
                    waiting.extend([right, left]);
                }
                Err(error) => {
                    self.pace.failed();
                    self.lost += usize::from(error.fault() == Fault::Transient);
                    self.expiry.failed(&error);
                }
            }
        }
    }

    fn ended(&mut self, expired: &Expired) {
        tracing::debug!(emptied = ?expired.emptied, blocked = ?expired.blocked, "abandoned uploads ended");
        self.expiry.emptied += expired.emptied.len() as u64;
        self.expiry.blocked += expired.blocked.len() as u64;
    }
}

impl Expiry {
    fn failed(&mut self, error: &StoreError) {
        self.error = Some(error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::testkit::memory_cleaning::MemoryCleaning;

    fn videos(count: u128) -> Vec<VideoId> {
        (1..=count).map(|number| VideoId(Uuid::from_u128(number))).collect()
    }

    async fn round(store: &MemoryCleaning, after: Option<VideoId>) -> Expiry {
        let asked = ExpireSessions { ttl: Duration::from_secs(1), limit: 100, after };
        expire(Arc::new(store.clone()), asked).await
    }

    #[actix_rt::test]
    async fn a_video_that_the_database_refuses_is_found_and_the_others_end() {
        let (store, videos) = (MemoryCleaning::default(), videos(50));
        store.with(|content| (content.abandoned, content.refused) = (videos.clone(), vec![videos[30]]));
        let expiry = round(&store, None).await;
        assert_eq!((expiry.emptied, expiry.next), (49, None));
        assert!(expiry.error.is_some_and(|error| error.contains("refused")));
        assert_eq!(store.with(|content| content.abandoned.clone()), [videos[30]]);
    }

    #[actix_rt::test]
    async fn pages_go_on_behind_videos_that_somebody_holds() {
        let (store, videos) = (MemoryCleaning::default(), videos(u128::from(PAGE) + 1));
        let held = videos[..PAGE as usize].to_vec();
        store.with(|content| (content.abandoned, content.held) = (videos, held.clone()));
        let first = round(&store, None).await;
        assert_eq!((first.emptied, first.next), (0, held.last().copied()));
        let second = round(&store, first.next).await;
        assert_eq!((second.emptied, second.next), (1, None));
        assert!(store.with(|content| content.transactions.iter().all(|size| *size <= 100)));
    }

    #[actix_rt::test]
    async fn a_database_that_is_away_leaves_the_round_where_it_was() {
        let store = MemoryCleaning::default();
        store.with(|content| content.away = true);
        let place = Some(VideoId(Uuid::from_u128(7)));
        let expiry = round(&store, place).await;
        assert_eq!(expiry.next, place);
        assert!(expiry.error.is_some_and(|error| error.contains("away")));
    }
}
