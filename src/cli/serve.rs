//! `serve`: the service itself.

use anyhow::Context;

use super::Outcome;
use crate::app::{self, Exit};
use crate::config::{Config, Provenance};
use crate::gateways::collector::Collector;
use crate::telemetry::{self, TelemetryError, Traces};

pub(super) async fn run(config: Config, provenance: &Provenance) -> anyhow::Result<Outcome> {
    let traces = begin(&config).context("logging cannot be set up")?;
    provenance.notes().iter().for_each(|note| tracing::warn!("{note}"));
    let exit = app::serve(config).await;
    if matches!(exit, Ok(Exit::Hurried)) {
        return Ok(Outcome::Hurried);
    }
    if let Some(traces) = traces {
        traces.end().await;
    }
    exit.map(|_| Outcome::Done)
}

fn begin(config: &Config) -> Result<Option<Traces>, TelemetryError> {
    let Some(address) = &config.traces.url else {
        return telemetry::init(&config.log).map(|()| None);
    };
    let collector = Collector::open(&config.traces);
    telemetry::init_traced(config, address.as_str(), collector).map(Some)
}
