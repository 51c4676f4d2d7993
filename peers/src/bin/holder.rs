//! The holder: see [`peers::holder`].

use clap::Parser;

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    peers::telemetry::log_to_stderr();
    peers::holder::run(peers::holder::Options::parse()).await
}
