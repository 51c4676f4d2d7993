//! `devstack bench`: the service beside what the broker and the disk allow, in one run on one machine, so that every
//! figure is a ratio.
//!
//! In reading order: `plan` says what is measured, `ground` starts the servers, the `echo` and the service with its
//! `sink`; `load` drives both; a `cell` measures echo, service and `disk` in turns; `census` checks every byte;
//! `report` and `tables` tell.

mod cell;
mod census;
mod content;
mod cost;
mod disk;
mod document;
mod echo;
mod figures;
mod ground;
mod growth;
mod load;
mod machine;
mod plan;
mod plot;
mod report;
mod sink;
mod specials;
mod tables;
mod targets;
mod topology;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use devstack::tools;

pub(crate) use self::echo::{Options as EchoOptions, run as echo};
pub(crate) use self::sink::{Options as SinkOptions, run as sink};

use self::ground::Ground;
use self::plan::{Choice, Pace};
use self::report::Report;
use crate::interrupts::Interrupts;

/// What is measured, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only these, separated by commas: cells such as 8k_100 or 1m_32_r2, matrix, ready, idle, stalled, lag, replay,
    /// replicas
    #[arg(long, env = "BENCH_ONLY", default_value = "", hide_default_value = true)]
    only: String,
    /// Rounds of each thing compared
    #[arg(long, env = "BENCH_ROUNDS", default_value = "3")]
    rounds: String,
    /// Seconds of a round
    #[arg(long, env = "BENCH_SECONDS", default_value = "5")]
    seconds: String,
    /// A Markdown file whose measured part is written anew, with the plot beside it
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

impl Options {
    fn pace(&self) -> anyhow::Result<Pace> {
        let number = |text: &str, default: u32| match text {
            // As make passes on an unset variable.
            "" => Ok(default),
            text => {
                text.parse().ok().filter(|number| *number > 0).with_context(|| format!("not a count: {text}"))
            }
        };
        let window = Duration::from_secs(number(&self.seconds, 5)?.into());
        let warm_up = window.min(Duration::from_secs(2));
        Ok(Pace { rounds: number(&self.rounds, 3)? as usize, window, warm_up })
    }
}

/// Measures what was asked for.
///
/// # Errors
/// When a part cannot be started, or a byte is not where it should be: figures are void then.
pub(crate) async fn run(options: Options, interrupts: &mut Interrupts) -> anyhow::Result<ExitCode> {
    let (choice, pace) = (Choice::parse(&options.only)?, options.pace()?);
    tools::ensure(&tools::ALL)?;
    if cfg!(debug_assertions) {
        eprintln!("bench: this is a debug build: the figures say nothing about the service");
    }
    tokio::select! {
        measured = measure(&choice, pace, options.document.as_deref()) => measured.map(|()| ExitCode::SUCCESS),
        signal = interrupts.next() => bail!("interrupted by {signal}"),
    }
}

/// Each part has servers of its own: a database that has grown is not measured with the next.
async fn measure(choice: &Choice, pace: Pace, document: Option<&Path>) -> anyhow::Result<()> {
    let mut report = Report::new(pace);
    for (number, &scenario) in choice.cells.iter().enumerate() {
        let ground = Ground::start().await?;
        let cell = cell::measure(&ground, scenario, pace).await.with_context(|| scenario.to_string())?;
        println!("{}", tables::line(&cell, number == 0));
        report.cells.push(cell);
        report.write()?;
    }
    for &name in &choice.specials {
        let figures = specials::measure(name, pace).await.with_context(|| name.to_owned())?;
        println!("{}", tables::special(name, &figures));
        report.specials.insert(name.to_owned(), figures);
        report.write()?;
    }
    let path = report.write()?;
    let (folder, tables, plot) = (report::folder()?, tables::markdown(&report), plot::draw(&report.cells));
    std::fs::write(folder.join("tables.md"), &tables)?;
    std::fs::write(folder.join("performance.svg"), &plot)?;
    if let Some(document) = document {
        document::renew(document, &tables, &plot)?;
    }
    for [what, wanted, measured, holds] in targets::rows(&report.json()) {
        println!("{what:<58} {wanted:>8} {measured:>10}  {holds}");
    }
    println!("\n{}", path.display());
    Ok(())
}
