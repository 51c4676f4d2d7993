//! `healthcheck`: is the replica on this host well?

use clap::Args;

use super::Outcome;
use super::output::Output;
use crate::config::Config;

/// is the replica on this host well?
#[derive(Args, Debug)]
pub struct Healthcheck {}

pub(super) async fn run(_ask: &Healthcheck, _config: &Config, _output: Output) -> anyhow::Result<Outcome> {
    anyhow::bail!("not there yet")
}
