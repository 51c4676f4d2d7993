//! The gateway: see [`peers::gateway`].

use clap::Parser;

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    peers::telemetry::log_to_stderr();
    peers::gateway::run(peers::gateway::Options::parse()).await
}
