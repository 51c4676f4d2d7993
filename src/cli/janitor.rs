//! `janitor`: remove what nobody uses any more, now.

use clap::Args;

use super::Outcome;
use super::output::Output;
use crate::config::Config;

/// remove what nobody uses any more, now.
#[derive(Args, Debug)]
pub struct Janitor {}

pub(super) async fn run(_ask: &Janitor, _config: Config, _output: Output) -> anyhow::Result<Outcome> {
    anyhow::bail!("not there yet")
}
