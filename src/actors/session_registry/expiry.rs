//! Ends abandoned uploads, each in a transaction of its own, beside the chunks' batches.

use std::sync::Arc;

use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::cleaning::{CleaningStore, Expired};
use crate::messages::{ExpireSessions, Expiry};

/// One bounded round. A video that cannot be ended now is told of and left to the next one.
pub(super) async fn expire(store: Arc<dyn CleaningStore>, asked: ExpireSessions) -> Expiry {
    let mut expiry = Expiry::default();
    match store.expire_removed(asked.limit).await {
        Ok(removed) => expiry.removed = removed,
        Err(error) => expiry.failed(&error),
    }
    let videos = match store.abandoned(asked.ttl, asked.limit).await {
        Ok(videos) => videos,
        Err(error) => {
            expiry.failed(&error);
            return expiry;
        }
    };
    for video in videos {
        match store.expire(video, asked.ttl).await {
            Ok(Expired::Deleted) => expiry.deleted += 1,
            Ok(Expired::Blocked) => expiry.blocked += 1,
            Ok(Expired::Spared) => {}
            Err(error) => expiry.failed(&error),
        }
    }
    expiry
}

impl Expiry {
    fn failed(&mut self, error: &StoreError) {
        self.error = Some(error.to_string());
    }
}
