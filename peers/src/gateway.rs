//! gateway: the upload API of clients; cuts nothing itself, publishes each uploaded chunk and awaits its reply.
//!
//! By itself it is kind: a reply that does not come is a 504, a lost broker is connected to again with backoff, a
//! database that is away is asked again, replies that nobody awaits are acked away. With `as_observed` it has the
//! manners of the existing gateway: it waits for ever, connects and declares only at its start, asks its database
//! once, and nacks unknown replies with requeue for ever.

mod broker;
mod headers;
mod http;
mod replies;
mod store;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

pub use self::headers::{ChunkHeaders, number};

use self::broker::Broker;
use self::store::Store;

/// What gateway is started with.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "gateway", about = "Takes uploads over HTTP and publishes their chunks")]
pub struct Options {
    /// Address to listen on
    #[arg(long)]
    pub listen: SocketAddr,
    /// Broker, such as amqp://localhost
    #[arg(long, env = "AMQP_CONNECTION_STRING", hide_env_values = true)]
    pub amqp: String,
    /// Database with the shared tables, such as postgres://user:password@localhost/retube
    #[arg(long, env = "GATEWAY_DATABASE_URL", hide_env_values = true)]
    pub database: String,
    /// holder's address as players reach it, for distributionUrls
    #[arg(long)]
    pub holder_url: String,
    /// How long a chunk's reply is awaited before the client gets a 504
    #[arg(long, default_value = "50s", value_parser = duration)]
    pub reply_timeout: Duration,
    /// Bearer token that creating a video and uploading then need
    #[arg(long, env = "GATEWAY_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Have the manners of the existing gateway: no reply timeout, no reconnection, unknown replies requeued
    #[arg(long)]
    pub as_observed: bool,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the database or, at the start, the broker cannot be reached, or the address not be listened on.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let store = Store::connect(&options.database).await.context("connecting to the database")?;
    let broker =
        Broker::start(&options.amqp, options.as_observed).await.context("connecting to the broker")?;
    tracing::info!(listen = %options.listen, "gateway listens");
    let listen = options.listen;
    let gateway = Arc::new(http::Gateway { options, store, broker });
    http::serve(listen, gateway).await.with_context(|| format!("listening on {listen}"))
}

/// A number with `ms`, `s` or `m`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let count: u64 = digits.parse().map_err(|_| format!("expected a duration such as 50s, not {text:?}"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(count)),
        "s" => Ok(Duration::from_secs(count)),
        "m" => Ok(Duration::from_secs(count.saturating_mul(60))),
        unit => Err(format!("expected the unit ms, s or m, not {unit:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("50s"), Ok(Duration::from_secs(50)));
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert!(duration("50").is_err() && duration("s").is_err() && duration("1h").is_err());
    }
}
