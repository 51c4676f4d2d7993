//! The duty to answer one delivery: settled once, or given back.

use actix::Recipient;

use crate::domain::ids::CorrelationId;
use crate::domain::session::Refusal;
use crate::metrics;

/// Which delivery, on which incarnation of the broker channel. A tag of an older channel means nothing to a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId {
    /// Counts the consumer's connections.
    pub link: u64,
    /// The broker's delivery tag.
    pub tag: u64,
}

/// The answer to one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Whose answer.
    pub correlation: CorrelationId,
    /// `None` is `ack`.
    pub refusal: Option<Refusal>,
}

/// How a delivery ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Publish the reply, wait for its confirm, then ack the delivery.
    Reply(Reply),
    /// Nobody can be told: reject without requeue.
    Reject {
        /// For the log.
        reason: String,
    },
    /// Requeue it; another replica, or this one later, takes it.
    GiveBack,
}

/// What the AmqpConsumer hears when a ticket ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// How it ends.
    pub verdict: Verdict,
}

/// The duty to answer one delivery. Settling consumes it; dropping it, by crash or neglect, gives the delivery back.
#[must_use = "a dropped ticket gives its delivery back"]
pub struct Ticket {
    delivery: DeliveryId,
    span: tracing::Span,
    desk: Option<Recipient<Settlement>>,
}

impl Ticket {
    /// A ticket for `delivery`, to be settled at `desk`.
    pub fn new(delivery: DeliveryId, span: tracing::Span, desk: Recipient<Settlement>) -> Self {
        Ticket { delivery, span, desk: Some(desk) }
    }

    /// The span of this delivery, from the broker to the reply.
    pub fn span(&self) -> &tracing::Span {
        &self.span
    }

    /// Answers `ack`.
    pub fn accept(self, correlation: CorrelationId) {
        self.settle(Verdict::Reply(Reply { correlation, refusal: None }));
    }

    /// Answers `nack`.
    pub fn refuse(self, correlation: CorrelationId, refusal: Refusal) {
        self.settle(Verdict::Reply(Reply { correlation, refusal: Some(refusal) }));
    }

    /// Answers `nack` because a dependency was away for the whole of the chunk's time.
    pub fn unavailable(self, correlation: CorrelationId) {
        self.refuse(correlation, Refusal::unavailable());
    }

    /// Ends a delivery that nobody can be told about.
    pub fn reject(self, reason: String) {
        self.settle(Verdict::Reject { reason });
    }

    fn settle(mut self, verdict: Verdict) {
        self.send(verdict);
    }

    fn send(&mut self, verdict: Verdict) {
        if let Some(desk) = self.desk.take() {
            // Settling must neither wait nor fail: the consumer holds at most `prefetch` of them.
            // A consumer that is gone takes nothing up any more; its successor's mailbox is another one.
            if desk.connected() {
                metrics::posted("AmqpConsumer");
            }
            desk.do_send(Settlement { delivery: self.delivery, verdict });
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.send(Verdict::GiveBack);
    }
}
