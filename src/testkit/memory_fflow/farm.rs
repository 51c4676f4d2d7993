//! The processes of the farm, and what each request does to them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{Call, Fate, MemoryFflow, MemoryFlow};
use crate::clock;
use crate::domain::ids::Timestamp;
use crate::domain::route::FlowUrl;
use crate::gateways::fflow::FflowError;
use crate::testkit::memory_holder::MemoryHolder;

pub(super) struct Farm {
    pub(super) replicas: usize,
    pub(super) created: usize,
    pub(super) flows: BTreeMap<(usize, String), MemoryFlow>,
    pub(super) fates: BTreeMap<Call, VecDeque<Fate>>,
    pub(super) always: BTreeMap<Call, Fate>,
    pub(super) calls: Vec<(Call, String)>,
    /// What the create under way is to answer.
    pub(super) address: Option<String>,
    pub(super) holder: MemoryHolder,
    /// How often a process of each name was begun.
    pub(super) begun: BTreeMap<String, usize>,
    /// Requests that arrive later, and when.
    pub(super) late: Vec<(Timestamp, Late)>,
}

/// A request whose sender has given it up.
pub(super) enum Late {
    Create(String),
    Push(FlowUrl, Bytes),
    Finish(FlowUrl, String),
    Delete(FlowUrl),
}

impl Farm {
    pub(super) fn begin(&mut self, call: Call, name: &str) -> Option<Fate> {
        self.arrive();
        self.calls.push((call, name.to_owned()));
        let scripted = self.fates.get_mut(&call).and_then(VecDeque::pop_front);
        scripted.or_else(|| self.always.get(&call).cloned())
    }

    pub(super) fn create(&mut self, name: &str) -> Result<String, FflowError> {
        let replica = self.created % self.replicas + 1;
        self.created += 1;
        let place = (replica, name.to_owned());
        if self.flows.contains_key(&place) {
            return Err(refusal(500));
        }
        self.flows.insert(place, MemoryFlow { replica, ..MemoryFlow::default() });
        *self.begun.entry(name.to_owned()).or_default() += 1;
        Ok(self.address.take().unwrap_or_else(|| format!("{}/{name}", MemoryFflow::replica(replica))))
    }

    fn live(&mut self, url: &FlowUrl) -> Result<&mut MemoryFlow, FflowError> {
        let found = self.flows.iter_mut().find(|((replica, name), flow)| {
            flow.is_live() && url.as_str() == format!("{}/{name}", MemoryFflow::replica(*replica))
        });
        found.map(|(_, flow)| flow).ok_or_else(|| refusal(404))
    }

    pub(super) fn arrive(&mut self) {
        let now = clock::now();
        let (due, later) = std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= now);
        self.late = later;
        for (_, request) in due {
            // Nobody is there to hear how it ends.
            let _ = match request {
                Late::Create(name) => self.create(&name).map(|_| ()),
                Late::Push(url, block) => self.push(&url, &block),
                Late::Finish(url, path) => self.finish(&url, &path),
                Late::Delete(url) => self.delete(&url),
            };
        }
    }

    pub(super) fn push(&mut self, url: &FlowUrl, block: &[u8]) -> Result<(), FflowError> {
        let flow = self.live(url)?;
        if !flow.dead {
            flow.bytes.extend_from_slice(block);
            flow.pushes += 1;
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, url: &FlowUrl) -> Result<(), FflowError> {
        self.live(url)?.deleted = true;
        Ok(())
    }

    pub(super) fn finish(&mut self, url: &FlowUrl, saving_path: &str) -> Result<(), FflowError> {
        let flow = self.live(url)?;
        if flow.dead {
            flow.deleted = true;
            return Err(FflowError::Unknown("never answered".to_owned()));
        }
        flow.finished = Some(saving_path.to_owned());
        let fingerprint = flow.bytes.len() as u64;
        self.holder.ship(saving_path, fingerprint);
        Ok(())
    }
}

pub(super) fn refusal(status: u16) -> FflowError {
    FflowError::Status { status, message: "as scripted".to_owned() }
}
