//! `janitor`: remove what nobody uses any more, now, or say what would be removed.

mod answer;

use anyhow::Context;
use clap::Args;

use self::answer::{Cleaned, Foreseen, Refusal};
use super::Outcome;
use super::output::Output;
use crate::app::{self, CannotClean};
use crate::config::Config;
use crate::telemetry;

/// Remove what nobody uses any more, now.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Janitor {
    /// Run once and end. The schedule belongs to `serve`, see SCHEDULER_CLEAR_UPLOAD_RESOURCES_ENABLED.
    #[arg(long)]
    once: bool,
    /// List what a run would do now, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Entries shown of each list of a dry run.
    #[arg(long, value_name = "COUNT", default_value_t = 20, requires = "dry_run",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

const EXAMPLES: &str = "\
One full run of the janitor, as the standalone replica does it on its schedule: abandoned uploads end, and what is left
of ended ones goes (rows, routes, stored bytes, ffmpeg processes). It is safe beside running replicas and beside other
janitors, needs neither the broker nor a replica of its own, and may be interrupted at any time: the next run completes
it. An upload is abandoned when nothing happened to it for VIDEO_TTL while replicas were taking chunks all the time;
while none does, nothing is abandoned. A run has bounded parts: when it says that more is left, run it again.

Examples:
  uploader-v4 janitor --once --dry-run          what would go, the first 20 of each kind
  uploader-v4 janitor --once --dry-run --json --limit 1000 | jq -r '.videos.first[].video_id'
  uploader-v4 janitor --once                    let it go

Exit codes: 0 clean, 1 something could not be cleaned now (the report says what; run it again), 3 refused: no --once,
another spool than the replicas', or a schema that this version does not know.";

const SCHEDULE: &str = "without --once there is nothing to do: the schedule belongs to `serve`, where \
     SCHEDULER_CLEAR_UPLOAD_RESOURCES_ENABLED=true switches the janitor on; add --once for one run now";

pub(super) async fn run(ask: &Janitor, config: Config, output: Output) -> anyhow::Result<Outcome> {
    if !ask.once && !ask.dry_run {
        return refused(SCHEDULE.to_owned(), output);
    }
    if ask.dry_run {
        return dry_run(ask.limit, config, output).await;
    }
    telemetry::init(&config.log).context("logging cannot be set up")?;
    match app::clean_once(config).await {
        Ok(report) => {
            let well = report.error.is_none();
            output.print(&Cleaned(report))?;
            Ok(if well { Outcome::Done } else { Outcome::Unwell })
        }
        Err(CannotClean::Refused(reason)) => refused(reason, output),
        Err(CannotClean::Failed(error)) => Err(error),
    }
}

async fn dry_run(limit: u32, config: Config, output: Output) -> anyhow::Result<Outcome> {
    match app::forecast(config, limit).await {
        Ok(forecast) => {
            output.print(&Foreseen(forecast))?;
            Ok(Outcome::Done)
        }
        Err(CannotClean::Refused(reason)) => refused(reason, output),
        Err(CannotClean::Failed(error)) => Err(error),
    }
}

fn refused(reason: String, output: Output) -> anyhow::Result<Outcome> {
    output.print(&Refusal { refused: reason })?;
    Ok(Outcome::Refused)
}
