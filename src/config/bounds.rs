//! The bound of every setting, and what settings must be to each other.

use std::ops::RangeInclusive;
use std::time::Duration;

use secrecy::ExposeSecret;
use tracing_subscriber::EnvFilter;

use super::sections::*;
use super::units::{format_duration, format_size};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A bound that does not hold.
pub(super) struct Broken {
    pub(super) key: &'static str,
    pub(super) expected: String,
    pub(super) found: String,
}

/// Checks everything and returns what does not hold.
pub(super) fn check(config: &Config) -> Vec<Broken> {
    let mut bounds = Bounds(Vec::new());
    broker(&mut bounds, config);
    stores(&mut bounds, config);
    neighbours(&mut bounds, config);
    chunks(&mut bounds, config);
    feed_work(&mut bounds, &config.feed);
    feed_waits(&mut bounds, &config.feed);
    replica(&mut bounds, &config.replica);
    janitor(&mut bounds, &config.janitor);
    log(&mut bounds, &config.log);
    bounds.count("traces.percent", config.traces.percent.into(), 0..=100);
    bounds.0
}

struct Bounds(Vec<Broken>);

impl Bounds {
    fn require(
        &mut self,
        key: &'static str,
        holds: bool,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        if !holds {
            self.0.push(Broken { key, expected: expected.into(), found: found.into() });
        }
    }

    fn time(&mut self, key: &'static str, value: Duration, bound: RangeInclusive<Duration>) {
        let expected =
            format!("expected {} to {}", format_duration(*bound.start()), format_duration(*bound.end()));
        self.require(key, bound.contains(&value), expected, format_duration(value));
    }

    fn size(&mut self, key: &'static str, value: u64, bound: RangeInclusive<u64>) {
        let expected = format!("expected {} to {}", format_size(*bound.start()), format_size(*bound.end()));
        self.require(key, bound.contains(&value), expected, format_size(value));
    }

    fn count(&mut self, key: &'static str, value: u64, bound: RangeInclusive<u64>) {
        let expected = format!("expected {} to {}", bound.start(), bound.end());
        self.require(key, bound.contains(&value), expected, value.to_string());
    }

    fn length(&mut self, key: &'static str, value: &str) {
        let expected = "expected 1 to 255 bytes of text";
        self.require(key, (1..=255).contains(&value.len()), expected, format!("{} bytes", value.len()));
    }

    fn at_most(&mut self, key: &'static str, value: Duration, other: &str, limit: Duration) {
        let expected = format!("expected at most {other} ({})", format_duration(limit));
        self.require(key, value <= limit, expected, format_duration(value));
    }
}

fn broker(bounds: &mut Bounds, config: &Config) {
    let amqp = &config.amqp;
    bounds.time("amqp.reconnect_max", amqp.reconnect_max, 100 * MS..=10 * MINUTE);
    bounds.length("amqp.upload_queue", &amqp.upload_queue);
    bounds.length("amqp.reply_queue", &amqp.reply_queue);
    bounds.length("amqp.exchange", &amqp.exchange);
    let apart = amqp.upload_queue != amqp.reply_queue;
    bounds.require(
        "amqp.reply_queue",
        apart,
        "expected another queue than amqp.upload_queue",
        &amqp.reply_queue,
    );
    bounds.time("amqp.heartbeat", amqp.heartbeat, SECOND..=5 * MINUTE);
    let whole = amqp.heartbeat.subsec_nanos() == 0;
    bounds.require("amqp.heartbeat", whole, "expected whole seconds", format_duration(amqp.heartbeat));
    bounds.count("amqp.prefetch", amqp.prefetch.into(), 1..=65_535);
    bounds.size("amqp.inflight_bytes", amqp.inflight_bytes, config.chunk.max_bytes..=1024 * GIB);
    bounds.time("amqp.reply_expiration", amqp.reply_expiration, SECOND..=HOUR);
    bounds.time("amqp.blocked_grace", amqp.blocked_grace, SECOND..=10 * MINUTE);
    bounds.count("amqp.kept_replies", amqp.kept_replies as u64, 1..=1_000_000);
}

fn stores(bounds: &mut Bounds, config: &Config) {
    let database = &config.database;
    let database_url = database.url.expose_secret();
    bounds.require("database.url", !database_url.is_empty(), "expected an address", "none");
    bounds.count("database.pool", database.pool.into(), 2..=100);
    bounds.time("database.connect_timeout", database.connect_timeout, 100 * MS..=MINUTE);
    bounds.time("database.statement_timeout", database.statement_timeout, 100 * MS..=5 * MINUTE);
    bounds.time("database.lock_timeout", database.lock_timeout, 10 * MS..=MINUTE);
    let (lock, statement) = (database.lock_timeout, database.statement_timeout);
    bounds.at_most("database.lock_timeout", lock, "database.statement_timeout", statement);
    let idle = database.idle_in_transaction_timeout;
    bounds.time("database.idle_in_transaction_timeout", idle, 100 * MS..=5 * MINUTE);
    bounds.time("redis.response_timeout", config.redis.response_timeout, 10 * MS..=10 * SECOND);
    bounds.time("redis.route_ttl", config.redis.route_ttl, MINUTE..=30 * DAY);
    bounds.time("spool.read_retry", config.spool.read_retry, Duration::ZERO..=5 * MINUTE);
    bounds.size("spool.journal_bytes", config.spool.journal_bytes, 0..=GIB);
    let dir = !config.spool.dir.as_os_str().is_empty();
    bounds.require("spool.dir", dir, "expected the path of a folder", "none");
    if let SpoolLimit::Bytes(limit) = config.spool.max_bytes {
        bounds.size("spool.max_bytes", limit, config.chunk.max_bytes..=u64::MAX);
    }
}

fn neighbours(bounds: &mut Bounds, config: &Config) {
    let fflow = &config.fflow;
    bounds.require("fflow.allowed", !fflow.allowed.is_empty(), "expected at least one origin", "none");
    bounds.time("fflow.create_timeout", fflow.create_timeout, 100 * MS..=5 * MINUTE);
    bounds.time("fflow.push_timeout", fflow.push_timeout, 100 * MS..=10 * MINUTE);
    bounds.time("fflow.finish_timeout", fflow.finish_timeout, SECOND..=HOUR);
    bounds.time("fflow.delete_timeout", fflow.delete_timeout, 100 * MS..=MINUTE);
    bounds.size("fflow.body_limit", fflow.body_limit, KIB..=MIB);
    bounds.time("fflow.refused_pause", fflow.refused_pause, SECOND..=HOUR);
    bounds.time("holder.timeout", config.holder.timeout, 100 * MS..=MINUTE);
    bounds.time("holder.poll", config.holder.poll, 100 * MS..=5 * MINUTE);
}

fn chunks(bounds: &mut Bounds, config: &Config) {
    let chunk = &config.chunk;
    bounds.size("chunk.max_bytes", chunk.max_bytes, 1..=128 * MIB);
    bounds.time("chunk.deadline", chunk.deadline, SECOND..=10 * MINUTE);
    bounds.at_most("chunk.reorder_wait", chunk.reorder_wait, "chunk.deadline", chunk.deadline);
    bounds.time("chunk.reorder_poll", chunk.reorder_poll, 10 * MS..=10 * SECOND);
    bounds.count("chunk.reorder_per_session", chunk.reorder_per_session as u64, 0..=1000);
    bounds.count("chunk.reorder_window_chunks", chunk.reorder_window_chunks, 0..=1000);
}

fn feed_work(bounds: &mut Bounds, feed: &FeedConfig) {
    bounds.count("feed.max_feeds", feed.max_feeds as u64, 1..=100_000);
    bounds.size("feed.start_bytes", feed.start_bytes, 1..=GIB);
    bounds.size("feed.push_block", feed.push_block, KIB..=MIB - KIB);
    bounds.time("feed.push_linger", feed.push_linger, Duration::ZERO..=5 * SECOND);
    bounds.size("feed.push_rate", feed.push_rate, 64 * KIB..=GIB);
    bounds.count("feed.replays", feed.replays as u64, 1..=1000);
    bounds.count("feed.max_strikes", feed.max_strikes.into(), 1..=100);
    bounds.time("feed.strike_span", feed.strike_span, SECOND..=30 * DAY);
    bounds.count("feed.strike_waits", feed.strike_waits.len() as u64, 1..=10);
    let longest = feed.strike_waits.iter().copied().max().unwrap_or_default();
    bounds.time("feed.strike_waits", longest, Duration::ZERO..=HOUR);
}

fn feed_waits(bounds: &mut Bounds, feed: &FeedConfig) {
    bounds.time("feed.idle", feed.idle, SECOND..=HOUR);
    bounds.time("feed.flow_idle", feed.flow_idle, feed.idle..=DAY);
    bounds.time("feed.finish_base", feed.finish_base, SECOND..=DAY);
    bounds.size("feed.finish_rate", feed.finish_rate, KIB..=GIB);
    bounds.time("feed.finish_grace", feed.finish_grace, SECOND..=DAY);
    bounds.time("feed.advance_poll", feed.advance_poll, 10 * MS..=10 * SECOND);
    bounds.time("feed.sweep", feed.sweep, 50 * MS..=MINUTE);
    bounds.time("feed.backoff_min", feed.backoff_min, 10 * MS..=HOUR);
    bounds.time("feed.backoff_max", feed.backoff_max, feed.backoff_min..=HOUR);
    bounds.time("feed.stray_interval", feed.stray_interval, 100 * MS..=DAY);
    bounds.time("feed.stray_max_age", feed.stray_max_age, MINUTE..=30 * DAY);
}

fn replica(bounds: &mut Bounds, replica: &ReplicaConfig) {
    bounds.length("replica.name", &replica.name);
    bounds.time("replica.lease", replica.lease, SECOND..=10 * MINUTE);
    bounds.time("replica.heartbeat", replica.heartbeat, 100 * MS..=10 * MINUTE);
    let expected = format!("expected less than half of replica.lease ({})", format_duration(replica.lease));
    let twice = replica.heartbeat * 2 < replica.lease;
    bounds.require("replica.heartbeat", twice, expected, format_duration(replica.heartbeat));
    bounds.time("replica.shutdown_deadline", replica.shutdown_deadline, 100 * MS..=10 * MINUTE);
    let parts = replica.shutdown_settle.saturating_add(replica.shutdown_release);
    let (settle, limit) = ("replica.shutdown_settle", replica.shutdown_deadline);
    let expected = format!(
        "expected together with replica.shutdown_release at most replica.shutdown_deadline ({})",
        format_duration(limit)
    );
    bounds.require(settle, parts <= limit, expected, format_duration(parts));
}

fn janitor(bounds: &mut Bounds, janitor: &JanitorConfig) {
    bounds.time("janitor.interval", janitor.interval, 100 * MS..=DAY);
    bounds.time("janitor.video_ttl", janitor.video_ttl, SECOND..=365 * DAY);
    bounds.time("janitor.tombstone_ttl", janitor.tombstone_ttl, MINUTE..=365 * DAY);
    bounds.count("janitor.batch", janitor.batch.into(), 1..=10_000);
}

fn log(bounds: &mut Bounds, log: &LogConfig) {
    let reads = EnvFilter::try_new(&log.filter).is_ok();
    bounds.require("log.filter", reads, "expected tracing directives such as \"info\"", &log.filter);
}
