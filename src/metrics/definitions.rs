//! The table of metrics: name, unit, help, and the buckets of histograms.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// What a metric counts in.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// It only grows while the process lives.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Samples, with the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, with its unit in it.
    pub name: &'static str,
    /// What it counts in.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// For whoever looks at a graph of it.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
}

impl Metric {
    pub(super) fn describe(&self) {
        match self.kind {
            Kind::Counter => describe_counter!(self.name, self.unit, self.help),
            Kind::Gauge => describe_gauge!(self.name, self.unit, self.help),
            Kind::Histogram(_) => describe_histogram!(self.name, self.unit, self.help),
        }
    }
}

/// From a quiet commit to the patience of a client.
const CHUNK_BUCKETS: &[f64] =
    &[0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 60.0];
/// Requests to fflow, and feeds that wait for a fuller block.
const FEED_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 55.0, 120.0];
/// What takes minutes.
const LONG_BUCKETS: &[f64] = &[0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// Up to the largest batch.
const BATCH_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:expr, $unit:ident, [$($label:literal),*], $help:literal;)*) => {
        $(pub(super) const $constant: Metric = Metric {
            name: $name, kind: $kind, unit: Unit::$unit, help: $help, labels: &[$($label),*],
        };)*
        /// All of them.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    BUILD_INFO = "uploader_build_info", Kind::Gauge, Count, ["version"],
        "Always 1; the label tells the version that runs.";
    CHUNKS_RECEIVED = "uploader_chunks_received_total", Kind::Counter, Count, [],
        "Deliveries taken from the broker; equal to those ended plus those in flight.";
    CHUNKS_ENDED = "uploader_chunks_ended_total", Kind::Counter, Count, ["outcome", "reason"],
        "Deliveries that are over: accepted, refused or given back to the broker, by reason.";
    CHUNKS_IN_FLIGHT = "uploader_chunks_in_flight", Kind::Gauge, Count, [],
        "Deliveries that are not over yet.";
    CHUNKS_IN_FLIGHT_BYTES = "uploader_chunks_in_flight_bytes", Kind::Gauge, Bytes, [],
        "Bytes that the bodies of open deliveries hold in memory.";
    CHUNK_SECONDS = "uploader_chunk_seconds", Kind::Histogram(CHUNK_BUCKETS), Seconds, ["outcome"],
        "From a delivery to its ack: what the client waits for, without the way through the broker.";
    CHUNK_STAGE_SECONDS = "uploader_chunk_stage_seconds", Kind::Histogram(CHUNK_BUCKETS), Seconds, ["stage"],
        "Parts of that time: spool (until durable), commit (until committed), reply (until confirmed).";
    CHUNK_COMMITTED_BYTES = "uploader_chunk_committed_bytes_total", Kind::Counter, Bytes, [],
        "Bytes of uploads that were stored and committed.";
    COMMIT_BATCH_CHUNKS = "uploader_commit_batch_chunks", Kind::Histogram(BATCH_BUCKETS), Count, [],
        "Chunks in one transaction.";
    REPLIES_KEPT = "uploader_replies_kept", Kind::Gauge, Count, [],
        "Replies kept back while the broker is under alarm.";
    FEEDS = "uploader_feeds", Kind::Gauge, Count, ["state"],
        "Uploads that this replica feeds, by what their feed does.";
    FEED_BACKLOG_BYTES = "uploader_feed_backlog_bytes", Kind::Gauge, Bytes, [],
        "Bytes of these uploads that are stored and not yet fed to ffmpeg.";
    FEED_LAG_SECONDS = "uploader_feed_lag_seconds", Kind::Histogram(FEED_BUCKETS), Seconds, [],
        "From the moment that a feed knew of stored bytes until its ffmpeg had them.";
    GENERATIONS = "uploader_generations_total", Kind::Counter, Count, ["cause"],
        "ffmpeg processes begun: the first of an upload, after an unsettled hand-over, or after a failure.";
    FENCED = "uploader_feeds_fenced_total", Kind::Counter, Count, [],
        "Feeds that found their upload in other hands and stopped.";
    SESSIONS_ENDED = "uploader_sessions_ended_total", Kind::Counter, Count, ["state"],
        "Uploads that this replica brought to their end: done or failed.";
    PUSH_SECONDS = "uploader_push_seconds", Kind::Histogram(FEED_BUCKETS), Seconds, ["outcome"],
        "Pushes of one block to fflow.";
    PUSHED_BYTES = "uploader_pushed_bytes_total", Kind::Counter, Bytes, ["kind"],
        "Bytes that fflow took: for the first time, or again for a later generation.";
    FINISH_SECONDS = "uploader_finish_seconds", Kind::Histogram(LONG_BUCKETS), Seconds, ["outcome"],
        "Finishes as fflow answered them; one that it does not answer in time is watched at holder.";
    SPOOL_QUOTA_BYTES = "uploader_spool_quota_bytes", Kind::Gauge, Bytes, [],
        "What all uploads together may reserve in the spool.";
    SPOOL_RESERVED_BYTES = "uploader_spool_reserved_bytes", Kind::Gauge, Bytes, [],
        "What they have reserved.";
    SPOOL_VOLUME_BYTES = "uploader_spool_volume_bytes", Kind::Gauge, Bytes, [],
        "Size of the volume that holds the spool.";
    SPOOL_VOLUME_FREE_BYTES = "uploader_spool_volume_free_bytes", Kind::Gauge, Bytes, [],
        "What is free on it.";
    JANITOR_REMOVED = "uploader_janitor_removed_total", Kind::Counter, Count, ["what"],
        "What the janitor removed, by kind.";
    JANITOR_RUN_SECONDS = "uploader_janitor_run_seconds", Kind::Histogram(LONG_BUCKETS), Seconds, ["outcome"],
        "Runs of the janitor.";
    JANITOR_LAST_SUCCESS = "uploader_janitor_last_success_timestamp_seconds", Kind::Gauge, Seconds, [],
        "Unix time at which the last run without an error ended.";
    DEPENDENCY_UP = "uploader_dependency_up", Kind::Gauge, Count, ["dependency"],
        "1 while a dependency is as it should be, 0 while it is degraded or down; see /readyz for the reason.";
    RECONNECTS = "uploader_reconnects_total", Kind::Counter, Count, ["dependency"],
        "Times that a dependency was up again after it had not been.";
    MAILBOX_MESSAGES = "uploader_mailbox_messages", Kind::Gauge, Count, ["actor"],
        "Messages of the chunk road that wait in an actor's mailbox.";
    ACTOR_ANSWER_SECONDS = "uploader_actor_answer_seconds", Kind::Histogram(CHUNK_BUCKETS), Seconds, ["actor"],
        "How long a ping waits in an actor's mailbox.";
    LINES_REBUILT = "uploader_lines_rebuilt_total", Kind::Counter, Count, ["actor"],
        "Lines of actors built anew because this one died.";
}
