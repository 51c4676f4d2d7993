//! `send`: upload a file as gateway would, and wait until it plays.

use clap::Args;

use super::Outcome;
use super::output::Output;
use crate::config::Config;

/// upload a file as gateway would, and wait until it plays.
#[derive(Args, Debug)]
pub struct Send {}

pub(super) async fn run(_ask: &Send, _config: &Config, _output: Output) -> anyhow::Result<Outcome> {
    anyhow::bail!("not there yet")
}
