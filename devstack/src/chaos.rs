//! `devstack chaos`: the whole system under fire. Forty uploads at once, a nemesis that breaks one thing after another
//! by a plan that its seed gives, and at the end the promises looked at one by one.

mod browser;
mod chronicle;
mod clips;
mod database;
mod explain;
mod farm;
mod fault;
mod front;
mod judge;
mod links;
mod nemesis;
mod parts;
mod plan;
mod processes;
mod program;
mod report;
mod run;
mod settle;
mod volume;

use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, bail};
use devstack::{Workspace, tools};
use tokio::task::JoinSet;

use crate::interrupts::Interrupts;

/// What chaos does, by options or environment; an empty variable, as make passes on an unset one, means the default.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long things are broken, in seconds; 60 by default
    #[arg(long, env = "CHAOS_SECONDS", default_value = "", hide_default_value = true)]
    seconds: String,
    /// Repeats the plan of another run; a new one by default
    #[arg(long, env = "SEED", default_value = "", hide_default_value = true)]
    seed: String,
    /// Uploads at once; 40 by default
    #[arg(long, env = "CHAOS_CLIENTS", default_value = "", hide_default_value = true)]
    clients: String,
    /// Has the recording fflow feed one block twice, once, to show that it is noticed: the run must fail
    #[arg(long)]
    betray: bool,
}

/// The options as they are meant.
pub(super) struct Terms {
    seconds: u64,
    seed: u64,
    clients: usize,
    betray: bool,
}

impl Terms {
    fn of(options: &Options) -> anyhow::Result<Self> {
        let number = |name: &str, text: &str, default: u64| match text {
            "" => Ok(default),
            text => text.parse().with_context(|| format!("{name}={text} is no whole number")),
        };
        let clients = number("CHAOS_CLIENTS", &options.clients, 40)?;
        Ok(Self {
            seconds: number("CHAOS_SECONDS", &options.seconds, 60)?,
            seed: number("SEED", &options.seed, fastrand::u64(0..1_000_000))?,
            clients: usize::try_from(clients)?,
            betray: options.betray,
        })
    }
}

/// Runs it; the last line says how it went.
pub(crate) async fn run(options: Options, interrupts: &mut Interrupts) -> ExitCode {
    let outcome = match Terms::of(&options) {
        Ok(terms) => show(&terms, interrupts).await.with_context(|| format!("seed {}", terms.seed)),
        Err(error) => Err(error),
    };
    match outcome {
        Ok((true, line)) => {
            println!("CHAOS OK: {line}");
            ExitCode::SUCCESS
        }
        Ok((false, line)) => {
            println!("CHAOS FAILED: {line}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error:#}");
            let whole = format!("{error:#}");
            println!("CHAOS FAILED: {}", whole.lines().next().unwrap_or_default());
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well, and the last line's numbers.
async fn show(terms: &Terms, interrupts: &mut Interrupts) -> anyhow::Result<(bool, String)> {
    volume::enter_namespace()?;
    tools::ensure(&tools::ALL)?;
    let workspace = Rc::new(Workspace::new("chaos")?);
    let mut tasks = JoinSet::new();
    let outcome = tokio::select! {
        outcome = run::fire(terms, &workspace, &mut tasks) => outcome,
        signal = interrupts.next() => Err(anyhow::anyhow!("interrupted by {signal}")),
    };
    tasks.shutdown().await;
    let well = matches!(outcome, Ok((true, _)));
    if !well {
        match keep_logs(&workspace, terms.seed) {
            Ok(folder) => eprintln!("the logs are in {folder}; SEED={} repeats the plan", terms.seed),
            Err(error) => eprintln!("the logs could not be kept: {error:#}"),
        }
    }
    outcome
}

fn keep_logs(workspace: &Workspace, seed: u64) -> anyhow::Result<String> {
    let folder = report::folder()?.join(format!("logs-{seed}"));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    for entry in std::fs::read_dir(workspace.path())? {
        let path = entry?.path();
        if let (Some(name), Some("log")) = (path.file_name(), path.extension().and_then(|end| end.to_str())) {
            std::fs::copy(&path, folder.join(name))?;
        }
    }
    if std::fs::read_dir(&folder)?.next().is_none() {
        bail!("there are none");
    }
    Ok(folder.display().to_string())
}
