//! The message broker: deliveries in on one connection, replies out on another.

mod connection;
pub(crate) mod frames;
mod link;
mod sender;
mod settle;
mod survey;
mod transport;
pub mod wire;

use async_trait::async_trait;

use crate::domain::chunk::RawDelivery;
use crate::fault::{Classified, Fault};
use crate::ticket::Reply;

pub use connection::LapinBroker;
pub use sender::{ChunkSender, Outgoing, Verdict};
pub use survey::{QueueSeen, Topology};

/// Why the broker did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The connection or channel is gone, or was never there.
    #[error("broker connection: {0}")]
    Lost(String),
    /// The broker did not answer in time.
    #[error("broker did not answer within {0:?}")]
    Timeout(std::time::Duration),
    /// The topology exists with other flags, or access is denied: a human must look.
    #[error("broker refused: {0}")]
    Refused(String),
}

impl Classified for BrokerError {
    fn fault(&self) -> Fault {
        match self {
            BrokerError::Lost(_) | BrokerError::Timeout(_) => Fault::Transient,
            BrokerError::Refused(_) => Fault::Fatal,
        }
    }
}

/// What a link tells its consumer.
#[derive(Debug)]
pub enum LinkEvent {
    /// A chunk, with the broker's delivery tag.
    Delivery {
        /// Valid on this link only.
        tag: u64,
        /// As it came.
        delivery: RawDelivery,
    },
    /// The broker is under alarm and takes no replies (`true`), or takes them again (`false`).
    Blocked(bool),
    /// The link is dead; deliveries that were not settled come again on the next one.
    Lost(BrokerError),
}

/// Whether a published reply reached a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// Confirmed and routed.
    Confirmed,
    /// Confirmed, but no queue was bound: the topology is gone.
    Returned,
}

/// Opens links to the broker.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Connects, declares the topology, sets the prefetch and starts to consume. Bounded by its own deadline.
    async fn connect(&self) -> Result<Box<dyn BrokerLink>, BrokerError>;
}

/// One incarnation of both connections. Dropped, it closes them.
#[async_trait]
pub trait BrokerLink: Send + Sync {
    /// The next event; after `Lost` there is none. Cancel-safe.
    async fn next(&self) -> LinkEvent;
    /// Publishes a reply (mandatory, with expiration) and waits for the broker's confirm.
    async fn publish(&self, reply: &Reply) -> Result<Published, BrokerError>;
    /// Declares exchange, queues and bindings again.
    async fn declare(&self) -> Result<(), BrokerError>;
    /// Settles one delivery for good.
    async fn ack(&self, tag: u64) -> Result<(), BrokerError>;
    /// Refuses one delivery for good.
    async fn reject(&self, tag: u64) -> Result<(), BrokerError>;
    /// Requeues one delivery.
    async fn give_back(&self, tag: u64) -> Result<(), BrokerError>;
    /// Stops (`false`) or starts again (`true`) the flow of deliveries; those already here stay valid.
    async fn consume(&self, on: bool) -> Result<(), BrokerError>;
    /// Closes both connections in good order, within a deadline.
    async fn close(&self);
}
