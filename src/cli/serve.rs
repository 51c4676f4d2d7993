//! `serve`: the service itself.

use anyhow::Context;

use super::Outcome;
use crate::app::{self, Exit};
use crate::config::{Config, Provenance};
use crate::telemetry;

pub(super) async fn run(config: Config, provenance: &Provenance) -> anyhow::Result<Outcome> {
    telemetry::init(&config.log).context("logging cannot be set up")?;
    provenance.notes().iter().for_each(|note| tracing::warn!("{note}"));
    match app::serve(config).await? {
        Exit::Clean => Ok(Outcome::Done),
        Exit::Hurried => Ok(Outcome::Hurried),
    }
}
