//! What a recording fflow remembers: flows with their bytes, and calls.

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::fault::CallKind;

/// Where a recorded flow stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowState {
    /// Created; takes bytes.
    Running,
    /// Its ffmpeg was killed; the replica has not noticed.
    FfmpegDead,
    /// A finish is at work on it.
    Finishing,
    /// Finished; whatever it ships is on holder.
    Finished,
    /// Deleted by a DELETE.
    Deleted,
    /// Its replica died.
    Lost,
}

/// One call to fflow, as it arrived.
#[derive(Debug, Clone)]
pub struct Call {
    /// Time since the server's start.
    pub at: Duration,
    /// What was asked.
    pub kind: CallKind,
    /// The flow's name.
    pub name: String,
    /// The replica that it reached, from 1; 0 when every replica was dead.
    pub replica: usize,
    /// Length of the body in bytes.
    pub length: u64,
    /// Its header `traceparent`.
    pub traceparent: Option<String>,
    /// The answer's status; `None` while, or if ever, there is no answer.
    pub status: Option<u16>,
}

/// One flow: one ffmpeg process that would have run.
#[derive(Debug, Clone)]
pub struct RecordedFlow {
    /// The name it was created with.
    pub name: String,
    /// The replica it is on, from 1.
    pub replica: usize,
    /// Where it stands.
    pub state: FlowState,
    /// How many bytes ffmpeg would have got.
    pub bytes: u64,
    /// SHA-256 of these bytes, lower-case hex.
    pub sha256: String,
    /// The bytes themselves, unless there were more than `keep_bytes`.
    pub body: Option<Bytes>,
    /// Pushes that took effect.
    pub pushes: usize,
    /// Two pushes were in flight at once at some time.
    pub concurrent_pushes_seen: bool,
    /// Finish requests that reached it, answered or not.
    pub finish_calls: usize,
    /// The flow is finished (with or without files).
    pub finished: bool,
    /// The `savingPath` of its newest finish request.
    pub saving_path: Option<String>,
    /// DELETE requests that reached it, answered or not.
    pub delete_calls: usize,
    /// A DELETE took effect.
    pub deleted: bool,
}

/// A flow while it is written to.
pub(super) struct Entry {
    pub(super) flow: RecordedFlow,
    pub(super) pushes_in_flight: usize,
    hasher: Sha256,
    kept: Vec<u8>,
}

impl Entry {
    pub(super) fn new(name: &str, replica: usize) -> Self {
        let flow = RecordedFlow {
            name: name.to_owned(),
            replica,
            state: FlowState::Running,
            bytes: 0,
            sha256: String::new(),
            body: None,
            pushes: 0,
            concurrent_pushes_seen: false,
            finish_calls: 0,
            finished: false,
            saving_path: None,
            delete_calls: 0,
            deleted: false,
        };
        Self { flow, pushes_in_flight: 0, hasher: Sha256::new(), kept: Vec::new() }
    }

    /// ffmpeg gets these bytes; the first `keep` of a flow are kept whole.
    pub(super) fn append(&mut self, bytes: &[u8], keep: usize) {
        self.flow.bytes += bytes.len() as u64;
        self.flow.pushes += 1;
        self.hasher.update(bytes);
        let room = keep.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
    }

    /// The record with digest and body filled in.
    pub(super) fn recorded(&self) -> RecordedFlow {
        let digest = self.hasher.clone().finalize();
        RecordedFlow {
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            body: (self.kept.len() as u64 == self.flow.bytes).then(|| Bytes::copy_from_slice(&self.kept)),
            ..self.flow.clone()
        }
    }
}
