//! Every metric of the service, each defined once and written by one function.
//!
//! Without [`install`] every function does nothing, so tests need no recorder. Labels are words of this file or of an
//! enum, never something that came in from outside: the number of series is bounded.

mod definitions;
mod series;

use std::sync::OnceLock;
use std::time::Duration;

use metrics::gauge;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use definitions::*;
pub use definitions::{ALL, Kind, Metric};

static EXPOSITION: OnceLock<PrometheusHandle> = OnceLock::new();

/// How often [`upkeep`] must be called: samples gather in memory until they are folded into their histograms.
pub const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Metrics cannot be recorded in this process.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A definition cannot be used.
    #[error("the metrics cannot be set up: {0}")]
    Definition(#[from] BuildError),
    /// Somebody else records already.
    #[error("metrics are recorded by another recorder in this process")]
    Installed,
}

/// Begins to record, for the whole process. Called once.
///
/// # Errors
/// [`MetricsError`].
pub fn install() -> Result<(), MetricsError> {
    let mut builder = PrometheusBuilder::new();
    for metric in ALL {
        if let Kind::Histogram(buckets) = metric.kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)?;
        }
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Installed)?;
    for metric in ALL {
        metric.describe();
    }
    gauge!(BUILD_INFO.name, "version" => env!("CARGO_PKG_VERSION")).set(1);
    EXPOSITION.set(handle).map_err(|_| MetricsError::Installed)
}

/// Folds what was sampled into the histograms.
pub fn upkeep() {
    if let Some(exposition) = EXPOSITION.get() {
        exposition.run_upkeep();
    }
}

/// Everything, in Prometheus' text form; `None` before [`install`].
pub fn render() -> Option<String> {
    EXPOSITION.get().map(PrometheusHandle::render)
}

/// The parts of a chunk's way that are timed each on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Into the spool, durable.
    Spool,
    /// From durable to committed, the wait for the batch included.
    Commit,
    /// From answered to the broker's confirm.
    Reply,
}

impl Stage {
    fn word(self) -> &'static str {
        match self {
            Stage::Spool => "spool",
            Stage::Commit => "commit",
            Stage::Reply => "reply",
        }
    }
}

/// How a delivery ended, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkEnd {
    /// `ack`.
    Accepted,
    /// `nack`, or rejected because nobody can be told; with the reason's word.
    Refused(&'static str),
    /// The broker delivers it again; with the reason's word.
    GivenBack(&'static str),
}

/// A delivery came.
pub fn chunk_received() {
    CHUNKS_RECEIVED.add([], 1);
}

/// So many deliveries are open, and their bodies hold so many bytes.
pub fn chunks_held(in_flight: usize, bytes: u64) {
    CHUNKS_IN_FLIGHT.set([], in_flight as f64);
    CHUNKS_IN_FLIGHT_BYTES.set([], bytes as f64);
}

/// A delivery is over, `after` it came.
pub fn chunk_ended(end: ChunkEnd, after: Duration) {
    let (outcome, reason) = match end {
        ChunkEnd::Accepted => ("accepted", "none"),
        ChunkEnd::Refused(reason) => ("refused", reason),
        ChunkEnd::GivenBack(reason) => ("given_back", reason),
    };
    CHUNKS_ENDED.add([outcome, reason], 1);
    CHUNK_SECONDS.observe([outcome], after);
}

/// A part of a chunk's way took so long.
pub fn chunk_stage(stage: Stage, took: Duration) {
    CHUNK_STAGE_SECONDS.observe([stage.word()], took);
}

/// A transaction took so many chunks; of them, so many bytes were committed.
pub fn batch_committed(chunks: usize, bytes: u64) {
    COMMIT_BATCH_CHUNKS.observe([], chunks as f64);
    CHUNK_COMMITTED_BYTES.add([], bytes);
}

/// So many replies wait until the broker takes them again.
pub fn replies_kept(replies: usize) {
    REPLIES_KEPT.set([], replies as f64);
}

/// A feed changed what it does; `None` is no feed.
pub fn feed_moved(from: Option<&'static str>, to: Option<&'static str>) {
    if from == to {
        return;
    }
    if let Some(from) = from {
        FEEDS.change([from], -1.0);
    }
    if let Some(to) = to {
        FEEDS.change([to], 1.0);
    }
}

/// The bytes stored and not yet fed grew by so many, or shrank.
pub fn feed_backlog(change: i64) {
    if change != 0 {
        FEED_BACKLOG_BYTES.change([], change as f64);
    }
}

/// A stored chunk reached its ffmpeg after so long.
pub fn fed(after: Duration) {
    FEED_LAG_SECONDS.observe([], after);
}

/// A generation was begun.
pub fn generation_begun(cause: &'static str) {
    GENERATIONS.add([cause], 1);
}

/// A feed found that its session belongs to somebody else now.
pub fn fenced() {
    FENCED.add([], 1);
}

/// An upload reached its end.
pub fn session_ended(state: &'static str) {
    SESSIONS_ENDED.add([state], 1);
}

/// A block was pushed, or not.
pub fn pushed(taken: bool, bytes: u64, replay: bool, took: Duration) {
    PUSH_SECONDS.observe([outcome(taken)], took);
    if taken {
        let kind = if replay { "replay" } else { "first" };
        PUSHED_BYTES.add([kind], bytes);
    }
}

/// fflow answered a finish, or did not.
pub fn finish_answered(done: bool, took: Duration) {
    FINISH_SECONDS.observe([outcome(done)], took);
}

fn outcome(well: bool) -> &'static str {
    if well { "done" } else { "failed" }
}

/// What the spool may hold and its volume has, in bytes.
pub fn spool_volume(quota: i64, total: u64, free: u64) {
    SPOOL_QUOTA_BYTES.set([], quota as f64);
    SPOOL_VOLUME_BYTES.set([], total as f64);
    SPOOL_VOLUME_FREE_BYTES.set([], free as f64);
}

/// What all sessions together have reserved in the spool, in bytes.
pub fn spool_reserved(bytes: i64) {
    SPOOL_RESERVED_BYTES.set([], bytes as f64);
}

/// The janitor removed so many of a kind.
pub fn janitor_removed(what: &'static str, many: u64) {
    JANITOR_REMOVED.add([what], many);
}

/// A run of the janitor ended; `at` is Unix time.
pub fn janitor_ran(well: bool, took: Duration, at: Duration) {
    JANITOR_RUN_SECONDS.observe([outcome(well)], took);
    if well {
        JANITOR_LAST_SUCCESS.set([], at.as_secs_f64());
    }
}

/// A dependency's state changed, or was written for the first time.
pub fn dependency(name: &'static str, up: bool, again: bool) {
    DEPENDENCY_UP.set([name], if up { 1.0 } else { 0.0 });
    if up && again {
        RECONNECTS.add([name], 1);
    }
}

/// A message was sent to an actor.
pub fn posted(actor: &'static str) {
    MAILBOX_MESSAGES.change([actor], 1.0);
}

/// An actor took a message up.
pub fn taken_up(actor: &'static str) {
    MAILBOX_MESSAGES.change([actor], -1.0);
}

/// An actor is new, and so is its mailbox.
pub fn mailbox_new(actor: &'static str) {
    MAILBOX_MESSAGES.set([actor], 0.0);
}

/// An actor answered a ping after so long: the time that a message waits in its mailbox.
pub fn answered(actor: &'static str, after: Duration) {
    ACTOR_ANSWER_SECONDS.observe([actor], after);
}

/// A line was rebuilt because this actor died.
pub fn line_rebuilt(actor: &'static str) {
    LINES_REBUILT.add([actor], 1);
}

#[cfg(test)]
mod tests;
