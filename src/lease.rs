//! The right to speak to fflow: valid while this replica's heartbeat is.

use std::time::Duration;

use tokio::sync::watch;

use crate::clock;
use crate::domain::ids::Timestamp;

/// Asked before each request to fflow; clones share it.
#[derive(Clone)]
pub struct Lease {
    until: watch::Receiver<Timestamp>,
}

/// Extends a [`Lease`].
pub struct LeaseKeeper {
    until: watch::Sender<Timestamp>,
}

/// A lease that is not valid yet.
pub fn lease() -> (LeaseKeeper, Lease) {
    let (sender, receiver) = watch::channel(Timestamp(0));
    (LeaseKeeper { until: sender }, Lease { until: receiver })
}

impl Lease {
    /// Waits until the lease is valid. It may lapse right afterwards; what was sent then goes to a name that no later
    /// owner uses. `false` if its keeper died with its forwarder: nobody says any more that this replica lives, and
    /// nothing may be sent.
    pub async fn valid(&self) -> bool {
        let mut until = self.until.clone();
        until.wait_for(|until| *until > clock::now()).await.is_ok()
    }
}

impl LeaseKeeper {
    /// Valid until `span` after `from`.
    pub fn extend(&self, from: Timestamp, span: Duration) {
        self.until.send_replace(from.after(span));
    }

    /// Whether it is valid now.
    pub fn is_valid(&self) -> bool {
        *self.until.borrow() > clock::now()
    }
}
