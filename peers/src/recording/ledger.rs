//! The whole memory of a recording fflow: replicas, flows, calls, armed faults and the files on holder.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use bytes::Bytes;

use super::RecordingOptions;
use super::fault::{CallKind, Fault, FaultedCall, Faults};
use super::record::{Call, Entry, FlowState, RecordedFlow};

/// Names one recorded call, also after the list was cleared.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallId(usize);

/// One call on its way to a replica.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) kind: CallKind,
    pub(super) name: String,
    /// From 1; 0 when the balancer found every replica dead.
    pub(super) replica: usize,
}

pub(crate) struct Ledger {
    options: RecordingOptions,
    base_url: String,
    started: Instant,
    alive: Vec<bool>,
    turn: usize,
    pub(super) entries: Vec<Entry>,
    /// Which entry answers to a name on a replica now.
    pub(super) live: HashMap<(usize, String), usize>,
    calls: Vec<Call>,
    calls_forgotten: usize,
    faults: Faults,
    files: BTreeMap<String, Bytes>,
    holder_down: bool,
    ftp_down: bool,
}

impl Ledger {
    pub(super) fn new(options: RecordingOptions, base_url: String, started: Instant) -> Self {
        let alive = vec![true; options.replicas.max(1)];
        Self {
            options,
            base_url,
            started,
            alive,
            turn: 0,
            entries: Vec::new(),
            live: HashMap::new(),
            calls: Vec::new(),
            calls_forgotten: 0,
            faults: Faults::default(),
            files: BTreeMap::new(),
            holder_down: false,
            ftp_down: false,
        }
    }

    pub(super) fn options(&self) -> &RecordingOptions {
        &self.options
    }

    pub(super) fn options_mut(&mut self) -> &mut RecordingOptions {
        &mut self.options
    }

    pub(super) fn faults_mut(&mut self) -> &mut Faults {
        &mut self.faults
    }

    pub(super) fn files(&self) -> &BTreeMap<String, Bytes> {
        &self.files
    }

    pub(super) fn files_mut(&mut self) -> &mut BTreeMap<String, Bytes> {
        &mut self.files
    }

    pub(super) fn holder_down(&self) -> bool {
        self.holder_down
    }

    pub(super) fn set_holder_down(&mut self, down: bool) {
        self.holder_down = down;
    }

    pub(super) fn ftp_down(&self) -> bool {
        self.ftp_down
    }

    pub(super) fn set_ftp_down(&mut self, down: bool) {
        self.ftp_down = down;
    }

    /// The address of a replica behind its prefix, with the trailing slash.
    pub(super) fn replica_url(&self, replica: usize) -> String {
        format!("{}/r{replica}/", self.base_url)
    }

    pub(super) fn recorded_flows(&self) -> Vec<RecordedFlow> {
        self.entries.iter().map(Entry::recorded).collect()
    }

    pub(super) fn calls(&self) -> &[Call] {
        &self.calls
    }

    pub(super) fn clear_calls(&mut self) {
        self.calls_forgotten += self.calls.len();
        self.calls.clear();
    }

    pub(super) fn record_call(
        &mut self,
        target: &Target,
        length: u64,
        traceparent: Option<String>,
    ) -> CallId {
        self.calls.push(Call {
            at: self.started.elapsed(),
            kind: target.kind,
            name: target.name.clone(),
            replica: target.replica,
            length,
            traceparent,
            status: None,
        });
        CallId(self.calls_forgotten + self.calls.len() - 1)
    }

    pub(super) fn record_answer(&mut self, id: CallId, status: u16) {
        let index = id.0.checked_sub(self.calls_forgotten);
        if let Some(call) = index.and_then(|index| self.calls.get_mut(index)) {
            call.status = Some(status);
        }
    }

    /// The fault that an armed rule has for this call.
    pub(super) fn take_fault(&mut self, target: &Target) -> Option<Fault> {
        let received = self.live_entry(target).map_or(0, |entry| entry.flow.bytes);
        let Target { kind, name, replica } = target;
        self.faults.take(&FaultedCall { kind: *kind, name, replica: *replica, received })
    }

    /// The next living replica in turn, as a balancer picks it that passes over dead ones.
    pub(super) fn next_replica(&mut self) -> Option<usize> {
        let count = self.alive.len();
        let found = (0..count).map(|step| (self.turn + step) % count).find(|&index| self.alive[index])?;
        self.turn = (found + 1) % count;
        Some(found + 1)
    }

    pub(super) fn has_replica(&self, replica: usize) -> bool {
        (1..=self.alive.len()).contains(&replica)
    }

    pub(super) fn is_alive(&self, replica: usize) -> bool {
        replica.checked_sub(1).and_then(|index| self.alive.get(index)).copied().unwrap_or(false)
    }

    pub(super) fn set_replica(&mut self, replica: usize, alive: bool) {
        let Some(slot) = replica.checked_sub(1).and_then(|index| self.alive.get_mut(index)) else { return };
        *slot = alive;
        if alive {
            return;
        }
        self.live.retain(|(of, _), _| *of != replica);
        for entry in self.entries.iter_mut().filter(|entry| entry.flow.replica == replica) {
            if matches!(entry.flow.state, FlowState::Running | FlowState::FfmpegDead | FlowState::Finishing) {
                entry.flow.state = FlowState::Lost;
            }
        }
    }

    pub(super) fn kill_flow(&mut self, name: &str) -> bool {
        let mut killed = false;
        for entry in self.entries.iter_mut().filter(|entry| entry.flow.name == name) {
            if matches!(entry.flow.state, FlowState::Running | FlowState::Finishing) {
                entry.flow.state = FlowState::FfmpegDead;
                killed = true;
            }
        }
        killed
    }

    pub(super) fn live_entry(&mut self, target: &Target) -> Option<&mut Entry> {
        let index = *self.live.get(&(target.replica, target.name.clone()))?;
        self.entries.get_mut(index)
    }
}
