//! What all replicas share about fflow, in memory: routes as in Redis, the farm as in PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::weather::{Lot, Sky, pass};
use crate::domain::ids::{FlowName, SessionId};
use crate::domain::route::FlowUrl;
use crate::gateways::route_store::{RouteStore, RouteStoreError};
use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::farm::{FarmStore, Stray, Worked};

/// Redis in memory; clones share it. Knows no time-to-live.
#[derive(Clone, Default)]
pub struct MemoryRoutes {
    inner: Arc<Mutex<Routes>>,
    sky: Sky,
}

#[derive(Default)]
struct Routes {
    routes: BTreeMap<SessionId, String>,
    sets: usize,
    away: bool,
}

impl MemoryRoutes {
    /// The same Redis under another weather.
    #[must_use]
    pub fn under(&self, sky: Sky) -> Self {
        MemoryRoutes { sky, ..self.clone() }
    }

    /// The sessions that have routes.
    pub fn sessions(&self) -> Vec<SessionId> {
        self.lock().routes.keys().copied().collect()
    }

    /// Takes Redis away, or brings it back with what it held.
    pub fn set_away(&self, away: bool) {
        self.lock().away = away;
    }

    /// Loses everything.
    pub fn empty(&self) {
        self.lock().routes.clear();
    }

    /// Writes a value past every check.
    pub fn put(&self, session: SessionId, value: &str) {
        self.lock().routes.insert(session, value.to_owned());
    }

    /// The value as it is.
    pub fn value(&self, session: SessionId) -> Option<String> {
        self.lock().routes.get(&session).cloned()
    }

    /// How often a route was set.
    pub fn sets(&self) -> usize {
        self.lock().sets
    }

    fn lock(&self) -> MutexGuard<'_, Routes> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self) -> Result<MutexGuard<'_, Routes>, RouteStoreError> {
        let routes = self.lock();
        if routes.away { Err(RouteStoreError("away".to_owned())) } else { Ok(routes) }
    }
}

impl MemoryRoutes {
    /// A call on its way meets the weather around `effect`.
    async fn meet<T>(
        &self,
        call: &'static str,
        session: Option<SessionId>,
        effect: impl FnOnce(&mut Routes) -> T,
    ) -> Result<T, RouteStoreError> {
        let of = session.map(|session| session.to_string()).unwrap_or_default();
        let meeting = self.sky.go(call, &of).await;
        let lost = || RouteStoreError("lost, as the weather wants it".to_owned());
        let outcome = match meeting.lot {
            Lot::Fair => self.reach().map(|mut routes| effect(&mut routes)),
            Lot::After => self.reach().and_then(|mut routes| {
                effect(&mut routes);
                Err(lost())
            }),
            Lot::Before | Lot::Late(_) | Lot::Refused(_) | Lot::NotSent | Lot::Panic => Err(lost()),
        };
        pass(meeting.after).await;
        outcome
    }
}

#[async_trait]
impl RouteStore for MemoryRoutes {
    async fn get(&self, session: SessionId) -> Result<Option<String>, RouteStoreError> {
        self.meet("routes.get", Some(session), |routes| routes.routes.get(&session).cloned()).await
    }

    async fn set(&self, session: SessionId, url: &FlowUrl) -> Result<(), RouteStoreError> {
        let set = |routes: &mut Routes| {
            routes.sets += 1;
            routes.routes.insert(session, url.as_str().to_owned());
        };
        self.meet("routes.set", Some(session), set).await
    }

    async fn remove(&self, session: SessionId) -> Result<(), RouteStoreError> {
        self.meet("routes.remove", Some(session), |routes| _ = routes.routes.remove(&session)).await
    }

    async fn ping(&self) -> Result<(), RouteStoreError> {
        self.meet("routes.ping", None, |_| ()).await
    }
}

/// The farm's tables in memory; clones share them.
#[derive(Clone, Default)]
pub struct MemoryFarm {
    inner: Arc<Mutex<Farm>>,
}

#[derive(Default)]
struct Farm {
    strays: BTreeMap<FlowName, Stray>,
    replicas: BTreeSet<String>,
    worked: Vec<Worked>,
    away: bool,
}

impl MemoryFarm {
    /// Takes the database away, or brings it back.
    pub fn set_away(&self, away: bool) {
        self.lock().away = away;
    }

    /// Puts a stray of this age.
    pub fn put_stray(&self, name: FlowName, session: SessionId, base_url: Option<&str>, age: Duration) {
        let stray = Stray { name: name.clone(), session, base_url: base_url.map(str::to_owned), age };
        self.lock().strays.insert(name, stray);
    }

    /// The names of all strays.
    pub fn stray_names(&self) -> Vec<FlowName> {
        self.lock().strays.keys().cloned().collect()
    }

    /// The replicas seen, in order.
    pub fn replicas(&self) -> Vec<String> {
        self.lock().replicas.iter().cloned().collect()
    }

    /// All evidence reported so far.
    pub fn evidence(&self) -> Vec<Worked> {
        self.lock().worked.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Farm> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self) -> Result<MutexGuard<'_, Farm>, StoreError> {
        let farm = self.lock();
        if farm.away { Err(StoreError::Unavailable("away".to_owned())) } else { Ok(farm) }
    }
}

#[async_trait]
impl FarmStore for MemoryFarm {
    async fn saw_replica(&self, base: &str) -> Result<(), StoreError> {
        self.reach()?.replicas.insert(base.to_owned());
        Ok(())
    }

    async fn worked(&self, evidence: Vec<Worked>) -> Result<(), StoreError> {
        self.reach()?.worked.extend(evidence);
        Ok(())
    }

    async fn strays(&self, limit: u32) -> Result<Vec<Stray>, StoreError> {
        Ok(self.reach()?.strays.values().take(limit as usize).cloned().collect())
    }

    async fn stray_gone(&self, name: &FlowName) -> Result<(), StoreError> {
        self.reach()?.strays.remove(name);
        Ok(())
    }

    async fn known_replicas(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.reach()?.replicas.iter().cloned().collect())
    }

    async fn add_stray(
        &self,
        name: &FlowName,
        session: SessionId,
        base: Option<&str>,
    ) -> Result<(), StoreError> {
        drop(self.reach()?);
        self.put_stray(name.clone(), session, base, Duration::ZERO);
        Ok(())
    }
}
