//! PostgreSQL in memory: sessions, replicas and strays behind the five stores, with scripted faults.

mod chunks;
mod cleaning;
mod farm;
mod feeds;
mod replicas;
mod row;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use row::Row;

use super::weather::{Changes, Lot, Sky, pass};
use crate::clock;
use crate::domain::feed::Evidence;
use crate::domain::ids::{FlowName, ReplicaId, SessionId, Timestamp, VideoId};
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
    /// `FeedStore::news`
    News,
    /// `FeedStore::row_locked`
    Row,
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
    /// Any of `FarmStore`
    Farm,
    /// Any of `CleaningStore`
    Clean,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Call::Look => "store.look",
            Call::Commit => "store.commit",
            Call::Claim => "store.claim",
            Call::News => "store.news",
            Call::Row => "store.row",
            Call::Runs => "store.runs",
            Call::Number => "store.number",
            Call::Record => "store.record",
            Call::Mark => "store.mark",
            Call::Complete => "store.complete",
            Call::Park => "store.park",
            Call::Release => "store.release",
            Call::Weigh => "store.weigh",
            Call::Tidy => "store.tidy",
            Call::Beat => "store.beat",
            Call::Leave => "store.leave",
            Call::ClaimSpool => "store.claim_spool",
            Call::Farm => "store.farm",
            Call::Clean => "store.clean",
        }
    }
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

/// A rule that the database no longer keeps, for tests of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Writes of feeds ask for no owner, epoch or generation.
    Unguarded,
    /// A claim leaves `settled` as it was.
    SettledStays,
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
    lie: Option<Lie>,
    evidence: Option<Evidence>,
    spool: Option<uuid::Uuid>,
    created: u64,
    /// Whether each replica takes chunks, and since when one of them does without a gap.
    consuming: BTreeMap<ReplicaId, bool>,
    consuming_since: Option<Timestamp>,
    /// What worked at each replica of fflow.
    farm: BTreeMap<String, farm::Seen>,
    stray_since: BTreeMap<FlowName, Timestamp>,
    /// Videos that were removed.
    videos_gone: BTreeSet<VideoId>,
}

/// Clones share the tables.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    tables: Arc<Mutex<Tables>>,
    changes: Arc<Changes>,
    sky: Sky,
}

impl MemoryStore {
    /// The same tables under another weather.
    #[must_use]
    pub fn under(&self, sky: Sky) -> Self {
        MemoryStore { sky, ..self.clone() }
    }

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

    /// From now on this rule is broken.
    pub fn tell_a_lie(&self, lie: Lie) {
        self.change(|tables| tables.lie = Some(lie));
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
        let wait = self.changes.until(|| self.with(&holds).then_some(()));
        tokio::time::timeout(deadline, wait).await.is_ok()
    }

    fn locked(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Tables) -> T) -> T {
        let result = change(&mut self.locked());
        self.changes.tell();
        result
    }

    /// Lets a call meet its fault around `effect`; one call at a time, like transactions that lock all they touch.
    async fn meet<T>(
        &self,
        call: Call,
        effect: impl FnOnce(&mut Tables) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let meeting = self.sky.go(call.name(), "").await;
        self.changes.until(|| self.with(|tables| (!tables.paused.contains(&call)).then_some(()))).await;
        let outcome = self.change(|tables| {
            tables.calls.push(call);
            match tables.fault(call).or(Fault::of(meeting.lot)) {
                Some(Fault::Before) => Err(away()),
                Some(Fault::Refused) => Err(StoreError::Refused("as scripted".to_owned())),
                Some(Fault::After) => effect(tables).and_then(|_| Err(away())),
                None => effect(tables),
            }
        });
        pass(meeting.after).await;
        outcome
    }
}

impl Fault {
    fn of(lot: Lot) -> Option<Self> {
        match lot {
            Lot::Fair => None,
            Lot::After => Some(Fault::After),
            Lot::Refused(_) => Some(Fault::Refused),
            Lot::Before | Lot::Late(_) | Lot::NotSent | Lot::Panic => Some(Fault::Before),
        }
    }
}

impl Tables {
    fn fault(&mut self, call: Call) -> Option<Fault> {
        let scripted = self.faults.iter().position(|(kind, _)| *kind == call);
        let fault = scripted.and_then(|at| self.faults.remove(at)).map(|(_, fault)| fault);
        fault.or(self.away.then_some(Fault::Before))
    }

    /// Writes down a process that nobody wants; an address, once known, stays known.
    fn stray(&mut self, name: FlowName, base: Option<String>) {
        self.stray_since.entry(name.clone()).or_insert_with(clock::now);
        let known = self.strays.entry(name).or_default();
        *known = base.or(known.take());
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
