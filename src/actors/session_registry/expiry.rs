//! Ends abandoned uploads, some in each transaction, beside the chunks' batches.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::ids::VideoId;
use crate::fault::{Classified, Fault};
use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::cleaning::{CleaningStore, Expired};
use crate::messages::{ExpireSessions, Expiry};

/// Videos found by one search.
const PAGE: u32 = 500;
/// A transaction should take less; the next one is half as large when it did not.
const LONG: Duration = Duration::from_millis(200);
/// After one that took less the next one may be twice as large.
const SHORT: Duration = Duration::from_millis(80);
/// Videos in a round's first transaction.
const FIRST: usize = 20;
/// Transactions that a round loses to a database that is away before it gives up.
const LOST: usize = 3;

/// One bounded round. What cannot be ended now is told of and left to the next run.
pub(super) async fn expire(store: Arc<dyn CleaningStore>, asked: ExpireSessions) -> Expiry {
    let mut expiry = Expiry::default();
    match store.expire_removed(asked.limit).await {
        Ok(removed) => expiry.removed = removed,
        Err(error) => expiry.failed(&error),
    }
    match store.abandoned(asked.ttl, asked.after, PAGE.max(asked.limit)).await {
        Ok(page) => {
            expiry.next = page.next;
            let mut round = Round { store, asked, expiry, pace: Pace::new(asked.limit), lost: 0 };
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
            let (batch, rest) = videos.split_at(self.pace.size.min(videos.len()));
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
                Ok(expired) => self.ended(&expired),
                Err(error) if error.fault() == Fault::Poison && batch.len() > 1 => {
                    let (left, right) = batch.split_at(batch.len() / 2);
                    waiting.extend([right, left]);
                }
                Err(error) => {
                    self.lost += usize::from(error.fault() == Fault::Transient);
                    self.expiry.failed(&error);
                }
            }
            self.pace.took(began.elapsed());
        }
    }

    fn ended(&mut self, expired: &Expired) {
        tracing::debug!(deleted = ?expired.deleted, blocked = ?expired.blocked, "abandoned videos ended");
        self.expiry.deleted += expired.deleted.len() as u64;
        self.expiry.blocked += expired.blocked.len() as u64;
    }
}

impl Expiry {
    fn failed(&mut self, error: &StoreError) {
        self.error = Some(error.to_string());
    }
}

/// How many videos go into one transaction, so that none takes long: deleting a video costs a walk through all flows,
/// since `flows` has no index by video, and a large table is slower than a small one.
struct Pace {
    size: usize,
    most: usize,
}

impl Pace {
    fn new(most: u32) -> Self {
        let most = (most as usize).max(1);
        Pace { size: most.min(FIRST), most }
    }

    fn took(&mut self, time: Duration) {
        if time > LONG {
            self.size = (self.size / 2).max(1);
        } else if time < SHORT {
            self.size = (self.size * 2).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!((expiry.deleted, expiry.next), (49, None));
        assert!(expiry.error.is_some_and(|error| error.contains("refused")));
        assert_eq!(store.with(|content| content.abandoned.clone()), [videos[30]]);
    }

    #[actix_rt::test]
    async fn pages_go_on_behind_videos_that_somebody_holds() {
        let (store, videos) = (MemoryCleaning::default(), videos(u128::from(PAGE) + 1));
        let held = videos[..PAGE as usize].to_vec();
        store.with(|content| (content.abandoned, content.held) = (videos, held.clone()));
        let first = round(&store, None).await;
        assert_eq!((first.deleted, first.next), (0, held.last().copied()));
        let second = round(&store, first.next).await;
        assert_eq!((second.deleted, second.next), (1, None));
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

    #[test]
    fn transactions_grow_while_they_are_short_and_shrink_when_they_are_long() {
        let mut pace = Pace::new(100);
        let mut after = |millis: u64| {
            pace.took(Duration::from_millis(millis));
            pace.size
        };
        assert_eq!([after(10), after(10), after(10), after(10)], [40, 80, 100, 100]);
        assert_eq!([after(100), after(300), after(300)], [100, 50, 25]);
        assert_eq!([after(900), after(900), after(900), after(900), after(900)], [12, 6, 3, 1, 1]);
        assert_eq!(Pace::new(5).size, 5);
    }
}
