//! `check`: connect to everything, say what is wrong and how to mend it.

mod database;
mod neighbours;
mod spool;

use std::fmt;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::Outcome;
use super::output::Output;
use crate::config::Config;

/// Connect to everything as `serve` would, say what is wrong and how to mend it.
///
/// It changes nothing: no schema, no queue, no marker, no lease. Exit code 1 when something is wrong; what only lessens
/// a promise is a warning.
#[derive(Args, Debug)]
pub struct Check {
    /// Warnings count as wrong.
    #[arg(long)]
    strict: bool,
}

/// How one thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    Warning,
    Wrong,
    Skipped,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
struct Item {
    name: &'static str,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Item {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Item { name, state: State::Ok, found: found.into(), mend: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Item { name, state: State::Warning, found: found.into(), mend: Some(mend.into()) }
    }

    fn wrong(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Item { name, state: State::Wrong, found: found.into(), mend: Some(mend.into()) }
    }

    fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Item { name, state: State::Skipped, found: why.into(), mend: None }
    }
}

#[derive(Serialize)]
struct Checked {
    well: bool,
    items: Vec<Item>,
}

/// The longest wait for a neighbour that is not there.
const WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn run(ask: &Check, config: &Config, output: Output) -> anyhow::Result<Outcome> {
    let (mut items, overview) = database::check(config).await;
    items.extend(spool::check(config, overview.as_ref()).await);
    items.extend(neighbours::check(config, overview.as_ref()).await);
    let bad = |item: &Item| match item.state {
        State::Wrong => true,
        State::Warning => ask.strict,
        State::Ok | State::Skipped => false,
    };
    let well = !items.iter().any(bad);
    output.print(&Checked { well, items })?;
    Ok(if well { Outcome::Done } else { Outcome::Unwell })
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in &self.items {
            let word = match item.state {
                State::Ok => "ok",
                State::Warning => "warning",
                State::Wrong => "WRONG",
                State::Skipped => "skipped",
            };
            writeln!(f, "{word:<8} {:<14} {}", item.name, item.found)?;
            if let Some(mend) = &item.mend {
                writeln!(f, "{:23} -> {mend}", "")?;
            }
        }
        write!(f, "{}", if self.well { "all is well" } else { "not well: see above" })
    }
}
