//! The sections of the two roads that bytes take: into the spool, and from there to ffmpeg.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::units;

/// Limits and waits of the chunk road.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct ChunkConfig {
    /// Largest chunk.
    #[serde(with = "units::size")]
    pub max_bytes: u64,
    /// How long a chunk is kept while something it needs is away.
    #[serde(with = "units::duration")]
    pub deadline: Duration,
    /// How long an early chunk waits for its predecessor.
    #[serde(with = "units::duration")]
    pub reorder_wait: Duration,
    /// Pause between two looks for predecessors stored elsewhere.
    #[serde(with = "units::duration")]
    pub reorder_poll: Duration,
    /// Early chunks of one session that may wait.
    pub reorder_per_session: usize,
    /// How far ahead an early chunk may begin, in largest chunks.
    pub reorder_window_chunks: u64,
}

/// What all sessions together may reserve in the spool.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SpoolLimit {
    /// So many bytes.
    Bytes(u64),
    /// This share of the volume's size, above 0.0 up to 1.0.
    VolumeShare(f64),
}

/// The stored bytes.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct SpoolConfig {
    /// Its folder, the same one for all replicas.
    pub dir: PathBuf,
    /// What all sessions together may reserve.
    #[serde(with = "units::spool_limit")]
    pub max_bytes: SpoolLimit,
    /// Bytes of a segment of the journal, in which small chunks are made durable together; 0 for none.
    #[serde(with = "units::size")]
    pub journal_bytes: u64,
    /// How long short or damaged reads are tried again.
    #[serde(with = "units::duration")]
    pub read_retry: Duration,
}

/// The feed road.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct FeedConfig {
    /// Sessions fed by one replica at once.
    pub max_feeds: usize,
    /// Bytes stored before an ffmpeg process is started.
    #[serde(with = "units::size")]
    pub start_bytes: u64,
    /// Largest block pushed at once.
    #[serde(with = "units::size")]
    pub push_block: u64,
    /// How long a feed waits for a fuller block.
    #[serde(with = "units::duration")]
    pub push_linger: Duration,
    /// Bytes per second pushed to one ffmpeg process.
    #[serde(with = "units::size")]
    pub push_rate: u64,
    /// Sessions fed again from byte 0 at once.
    pub replays: usize,
    /// Strikes that end a session.
    pub max_strikes: u32,
    /// Time that a lone session's failures must span before it is given up.
    #[serde(with = "units::duration")]
    pub strike_span: Duration,
    /// Pauses after the first, second .. strike; the last one repeats; at least one.
    #[serde(with = "units::durations")]
    pub strike_waits: Vec<Duration>,
    /// Silence after which a feed is released.
    #[serde(with = "units::duration")]
    pub idle: Duration,
    /// Silence after which an open session loses its ffmpeg process.
    #[serde(with = "units::duration")]
    pub flow_idle: Duration,
    /// The fixed part of the finish deadline.
    #[serde(with = "units::duration")]
    pub finish_base: Duration,
    /// The part of the finish deadline by size, bytes per second.
    #[serde(with = "units::size")]
    pub finish_rate: u64,
    /// The wait for a finish that may never have been sent, or after a delete.
    #[serde(with = "units::duration")]
    pub finish_grace: Duration,
    /// Pause between two looks for bytes committed elsewhere.
    #[serde(with = "units::duration")]
    pub advance_poll: Duration,
    /// Pause between two searches for unfed sessions.
    #[serde(with = "units::duration")]
    pub sweep: Duration,
    /// First pause after a failure.
    #[serde(with = "units::duration")]
    pub backoff_min: Duration,
    /// Longest pause after a failure.
    #[serde(with = "units::duration")]
    pub backoff_max: Duration,
    /// Pause between two rounds of deleting strays.
    #[serde(with = "units::duration")]
    pub stray_interval: Duration,
    /// Age at which a stray is forgotten.
    #[serde(with = "units::duration")]
    pub stray_max_age: Duration,
}
