//! Redis as the router uses it: helpful, never needed.

use std::sync::Arc;

use crate::domain::ids::SessionId;
use crate::domain::route::FlowUrl;
use crate::gateways::route_store::{RouteStore, RouteStoreError};
use crate::readiness::{Dependency, Readiness, State};

/// Redis as a cache: a failure is shown, and is no route.
pub(super) struct SharedRoutes {
    store: Arc<dyn RouteStore>,
    readiness: Readiness,
}

impl SharedRoutes {
    pub(super) fn new(store: Arc<dyn RouteStore>, readiness: Readiness) -> Self {
        SharedRoutes { store, readiness }
    }

    pub(super) async fn get(&self, session: SessionId) -> Option<String> {
        self.heard(session, self.store.get(session).await).flatten()
    }

    pub(super) async fn set(&self, session: SessionId, url: &FlowUrl) {
        self.heard(session, self.store.set(session, url).await);
    }

    /// Whether the route is surely gone.
    pub(super) async fn remove(&self, session: SessionId) -> bool {
        self.heard(session, self.store.remove(session).await).is_some()
    }

    fn heard<T>(&self, session: SessionId, outcome: Result<T, RouteStoreError>) -> Option<T> {
        match outcome {
            Ok(value) => {
                self.readiness.set(Dependency::Redis, State::Up);
                Some(value)
            }
            Err(error) => {
                tracing::debug!(session.id = %session, %error, "route cache");
                let shown = "away; routes come from PostgreSQL".to_owned();
                self.readiness.set(Dependency::Redis, State::Degraded(shown));
                None
            }
        }
    }
}
