//! The right to speak to fflow: valid while this replica's heartbeat is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock;
use crate::domain::ids::Timestamp;

/// Asked before each request to fflow; clones share it.
#[derive(Clone)]
pub struct Lease {
    shared: Arc<Shared>,
}

/// Extends a [`Lease`].
pub struct LeaseKeeper {
    shared: Arc<Shared>,
}

struct Shared {
    until: AtomicU64,
    /// Whether its keeper lives.
    kept: AtomicBool,
    changed: Notify,
}

impl Shared {
    fn is_valid(&self) -> bool {
        self.until.load(Ordering::Acquire) > clock::now().0
    }
}

/// A lease that is not valid yet.
pub fn lease() -> (LeaseKeeper, Lease) {
    let (until, kept) = (AtomicU64::new(0), AtomicBool::new(true));
    let shared = Arc::new(Shared { until, kept, changed: Notify::new() });
    (LeaseKeeper { shared: shared.clone() }, Lease { shared })
}

impl Lease {
    /// Waits until the lease is valid. It may lapse right afterwards; what was sent then goes to a name that no later
    /// owner uses. Those who wait go on in the order in which they came. `false` if its keeper died with its forwarder: nobody says any more that this replica lives, and
    /// nothing may be sent.
    pub async fn valid(&self) -> bool {
        loop {
            let changed = self.shared.changed.notified();
            if self.shared.is_valid() {
                return true;
            }
            if !self.shared.kept.load(Ordering::Acquire) {
                return false;
            }
            changed.await;
        }
    }
}

impl LeaseKeeper {
    /// Valid until `span` after `from`.
    pub fn extend(&self, from: Timestamp, span: Duration) {
        self.shared.until.store(from.after(span).0, Ordering::Release);
        self.shared.changed.notify_waiters();
    }

    /// Whether it is valid now.
    pub fn is_valid(&self) -> bool {
        self.shared.is_valid()
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.shared.kept.store(false, Ordering::Release);
        self.shared.changed.notify_waiters();
    }
}
