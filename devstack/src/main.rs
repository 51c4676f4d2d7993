//! `devstack`: private servers around a command, and the demo of uploader-v4.

mod bench;
mod chaos;
mod clip;
mod compose;
mod demo;
mod doctor;
mod exec;
mod interrupts;
mod progress;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::interrupts::Interrupts;

/// Private PostgreSQL, Redis, RabbitMQ and nginx for one machine; nothing touches servers that are already on it.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start PostgreSQL, Redis and RabbitMQ, run a command that finds them in DEVSTACK_* variables, stop them,
    /// and exit as the command did
    Exec {
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Tell which programs are found and what to install
    Doctor,
    /// Bring docker/compose.yml up on the engine that is there, upload through it while its parts die, take it down
    ComposeTest,
    /// Measure the service against what the broker and the disk allow, on servers of its own
    Bench(bench::Options),
    /// The consumer that answers at once, for `bench`
    #[command(hide = true)]
    BenchEcho(bench::EchoOptions),
    /// The fflow that takes bytes at once, for `bench`
    #[command(hide = true)]
    BenchSink(bench::SinkOptions),
    /// Upload a video through a whole system on this machine and check what comes out
    Demo(demo::Options),
    /// Break everything at random under forty uploads, and check that nobody lost a byte
    Chaos(chaos::Options),
}

#[actix_rt::main]
async fn main() -> ExitCode {
    // clap prints its own complaint, and help, and then ends the process.
    let arguments = Arguments::parse();
    let outcome = match Interrupts::listen() {
        Ok(mut interrupts) => run(arguments.command, &mut interrupts).await,
        Err(error) => Err(error),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("devstack: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(command: Command, interrupts: &mut Interrupts) -> anyhow::Result<ExitCode> {
    match command {
        Command::Exec { command } => exec::run(&command, interrupts).await,
        Command::Bench(options) => bench::run(options, interrupts).await,
        Command::BenchEcho(options) => bench::echo(&options).await,
        Command::BenchSink(options) => bench::sink(options).await,
        Command::ComposeTest => Ok(compose::run(interrupts).await),
        Command::Doctor => Ok(doctor::run()),
        Command::Chaos(options) => Ok(chaos::run(options, interrupts).await),
        Command::Demo(options) => Ok(demo::run(options, interrupts).await),
    }
}
