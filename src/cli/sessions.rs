//! `sessions`: look at uploads, try a failed one again, end a live one.

use clap::Args;

use super::Outcome;
use super::output::Output;
use crate::config::Config;

/// look at uploads, try a failed one again, end a live one.
#[derive(Args, Debug)]
pub struct Sessions {}

pub(super) async fn run(_ask: &Sessions, _config: &Config, _output: Output) -> anyhow::Result<Outcome> {
    anyhow::bail!("not there yet")
}
