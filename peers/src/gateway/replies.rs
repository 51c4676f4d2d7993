//! Who awaits which reply.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// What the uploader says of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Ack,
    /// The reason of a refusal.
    Nack(String),
}

/// The open requests by correlation id; bounded by the open requests themselves.
#[derive(Clone, Default)]
pub(super) struct Replies {
    awaited: Arc<Mutex<HashMap<String, oneshot::Sender<Reply>>>>,
}

/// One awaited reply; dropping it ends the wait.
pub(super) struct Awaited {
    replies: Replies,
    correlation_id: String,
    reply: oneshot::Receiver<Reply>,
}

impl Replies {
    pub(super) fn register(&self, correlation_id: &str) -> Awaited {
        let (tell, reply) = oneshot::channel();
        self.awaited().insert(correlation_id.to_owned(), tell);
        Awaited { replies: self.clone(), correlation_id: correlation_id.to_owned(), reply }
    }

    /// Hands a reply to who awaits it; false when nobody does.
    pub(super) fn settle(&self, correlation_id: &str, reply: Reply) -> bool {
        let found = self.awaited().remove(correlation_id);
        // A request that ends at this very moment has had its reply all the same.
        found.map(|tell| tell.send(reply)).is_some()
    }

    fn awaited(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Reply>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Awaited {
    /// The reply; `None` when the wait was given up elsewhere.
    pub(super) async fn reply(&mut self) -> Option<Reply> {
        (&mut self.reply).await.ok()
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.replies.awaited().remove(&self.correlation_id);
    }
}
