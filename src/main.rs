//! Arguments, settings, telemetry, run, exit code.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use uploader_v4::app::{self, Exit};
use uploader_v4::config::{Config, ConfigSources, Provenance};
use uploader_v4::gateways::upload_store::pool;
use uploader_v4::telemetry;

/// Takes video chunks from AMQP, makes them durable, answers them, and feeds them to ffmpeg, in order, each once.
///
/// Settings come from the built-in defaults, a TOML file and the environment; `uploader-v4 config` shows them all.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// A TOML file over the built-in defaults; UPLOADER_CONFIG names it too.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service until SIGTERM; a second one ends it at once.
    Serve,
    /// Make or update the schema `uploader`, and nothing else unless asked.
    Migrate {
        /// Also make those of the shared tables that are absent.
        #[arg(long)]
        shared_tables: bool,
        /// Make their byte columns `bigint`: only where no gateway with an ORM synchronises them.
        #[arg(long, requires = "shared_tables")]
        bigint: bool,
    },
    /// Print the effective settings, secrets redacted, and where each came from.
    Config {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// The process could not do what it was asked.
const FAILED: u8 = 1;
/// The settings cannot be used.
const MISCONFIGURED: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (config, provenance) = match Config::load(ConfigSources::from_process(arguments.config)) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("uploader-v4: {error}");
            return ExitCode::from(MISCONFIGURED);
        }
    };
    let ran = actix_rt::System::new().block_on(run(arguments.command, config, provenance));
    match ran {
        Ok(Exit::Clean) => ExitCode::SUCCESS,
        // Nothing may hold the process now, not even a thread that waits for a disk.
        Ok(Exit::Hurried) => std::process::exit(0),
        Err(error) => {
            eprintln!("uploader-v4: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

async fn run(command: Command, config: Config, provenance: Provenance) -> anyhow::Result<Exit> {
    match command {
        Command::Serve => {
            telemetry::init(&config.log).context("logging cannot be set up")?;
            provenance.notes().iter().for_each(|note| tracing::warn!("{note}"));
            app::serve(config).await
        }
        Command::Migrate { shared_tables, bigint } => migrate(&config, shared_tables, bigint).await,
        Command::Config { json } => {
            let report = config.report(&provenance);
            let text = if json { serde_json::to_string_pretty(&report)? } else { report.to_string() };
            print(&text)?;
            Ok(Exit::Clean)
        }
    }
}

/// Prints for a reader that may have seen enough, such as `head`.
fn print(text: &str) -> std::io::Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

async fn migrate(config: &Config, shared_tables: bool, bigint: bool) -> anyhow::Result<Exit> {
    let db = pool::open(&config.database, 1).await.context("the database cannot be reached")?;
    if shared_tables {
        let columns = if bigint { migration::ByteColumns::BigInt } else { migration::ByteColumns::Integer };
        migration::shared_tables(&db, columns).await?;
        println!("the shared tables are there");
    }
    let before = migration::up(&db).await?;
    println!("the schema uploader is up to date (it was: {before:?})");
    Ok(Exit::Clean)
}
