//! What a flow got so far, for `GET <flow>` and for tests.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// Where a flow stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Running,
    Finishing,
    Shipping,
    Finished,
    Failed,
    Deleted,
}

/// The bytes that ffmpeg took, and what became of them.
pub(super) struct Progress {
    pub(super) state: State,
    received: u64,
    hasher: Sha256,
}

/// The body of `GET <flow>`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) name: String,
    received_bytes: u64,
    sha256: String,
    state: State,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { state: State::Running, received: 0, hasher: Sha256::new() }
    }

    /// ffmpeg has taken these bytes.
    pub(super) fn took(&mut self, bytes: &[u8]) {
        self.received += bytes.len() as u64;
        self.hasher.update(bytes);
    }

    pub(super) fn report(&self, name: &str) -> Report {
        let digest = self.hasher.clone().finalize();
        Report {
            name: name.to_owned(),
            received_bytes: self.received,
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            state: self.state,
        }
    }
}
