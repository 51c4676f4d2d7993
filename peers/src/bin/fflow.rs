//! The fflow replica: see [`peers::fflow`].

use clap::Parser;

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    peers::telemetry::log_to_stderr();
    peers::fflow::run(peers::fflow::Options::parse()).await
}
