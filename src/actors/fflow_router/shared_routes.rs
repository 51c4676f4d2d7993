//! Redis as the router uses it: helpful, never needed.

use std::sync::Arc;
use std::time::Duration;

use actix::{AsyncContext, Context, WrapFuture};

use super::FflowRouter;
use crate::domain::ids::SessionId;
use crate::domain::route::FlowUrl;
use crate::gateways::route_store::{RouteStore, RouteStoreError};
use crate::readiness::{Dependency, Readiness, State};

/// Redis as a cache: a failure is shown, and is no route.
pub(super) struct SharedRoutes {
    store: Arc<dyn RouteStore>,
    readiness: Readiness,
}

/// Between two looks whether Redis answers; longer than any answer may take.
const WATCH: Duration = Duration::from_secs(15);

impl FflowRouter {
    /// Shows on the board whether Redis answers, also while nobody asks for a route.
    pub(super) fn watch_redis(&self, ctx: &mut Context<Self>) {
        let watch = |router: &mut FflowRouter, ctx: &mut Context<FflowRouter>| {
            let routes = router.shared_routes();
            let ping = async move { _ = routes.shown(routes.store.ping().await) };
            ctx.spawn(ping.into_actor(router));
        };
        ctx.run_later(Duration::ZERO, watch);
        ctx.run_interval(WATCH, watch);
    }
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
        if let Err(error) = &outcome {
            tracing::debug!(session.id = %session, %error, "route cache");
        }
        self.shown(outcome)
    }

    fn shown<T>(&self, outcome: Result<T, RouteStoreError>) -> Option<T> {
        match outcome {
            Ok(value) => {
                self.readiness.set(Dependency::Redis, State::Up);
                Some(value)
            }
            Err(error) => {
                let shown = format!("away; routes come from PostgreSQL: {error}");
                self.readiness.set(Dependency::Redis, State::Degraded(shown));
                None
            }
        }
    }
}
