//! Private servers for one machine, for tests and for the demo.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Private PostgreSQL, Redis, RabbitMQ and nginx on loopback ports; nothing on the machine is touched, nothing is left.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a command with servers of its own; their addresses are in DEVSTACK_* variables.
    Exec {
        /// The command and its arguments, after `--`.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Tell what is installed and what is missing.
    Doctor,
}

fn main() -> ExitCode {
    let ran = match Arguments::parse().command {
        Command::Exec { command } => actix_rt::System::new().block_on(devstack::exec::exec(&command)),
        Command::Doctor => Ok(doctor()),
    };
    ran.unwrap_or_else(|error| {
        eprintln!("devstack: {error:#}");
        ExitCode::FAILURE
    })
}

fn doctor() -> ExitCode {
    let missing = devstack::tools::missing(&devstack::tools::ALL);
    for tool in devstack::tools::ALL {
        println!("{:<12} {}", tool.name(), if missing.contains(&tool) { "missing" } else { "found" });
    }
    if missing.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("{}", devstack::tools::advice(&missing));
    ExitCode::FAILURE
}
