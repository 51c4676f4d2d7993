//! The farm's store in memory.

use async_trait::async_trait;

use super::{Call, MemoryStore, Tables};
use crate::clock;
use crate::domain::feed::Work;
use crate::domain::ids::{FlowName, SessionId, Timestamp};
use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::farm::{FarmStore, Stray, Worked};

/// When a replica of fflow last worked, and for whom.
#[derive(Debug, Default)]
pub(super) struct Seen {
    push: Option<(Timestamp, SessionId)>,
    finish: Option<(Timestamp, SessionId)>,
}

impl Tables {
    /// Whether another session's step of this kind succeeded since this one's generation was numbered.
    pub(super) fn worked_since_numbered(&self, session: SessionId, work: Work) -> bool {
        let Some(since) = self.sessions.get(&session).and_then(|row| row.generation_at) else {
            return false;
        };
        let newest = |seen: &Seen| match work {
            Work::Push => seen.push,
            Work::Finish => seen.finish,
        };
        self.farm.values().filter_map(newest).any(|(at, other)| at > since && other != session)
    }

    fn note(&mut self, worked: &Worked) {
        let (now, seen) = (clock::now(), self.farm.entry(worked.base.clone()).or_default());
        seen.push = worked.push.map(|session| (now, session)).or(seen.push);
        seen.finish = worked.finish.map(|session| (now, session)).or(seen.finish);
    }
}

/// Whose process this is; a name begins with its session's id.
impl MemoryStore {
    /// These replicas of fflow have answered before, long ago.
    pub fn know_farm(&self, bases: impl IntoIterator<Item = String>) {
        let seen = bases.into_iter().map(|base| (base, Seen::default()));
        self.change(|tables| tables.farm.extend(seen));
    }
}

fn owner(name: &FlowName) -> SessionId {
    let id = name.as_str().split('~').next().and_then(|id| id.parse().ok());
    SessionId(id.unwrap_or_default())
}

#[async_trait]
impl FarmStore for MemoryStore {
    async fn saw_replica(&self, base: &str) -> Result<(), StoreError> {
        self.meet(Call::Farm, |tables| {
            tables.farm.entry(base.to_owned()).or_default();
            Ok(())
        })
        .await
    }

    async fn worked(&self, evidence: Vec<Worked>) -> Result<(), StoreError> {
        self.meet(Call::Farm, |tables| {
            evidence.iter().for_each(|worked| tables.note(worked));
            Ok(())
        })
        .await
    }

    async fn strays(&self, limit: u32) -> Result<Vec<Stray>, StoreError> {
        self.meet(Call::Farm, |tables| {
            let age = |name: &FlowName| {
                tables.stray_since.get(name).map(|at| at.until(clock::now())).unwrap_or_default()
            };
            let strays = tables.strays.iter().take(limit as usize).map(|(name, base)| Stray {
                name: name.clone(),
                session: owner(name),
                base_url: base.clone(),
                age: age(name),
            });
            Ok(strays.collect())
        })
        .await
    }

    async fn stray_gone(&self, name: &FlowName) -> Result<(), StoreError> {
        self.meet(Call::Farm, |tables| {
            tables.strays.remove(name);
            tables.stray_since.remove(name);
            Ok(())
        })
        .await
    }

    async fn known_replicas(&self) -> Result<Vec<String>, StoreError> {
        self.meet(Call::Farm, |tables| Ok(tables.farm.keys().cloned().collect())).await
    }

    async fn add_stray(&self, name: &FlowName, _: SessionId, base: Option<&str>) -> Result<(), StoreError> {
        self.meet(Call::Farm, |tables| {
            tables.stray(name.clone(), base.map(str::to_owned));
            Ok(())
        })
        .await
    }
}
