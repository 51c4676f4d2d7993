//! `check`: connect to everything, say what is wrong and how to mend it.

use clap::Args;

use super::Outcome;
use super::output::Output;
use crate::config::Config;

/// connect to everything, say what is wrong and how to mend it.
#[derive(Args, Debug)]
pub struct Check {}

pub(super) async fn run(_ask: &Check, _config: &Config, _output: Output) -> anyhow::Result<Outcome> {
    anyhow::bail!("not there yet")
}
