//! fflow in memory: takes bytes, ships to a holder in memory, and fails as scripted.

mod farm;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use self::farm::{Farm, Late, refusal};
use super::memory_holder::MemoryHolder;
use super::weather::{Lot, Sky, pass};
use crate::clock;
use crate::domain::ids::FlowName;
use crate::domain::route::FlowUrl;
use crate::gateways::fflow::{Fflow, FflowError};

/// The origin under which the replicas `/r1`, `/r2` .. live.
pub const ORIGIN: &str = "http://fflow.test:4050";

/// The kinds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    /// Starts a process.
    Create,
    /// Gives it a block.
    Push,
    /// Ends its input and ships.
    Finish,
    /// Ends it.
    Delete,
}

/// What happens to a call instead of success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It never leaves.
    NotSent,
    /// No effect, this status.
    Status(u16),
    /// No effect, no answer.
    LostBefore,
    /// The effect, no answer.
    LostAfter,
    /// The effect; a create answers with this address.
    Address(String),
    /// No effect and never an answer: the caller's own deadline must end it.
    Hang,
}

/// One ffmpeg process as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryFlow {
    /// The replica it runs at, from 1.
    pub replica: usize,
    /// Everything that was pushed.
    pub bytes: Vec<u8>,
    /// How many pushes that took.
    pub pushes: usize,
    /// The saving path of its finish.
    pub finished: Option<String>,
    /// Whether it was deleted.
    pub deleted: bool,
    /// Whether its ffmpeg has died: what is pushed is taken and lost, and its finish ships nothing.
    pub dead: bool,
}

impl MemoryFlow {
    /// Whether it can be pushed to.
    pub fn is_live(&self) -> bool {
        self.finished.is_none() && !self.deleted
    }
}

/// The farm; clones share it. Creates go round its replicas.
#[derive(Clone)]
pub struct MemoryFflow {
    inner: Arc<Mutex<Farm>>,
    sky: Sky,
}

impl MemoryFflow {
    /// A farm of `replicas` (at least 1) that ships to `holder`.
    pub fn new(replicas: usize, holder: MemoryHolder) -> Self {
        let farm = Farm {
            replicas: replicas.max(1),
            created: 0,
            flows: BTreeMap::new(),
            fates: BTreeMap::new(),
            always: BTreeMap::new(),
            calls: Vec::new(),
            address: None,
            holder,
            begun: BTreeMap::new(),
            late: Vec::new(),
        };
        MemoryFflow { inner: Arc::new(Mutex::new(farm)), sky: Sky::default() }
    }

    /// The same farm under another weather.
    #[must_use]
    pub fn under(&self, sky: Sky) -> Self {
        MemoryFflow { sky, ..self.clone() }
    }

    /// What has arrived late by now takes its effect.
    pub fn settle(&self) {
        self.lock().arrive();
    }

    /// All processes there are or were, by name.
    pub fn flows(&self) -> Vec<(String, MemoryFlow)> {
        self.lock().flows.iter().map(|((_, name), flow)| (name.clone(), flow.clone())).collect()
    }

    /// How often a process of each name was begun.
    pub fn begun(&self) -> BTreeMap<String, usize> {
        self.lock().begun.clone()
    }

    /// The ffmpeg of this process dies, and fflow does not notice.
    pub fn kill_ffmpeg(&self, name: &str) {
        let mut farm = self.lock();
        farm.flows.iter_mut().filter(|((_, known), _)| known == name).for_each(|(_, flow)| flow.dead = true);
    }

    /// The address of a replica.
    pub fn replica(number: usize) -> String {
        format!("{ORIGIN}/r{number}")
    }

    /// The next call of this kind that has no fate yet meets this one.
    pub fn script(&self, call: Call, fate: Fate) {
        self.lock().fates.entry(call).or_default().push_back(fate);
    }

    /// Every call of this kind meets this fate, after those scripted; `None` ends it.
    pub fn always(&self, call: Call, fate: Option<Fate>) {
        let mut farm = self.lock();
        match fate {
            Some(fate) => farm.always.insert(call, fate),
            None => farm.always.remove(&call),
        };
    }

    /// The process of this name, wherever it runs or ran.
    pub fn flow(&self, name: &str) -> Option<MemoryFlow> {
        self.lock().flows.iter().find(|((_, known), _)| known == name).map(|(_, flow)| flow.clone())
    }

    /// A replica forgets its processes.
    pub fn kill_replica(&self, number: usize) {
        self.lock().flows.retain(|(replica, _), _| *replica != number);
    }

    /// All calls in order, with the flow's name.
    pub fn calls(&self) -> Vec<(Call, String)> {
        self.lock().calls.clone()
    }

    /// How many calls of a kind there were.
    pub fn count(&self, call: Call) -> usize {
        self.lock().calls.iter().filter(|(kind, _)| *kind == call).count()
    }

    fn lock(&self) -> MutexGuard<'_, Farm> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the call and lets it meet its fate, or else the weather, around `effect`.
    async fn meet<T>(
        &self,
        call: Call,
        name: &str,
        late: impl FnOnce() -> Late,
        effect: impl FnOnce(&mut Farm) -> Result<T, FflowError>,
    ) -> Result<T, FflowError> {
        let meeting = self.sky.go(call.name(), name).await;
        let fate = self.lock().begin(call, name);
        let outcome = match fate.or(Fate::of(meeting.lot)) {
            None => effect(&mut self.lock()),
            Some(Fate::Address(address)) => {
                let mut farm = self.lock();
                farm.address = Some(address);
                effect(&mut farm)
            }
            Some(Fate::NotSent) => Err(FflowError::NotSent("connection refused".to_owned())),
            Some(Fate::Status(status)) => Err(refusal(status)),
            Some(Fate::LostBefore) => Err(FflowError::Unknown("reset".to_owned())),
            Some(Fate::LostAfter) => {
                effect(&mut self.lock()).and_then(|_| Err(FflowError::Unknown("reset".to_owned())))
            }
            Some(Fate::Hang) => std::future::pending().await,
        };
        if let Lot::Late(span) = meeting.lot {
            self.lock().late.push((clock::now().after(span), late()));
        }
        pass(meeting.after).await;
        outcome
    }
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Call::Create => "fflow.create",
            Call::Push => "fflow.push",
            Call::Finish => "fflow.finish",
            Call::Delete => "fflow.delete",
        }
    }
}

impl Fate {
    fn of(lot: Lot) -> Option<Self> {
        match lot {
            Lot::Fair => None,
            Lot::Before | Lot::Late(_) | Lot::Panic => Some(Fate::LostBefore),
            Lot::After => Some(Fate::LostAfter),
            Lot::Refused(status) => Some(Fate::Status(status)),
            Lot::NotSent => Some(Fate::NotSent),
        }
    }
}

fn last_segment(url: &FlowUrl) -> &str {
    url.as_str().rsplit('/').next().unwrap_or_default()
}

#[async_trait(?Send)]
impl Fflow for MemoryFflow {
    async fn create(&self, name: &FlowName) -> Result<String, FflowError> {
        let late = || Late::Create(name.as_str().to_owned());
        self.meet(Call::Create, name.as_str(), late, |farm| farm.create(name.as_str())).await
    }

    async fn push(&self, flow: &FlowUrl, block: Bytes) -> Result<(), FflowError> {
        let late = || Late::Push(flow.clone(), block.clone());
        self.meet(Call::Push, last_segment(flow), late, |farm| farm.push(flow, &block)).await
    }

    async fn finish(&self, flow: &FlowUrl, saving_path: &str) -> Result<(), FflowError> {
        let late = || Late::Finish(flow.clone(), saving_path.to_owned());
        self.meet(Call::Finish, last_segment(flow), late, |farm| farm.finish(flow, saving_path)).await
    }

    async fn delete(&self, flow: &FlowUrl) -> Result<(), FflowError> {
        let late = || Late::Delete(flow.clone());
        self.meet(Call::Delete, last_segment(flow), late, |farm| farm.delete(flow)).await
    }
}
