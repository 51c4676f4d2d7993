//! `check`: connect to everything, say what is wrong and how to mend it.

mod broker;
mod neighbours;
mod replicas;
mod report;
mod spool;
mod store;

use clap::Args;

use self::report::{Item, Report};
use super::Outcome;
use super::output::Output;
use crate::config::{Config, Provenance};

/// Connect to everything, say what is wrong and how to mend it.
///
/// Connects as `serve` would, with the same settings, and prints one line for each thing: `ok`, `warning` (the service
/// runs, but something is missing or at risk), `wrong` (it cannot do its work), or `skipped` (what it needs is wrong).
/// Below a warning or a wrong stands how to mend it. Nothing is changed anywhere: no table, no queue, no lease, no
/// file. Whether queues are bound, and with which flags they were declared, cannot be seen without declaring them:
/// `serve` does that, and names a difference.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Check {
    /// Let warnings count: end with 1 unless all is ok.
    #[arg(long)]
    strict: bool,
}

const EXAMPLES: &str = "\
Examples:
  uploader-v4 check                      before the first start, and whenever something seems wrong
  uploader-v4 check --strict --json      in a script; {\"well\": .., \"items\": [{\"name\", \"state\", \"found\", \"mend\"}]}

Ends with 0 when nothing is wrong, otherwise with 1.";

pub(super) async fn run(
    ask: &Check,
    config: &Config,
    provenance: &Provenance,
    output: Output,
) -> anyhow::Result<Outcome> {
    let (store, topology, volume, redis, fflow, holder) = tokio::join!(
        store::look(config),
        broker::look(config),
        spool::look(config),
        neighbours::redis(config),
        neighbours::fflow(config),
        neighbours::holder(config),
    );
    let service = &store.service;
    let mut items = vec![settings(provenance)];
    items.extend(store.items);
    items.extend(broker::items(config, &topology, service));
    items.extend(spool::items(config, &volume, service));
    items.extend([redis, fflow, holder]);
    items.extend(replicas::items(config, service));
    let report = Report::new(items, ask.strict);
    output.print(&report)?;
    Ok(if report.well { Outcome::Done } else { Outcome::Unwell })
}

/// Settings that cannot be used end the program before; what is left are notes.
fn settings(provenance: &Provenance) -> Item {
    match provenance.notes() {
        [] => Item::ok("settings", "usable"),
        notes => {
            Item::warning("settings", notes.join("; "), "`uploader-v4 config` shows where each came from")
        }
    }
}

/// A secret address as `config` shows it: without its password.
fn shown(section: &impl serde::Serialize) -> String {
    let section = serde_json::to_value(section).unwrap_or_default();
    section["url"].as_str().unwrap_or_default().to_owned()
}
