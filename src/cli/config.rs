//! `config`: the effective settings.

use super::Outcome;
use super::output::Output;
use crate::config::{Config, Provenance};

pub(super) fn run(config: &Config, provenance: &Provenance, output: Output) -> anyhow::Result<Outcome> {
    output.print(&config.report(provenance))?;
    Ok(Outcome::Done)
}
