//! What a feed is decided by: its settings, and what its claim read.

use std::time::Duration;

use crate::domain::ids::{Epoch, FlowId, Generation, SessionId, VideoId};
use crate::domain::retry::Backoff;

/// The settings a feed is decided by.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Bytes stored before a process is opened, unless the session is sealed.
    pub start_bytes: i64,
    /// Largest block in bytes.
    pub push_block: i64,
    /// How long to wait for a fuller block at most, see [`Rules::linger`].
    pub push_linger: Duration,
    /// Bytes per second to one process.
    pub push_rate: u64,
    /// Silence after which a feed is released.
    pub idle: Duration,
    /// Waits after failures.
    pub backoff: Backoff,
    /// Strikes that fail a session.
    pub max_strikes: i32,
    /// Waits after the first, second .. strike; the last one repeats.
    pub strike_waits: Vec<Duration>,
    /// How long the failures of a lone session must span before it fails.
    pub strike_span: Duration,
    /// Whether finished files can be looked at.
    pub holder: bool,
    /// Pause between two looks.
    pub holder_poll: Duration,
    /// Fixed part of the finish deadline.
    pub finish_base: Duration,
    /// Part of the finish deadline by size, bytes per second.
    pub finish_rate: u64,
    /// The wait for a finish that may never have been sent, or after a delete.
    pub finish_grace: Duration,
}

impl Rules {
    /// How long this session's feed waits for a fuller block: half of `push_linger` at least, each a bit longer or shorter
    /// than others. Feeds whose bytes were committed together would push together otherwise, each with its block in memory.
    pub fn linger(&self, session: SessionId) -> Duration {
        const PARTS: u32 = 1 << 16;
        let part = session.0.as_u128() as u32 % PARTS;
        let half = self.push_linger / 2;
        half + half * part / PARTS
    }
}

/// What a claim read, under its lock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Whose bytes.
    pub session: SessionId,
    /// The row they fill.
    pub flow: FlowId,
    /// The video of that row.
    pub video: VideoId,
    /// Bytes of the file.
    pub total: i64,
    /// Bytes stored.
    pub committed: i64,
    /// All of them are.
    pub sealed: bool,
    /// The fencing number of this ownership.
    pub epoch: Epoch,
    /// The newest generation, 0 for none.
    pub generation: Generation,
    /// Its address as stored, unchecked.
    pub flow_url: Option<String>,
    /// Bytes it got, if `settled`.
    pub fed: i64,
    /// The former owner handed it over with nothing in doubt.
    pub settled: bool,
    /// The most bytes any generation got, as far as failures recorded it.
    pub farthest: i64,
    /// Strikes so far.
    pub strikes: i32,
    /// How long ago a finish was written down, if one was.
    pub finish_sent: Option<Duration>,
    /// How long ago the first failure without progress was, if there was one.
    pub failing: Option<Duration>,
    /// The former owner's heartbeat ended; it did not release.
    pub owner_died: bool,
}
