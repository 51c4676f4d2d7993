//! The operator's commands: what may be asked is said here, one file below answers each.

mod actor;
mod check;
mod config;
mod healthcheck;
mod janitor;
mod migrate;
mod output;
mod replicas;
mod send;
mod serve;
mod sessions;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use self::output::Output;
use crate::config::{Config, Provenance};

/// Takes video chunks from AMQP, makes them durable, answers them, and feeds them to ffmpeg, in order, each once.
///
/// Settings come from the built-in defaults, a TOML file and the environment; `uploader-v4 config` shows them all, and
/// every command reads them as `serve` does: run it where the service runs, with the same environment.
#[derive(Parser, Debug)]
#[command(version, after_help = EXIT_CODES)]
pub struct Arguments {
    /// A TOML file over the built-in defaults; UPLOADER_CONFIG names it too.
    #[arg(long, global = true)]
    pub config: Option<PathBuf>,
    /// Answer with JSON on standard output; logs and progress stay on standard error.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it could not be done, or what was checked is not well
  2  the arguments or the settings cannot be used
  3  refused: there is no such thing, or its state does not allow it; nothing was changed";

/// What may be asked.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the service until SIGTERM; a second one ends it at once.
    Serve,
    /// Make or update the schema `uploader`, and nothing else unless asked.
    Migrate(migrate::Migrate),
    /// Print the effective settings, secrets redacted, and where each came from.
    Config,
    /// Connect to everything, say what is wrong and how to mend it.
    Check(check::Check),
    /// Look at uploads, try a failed one again, end a live one.
    Sessions(sessions::Sessions),
    /// Remove what nobody uses any more, now.
    Janitor(janitor::Janitor),
    /// Look at the replicas of this service and of fflow.
    Replicas(replicas::Replicas),
    /// Upload a file as gateway would, and wait until it plays.
    Send(send::Send),
    /// Ask the replica on this host whether it is well; for containers.
    Healthcheck(healthcheck::Healthcheck),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As asked.
    Done,
    /// A second signal: the process must end at once, whatever is under way.
    Hurried,
    /// What was checked is not well; what is wrong was printed.
    Unwell,
    /// No such thing, or its state does not allow it; the reason was printed.
    Refused,
}

/// Carries out a command.
///
/// # Errors
/// What kept it from being done, as one line for people.
pub async fn run(arguments: Arguments, config: Config, provenance: Provenance) -> anyhow::Result<Outcome> {
    let output = Output::new(arguments.json);
    match arguments.command {
        Command::Serve => serve::run(config, &provenance).await,
        Command::Migrate(ask) => migrate::run(&ask, &config, output).await,
        Command::Config => config::run(&config, &provenance, output),
        Command::Check(ask) => check::run(&ask, &config, &provenance, output).await,
        Command::Sessions(ask) => sessions::run(&ask, &config, output).await,
        Command::Janitor(ask) => janitor::run(&ask, config, output).await,
        Command::Replicas(ask) => replicas::run(&ask, &config, output).await,
        Command::Send(ask) => send::run(&ask, &config, output).await,
        Command::Healthcheck(ask) => healthcheck::run(&ask, &config, output).await,
    }
}
