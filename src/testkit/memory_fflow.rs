//! fflow in memory: takes bytes, ships to a holder in memory, and fails as scripted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::memory_holder::MemoryHolder;
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
}

impl MemoryFlow {
    fn is_live(&self) -> bool {
        self.finished.is_none() && !self.deleted
    }
}

/// The farm; clones share it. Creates go round its replicas.
#[derive(Clone)]
pub struct MemoryFflow {
    inner: Arc<Mutex<Farm>>,
}

struct Farm {
    replicas: usize,
    created: usize,
    flows: BTreeMap<(usize, String), MemoryFlow>,
    fates: BTreeMap<Call, VecDeque<Fate>>,
    always: BTreeMap<Call, Fate>,
    calls: Vec<(Call, String)>,
    /// What the create under way is to answer.
    address: Option<String>,
    holder: MemoryHolder,
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
        };
        MemoryFflow { inner: Arc::new(Mutex::new(farm)) }
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

    /// Records the call and lets it meet its fate around `effect`.
    async fn meet<T>(
        &self,
        call: Call,
        name: &str,
        effect: impl FnOnce(&mut Farm) -> Result<T, FflowError>,
    ) -> Result<T, FflowError> {
        let fate = self.lock().begin(call, name);
        match fate {
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
                effect(&mut self.lock())?;
                Err(FflowError::Unknown("reset".to_owned()))
            }
            Some(Fate::Hang) => std::future::pending().await,
        }
    }
}

impl Farm {
    fn begin(&mut self, call: Call, name: &str) -> Option<Fate> {
        self.calls.push((call, name.to_owned()));
        let scripted = self.fates.get_mut(&call).and_then(VecDeque::pop_front);
        scripted.or_else(|| self.always.get(&call).cloned())
    }

    fn create(&mut self, name: &str) -> Result<String, FflowError> {
        let replica = self.created % self.replicas + 1;
        self.created += 1;
        let place = (replica, name.to_owned());
        if self.flows.contains_key(&place) {
            return Err(refusal(500));
        }
        self.flows.insert(place, MemoryFlow { replica, ..MemoryFlow::default() });
        Ok(self.address.take().unwrap_or_else(|| format!("{}/{name}", MemoryFflow::replica(replica))))
    }

    fn live(&mut self, url: &FlowUrl) -> Result<&mut MemoryFlow, FflowError> {
        let found = self.flows.iter_mut().find(|((replica, name), flow)| {
            flow.is_live() && url.as_str() == format!("{}/{name}", MemoryFflow::replica(*replica))
        });
        found.map(|(_, flow)| flow).ok_or_else(|| refusal(404))
    }

    fn finish(&mut self, url: &FlowUrl, saving_path: &str) -> Result<(), FflowError> {
        let flow = self.live(url)?;
        flow.finished = Some(saving_path.to_owned());
        let fingerprint = flow.bytes.len() as u64;
        self.holder.ship(saving_path, fingerprint);
        Ok(())
    }
}

fn refusal(status: u16) -> FflowError {
    FflowError::Status { status, message: "as scripted".to_owned() }
}

fn last_segment(url: &FlowUrl) -> &str {
    url.as_str().rsplit('/').next().unwrap_or_default()
}

#[async_trait(?Send)]
impl Fflow for MemoryFflow {
    async fn create(&self, name: &FlowName) -> Result<String, FflowError> {
        self.meet(Call::Create, name.as_str(), |farm| farm.create(name.as_str())).await
    }

    async fn push(&self, flow: &FlowUrl, block: Bytes) -> Result<(), FflowError> {
        self.meet(Call::Push, last_segment(flow), |farm| {
            let flow = farm.live(flow)?;
            flow.bytes.extend_from_slice(&block);
            flow.pushes += 1;
            Ok(())
        })
        .await
    }

    async fn finish(&self, flow: &FlowUrl, saving_path: &str) -> Result<(), FflowError> {
        self.meet(Call::Finish, last_segment(flow), |farm| farm.finish(flow, saving_path)).await
    }

    async fn delete(&self, flow: &FlowUrl) -> Result<(), FflowError> {
        self.meet(Call::Delete, last_segment(flow), |farm| {
            farm.live(flow)?.deleted = true;
            Ok(())
        })
        .await
    }
}
