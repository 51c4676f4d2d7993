//! The typed settings: one section per actor or gateway, which receives its own one only.
//!
//! Bounds and reasons stand in `config/default.toml`; sizes are bytes.

mod roads;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;

pub use roads::{ChunkConfig, FeedConfig, SpoolConfig, SpoolLimit};

use super::origin::Origin;
use super::trust::Trust;
use super::units;

/// All settings of one process.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Config {
    /// The broker.
    pub amqp: AmqpConfig,
    /// PostgreSQL.
    pub database: DatabaseConfig,
    /// The route cache.
    pub redis: RedisConfig,
    /// The farm of ffmpeg processes.
    pub fflow: FflowConfig,
    /// The server of finished videos.
    pub holder: HolderConfig,
    /// Limits and waits of the chunk road.
    pub chunk: ChunkConfig,
    /// The stored bytes.
    pub spool: SpoolConfig,
    /// The feed road.
    pub feed: FeedConfig,
    /// This process among its equals.
    pub replica: ReplicaConfig,
    /// Cleaning.
    pub janitor: JanitorConfig,
    /// Health and metrics.
    pub http: HttpConfig,
    /// Encrypted connections.
    pub tls: TlsConfig,
    /// Logging.
    pub log: LogConfig,
    /// Tracing.
    pub traces: TracesConfig,
}

/// The broker.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct AmqpConfig {
    /// Address with credentials; its vhost is always written out (`/%2f` for the default one).
    #[serde(with = "units::secret")]
    pub url: SecretString,
    /// Upper bound of the backoff between connection attempts.
    #[serde(with = "units::duration")]
    pub reconnect_max: Duration,
    /// Queue that chunks arrive in.
    pub upload_queue: String,
    /// Queue that replies are routed to.
    pub reply_queue: String,
    /// Topic exchange of both.
    pub exchange: String,
    /// Whether the topology is declared durable.
    pub durable: bool,
    /// AMQP heartbeat, whole seconds.
    #[serde(with = "units::duration")]
    pub heartbeat: Duration,
    /// Deliveries held unanswered at once.
    pub prefetch: u16,
    /// Bytes of bodies held before consuming pauses.
    #[serde(with = "units::size")]
    pub inflight_bytes: u64,
    /// Life of a reply in its queue.
    #[serde(with = "units::duration")]
    pub reply_expiration: Duration,
    /// How long publishing may be blocked before committed chunks are acked without their reply.
    #[serde(with = "units::duration")]
    pub blocked_grace: Duration,
    /// Replies kept back at most while publishing is blocked.
    pub kept_replies: usize,
    /// The authorities of `tls.ca_file`.
    #[serde(skip)]
    pub trust: Trust,
}

/// PostgreSQL.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct DatabaseConfig {
    /// `postgresql://user:password@host:port/database`, normalised, credentials merged.
    #[serde(with = "units::secret")]
    pub url: SecretString,
    /// Connections in the pool.
    pub pool: u32,
    /// Wait for a connection.
    #[serde(with = "units::duration")]
    pub connect_timeout: Duration,
    /// `statement_timeout` of every connection.
    #[serde(with = "units::duration")]
    pub statement_timeout: Duration,
    /// `lock_timeout` of every connection.
    #[serde(with = "units::duration")]
    pub lock_timeout: Duration,
    /// `idle_in_transaction_session_timeout` of every connection.
    #[serde(with = "units::duration")]
    pub idle_in_transaction_timeout: Duration,
    /// Whether `serve` brings the schema up to date.
    pub migrate: bool,
    /// The authorities of `tls.ca_file`.
    #[serde(skip)]
    pub trust: Trust,
}

/// The route cache.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct RedisConfig {
    /// `redis://` or `rediss://`, with credentials and database number.
    #[serde(with = "units::secret")]
    pub url: SecretString,
    /// Longest wait for one answer.
    #[serde(with = "units::duration")]
    pub response_timeout: Duration,
    /// Life of a route.
    #[serde(with = "units::duration")]
    pub route_ttl: Duration,
    /// The authorities of `tls.ca_file`.
    #[serde(skip)]
    pub trust: Trust,
}

/// The farm of ffmpeg processes.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct FflowConfig {
    /// Address where flows are created.
    #[serde(with = "units::web_address")]
    pub base_url: Url,
    /// Where a flow may live; at least one.
    #[serde(with = "units::origins")]
    pub allowed: Vec<Origin>,
    /// Deadline of a create.
    #[serde(with = "units::duration")]
    pub create_timeout: Duration,
    /// Deadline of a push.
    #[serde(with = "units::duration")]
    pub push_timeout: Duration,
    /// Deadline of a finish.
    #[serde(with = "units::duration")]
    pub finish_timeout: Duration,
    /// Deadline of a delete.
    #[serde(with = "units::duration")]
    pub delete_timeout: Duration,
    /// Bytes read of an answer.
    #[serde(with = "units::size")]
    pub body_limit: u64,
    /// Pause of creates after a refused address.
    #[serde(with = "units::duration")]
    pub refused_pause: Duration,
    /// The authorities of `tls.ca_file`.
    #[serde(skip)]
    pub trust: Trust,
}

/// The server of finished videos.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct HolderConfig {
    /// Its address; without it finished files are not verified.
    #[serde(with = "units::optional_web_address")]
    pub base_url: Option<Url>,
    /// Deadline of one request.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// Pause between two looks.
    #[serde(with = "units::duration")]
    pub poll: Duration,
    /// The authorities of `tls.ca_file`.
    #[serde(skip)]
    pub trust: Trust,
}

/// This process among its equals.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct ReplicaConfig {
    /// Name in logs and tables.
    pub name: String,
    /// Silence after which the others take over.
    #[serde(with = "units::duration")]
    pub lease: Duration,
    /// Pause between two signs of life.
    #[serde(with = "units::duration")]
    pub heartbeat: Duration,
    /// Longest shutdown.
    #[serde(with = "units::duration")]
    pub shutdown_deadline: Duration,
    /// The part of it for settling tickets.
    #[serde(with = "units::duration")]
    pub shutdown_settle: Duration,
    /// The part of it for releasing feeds.
    #[serde(with = "units::duration")]
    pub shutdown_release: Duration,
}

/// Cleaning.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct JanitorConfig {
    /// Whether it runs in this process.
    pub enabled: bool,
    /// Pause between the end of one cleaning and the next.
    #[serde(with = "units::duration")]
    pub interval: Duration,
    /// Time without activity after which an unfinished video is removed.
    #[serde(with = "units::duration")]
    pub video_ttl: Duration,
    /// How long ended sessions are remembered.
    #[serde(with = "units::duration")]
    pub tombstone_ttl: Duration,
    /// Rows handled in one transaction.
    pub batch: u32,
}

/// Health and metrics.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct HttpConfig {
    /// Address to listen on.
    #[serde(with = "units::listen_address")]
    pub addr: SocketAddr,
}

/// Encrypted connections.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct TlsConfig {
    /// PEM file of authorities that are trusted besides the platform's.
    #[serde(with = "units::optional_path")]
    pub ca_file: Option<PathBuf>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Logging.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct LogConfig {
    /// How log lines look.
    #[serde(with = "units::log_format")]
    pub format: LogFormat,
    /// What is logged, as `tracing` directives.
    pub filter: String,
}

/// Tracing.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct TracesConfig {
    /// The collector's address; without it nothing is traced.
    #[serde(with = "units::optional_web_address")]
    pub url: Option<Url>,
    /// Share of new traces that are recorded, in percent.
    pub percent: u8,
    /// The authorities of `tls.ca_file`.
    #[serde(skip)]
    pub trust: Trust,
}
