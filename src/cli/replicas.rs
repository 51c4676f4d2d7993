//! `replicas`: the replicas of this service and of fflow.

use clap::Args;

use super::Outcome;
use super::output::Output;
use crate::config::Config;

/// the replicas of this service and of fflow.
#[derive(Args, Debug)]
pub struct Replicas {}

pub(super) async fn run(_ask: &Replicas, _config: &Config, _output: Output) -> anyhow::Result<Outcome> {
    anyhow::bail!("not there yet")
}
