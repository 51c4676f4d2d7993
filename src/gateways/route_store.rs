//! Redis: session id -> address of its flow, shared by the replicas. A cache; PostgreSQL stands behind it.

mod redis_routes;

use async_trait::async_trait;

pub use self::redis_routes::RedisRoutes;

use crate::domain::ids::SessionId;
use crate::domain::route::FlowUrl;
use crate::fault::{Classified, Fault};

/// Redis did not do what it was asked, or not in time. Always Transient: the service works on without it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("redis: {0}")]
pub struct RouteStoreError(pub String);

impl Classified for RouteStoreError {
    fn fault(&self) -> Fault {
        Fault::Transient
    }
}

/// Remembers where flows run. Values read back are not trusted: the caller checks them.
#[async_trait]
pub trait RouteStore: Send + Sync {
    /// The address last set for a session, unchecked.
    async fn get(&self, session: SessionId) -> Result<Option<String>, RouteStoreError>;
    /// Sets the address and starts its time-to-live anew.
    async fn set(&self, session: SessionId, url: &FlowUrl) -> Result<(), RouteStoreError>;
    /// Forgets the address.
    async fn remove(&self, session: SessionId) -> Result<(), RouteStoreError>;
    /// Answers when Redis does.
    async fn ping(&self) -> Result<(), RouteStoreError>;
}
