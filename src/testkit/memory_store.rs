//! PostgreSQL in memory: sessions, replicas and strays behind the three stores, with scripted faults.

mod chunks;
mod feeds;
mod replicas;
mod row;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

pub use row::Row;

use crate::clock;
use crate::domain::feed::Evidence;
use crate::domain::ids::{FlowName, ReplicaId, SessionId, Timestamp};
use crate::domain::session::SharedRows;
use crate::gateways::upload_store::StoreError;

/// The calls that the stores take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// `ChunkStore::look`
    Look,
    /// `ChunkStore::commit`
    Commit,
    /// `FeedStore::claim`
    Claim,
    /// `FeedStore::rows` and `row_locked`
    Rows,
    /// `FeedStore::runs`
    Runs,
    /// `FeedStore::number`
    Number,
    /// `FeedStore::record`
    Record,
    /// `FeedStore::mark_finish`
    Mark,
    /// `FeedStore::complete`
    Complete,
    /// `FeedStore::park`
    Park,
    /// `FeedStore::release`
    Release,
    /// `FeedStore::weigh`
    Weigh,
    /// `FeedStore::add_stray`, `drop_runs`, `set_cleaned` and `drop_idle_flows`
    Tidy,
    /// `ReplicaStore::beat`
    Beat,
    /// `ReplicaStore::leave`
    Leave,
    /// `ReplicaStore::claim_spool`
    ClaimSpool,
}

/// What a call comes to instead of success: `Unavailable`, unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was done.
    Before,
    /// It was done, and nobody heard of it.
    After,
    /// It is `Refused`.
    Refused,
}

/// Everything that is stored.
#[derive(Debug, Default)]
pub struct Tables {
    /// Sessions by id.
    pub sessions: BTreeMap<SessionId, Row>,
    /// Until when each replica's lease lasts.
    pub leases: BTreeMap<ReplicaId, Timestamp>,
    /// Processes that nobody wants, with their replica's base if it is known.
    pub strays: BTreeMap<FlowName, Option<String>>,
    /// All calls that were answered, in order.
    pub calls: Vec<Call>,
    faults: VecDeque<(Call, Fault)>,
    refused: BTreeSet<SessionId>,
    paused: BTreeSet<Call>,
    away: bool,
    evidence: Option<Evidence>,
    spool: Option<uuid::Uuid>,
    created: u64,
}

/// Clones share the tables.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    tables: Arc<Mutex<Tables>>,
    changes: Arc<watch::Sender<u64>>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        MemoryStore { tables: Arc::default(), changes: Arc::new(watch::Sender::new(0)) }
    }
}

impl MemoryStore {
    /// A session as gateway makes it: shared rows only, no byte stored.
    pub fn put(&self, session: SessionId, shared: SharedRows) {
        self.change(|tables| {
            tables.created += 1;
            tables.sessions.insert(session, Row::new(shared, tables.created));
        });
    }

    /// Changes a session's row past every guard, as another replica or a person could.
    pub fn alter(&self, session: SessionId, alter: impl FnOnce(&mut Row)) {
        self.change(|tables| tables.sessions.get_mut(&session).map(alter));
    }

    /// Removes a session with all its rows.
    pub fn remove(&self, session: SessionId) {
        self.change(|tables| tables.sessions.remove(&session));
    }

    /// A replica's lease lasts for `span` from now on.
    pub fn lease(&self, replica: ReplicaId, span: Duration) {
        self.change(|tables| tables.leases.insert(replica, clock::now().after(span)));
    }

    /// The next call of this kind that has no fault yet meets this one.
    pub fn script(&self, call: Call, fault: Fault) {
        self.change(|tables| tables.faults.push_back((call, fault)));
    }

    /// Takes the database away, or brings it back.
    pub fn set_away(&self, away: bool) {
        self.change(|tables| tables.away = away);
    }

    /// From now on batches with this session are refused.
    pub fn refuse(&self, session: SessionId) {
        self.change(|tables| tables.refused.insert(session));
    }

    /// Calls of this kind wait until they are let go on.
    pub fn pause(&self, call: Call, paused: bool) {
        self.change(|tables| if paused { tables.paused.insert(call) } else { tables.paused.remove(&call) });
    }

    /// What weighing shows from now on.
    pub fn set_evidence(&self, evidence: Evidence) {
        self.change(|tables| tables.evidence = Some(evidence));
    }

    /// A copy of a session's row.
    pub fn row(&self, session: SessionId) -> Option<Row> {
        self.with(|tables| tables.sessions.get(&session).cloned())
    }

    /// How many calls of a kind were answered.
    pub fn count(&self, call: Call) -> usize {
        self.with(|tables| tables.calls.iter().filter(|known| **known == call).count())
    }

    /// Reads anything.
    pub fn with<T>(&self, read: impl FnOnce(&Tables) -> T) -> T {
        read(&self.locked())
    }

    /// Waits until the tables look like this; `false` if they do not within `deadline`.
    pub async fn until(&self, deadline: Duration, holds: impl Fn(&Tables) -> bool) -> bool {
        let mut changes = self.changes.subscribe();
        let wait = async {
            while !self.with(&holds) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(deadline, wait).await.is_ok()
    }

    fn locked(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Tables) -> T) -> T {
        let result = change(&mut self.locked());
        self.changes.send_modify(|version| *version += 1);
        result
    }

    /// Lets a call meet its fault around `effect`; one call at a time, like transactions that lock all they touch.
    async fn meet<T>(
        &self,
        call: Call,
        effect: impl FnOnce(&mut Tables) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.unpaused(call).await;
        self.change(|tables| {
            tables.calls.push(call);
            match tables.fault(call) {
                Some(Fault::Before) => Err(away()),
                Some(Fault::Refused) => Err(StoreError::Refused("as scripted".to_owned())),
                Some(Fault::After) => effect(tables).and_then(|_| Err(away())),
                None => effect(tables),
            }
        })
    }

    async fn unpaused(&self, call: Call) {
        let mut changes = self.changes.subscribe();
        while self.with(|tables| tables.paused.contains(&call)) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Tables {
    fn fault(&mut self, call: Call) -> Option<Fault> {
        let scripted = self.faults.iter().position(|(kind, _)| *kind == call);
        let fault = scripted.and_then(|at| self.faults.remove(at)).map(|(_, fault)| fault);
        fault.or(self.away.then_some(Fault::Before))
    }

    /// Whether a replica's heartbeat is fresh.
    pub fn lives(&self, replica: ReplicaId) -> bool {
        self.leases.get(&replica).is_some_and(|until| *until > clock::now())
    }

    fn reserved(&self) -> i64 {
        let reserving = self.sessions.values().filter(|row| row.reserves());
        reserving.map(|row| row.total_bytes).sum()
    }
}

fn away() -> StoreError {
    StoreError::Unavailable("away, as scripted".to_owned())
}
