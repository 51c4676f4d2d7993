//! `devstack exec -- CMD`: one set of servers around one command.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::Context;
use devstack::{Endpoints, Process, Signal, Stack, Workspace, tools};

use crate::interrupts::Interrupts;

/// How long an interrupted command may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(30);
/// How often to look whether the command has ended.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) async fn run(command: &[OsString], interrupts: &mut Interrupts) -> anyhow::Result<ExitCode> {
    // The command may be a test run, which needs nginx and ffmpeg beside the servers.
    tools::ensure(&tools::ALL)?;
    let workspace = Workspace::new("exec")?;
    eprintln!("devstack: starting PostgreSQL, Redis and RabbitMQ");
    let stack = tokio::select! {
        started = Stack::start(&workspace) => started?,
        signal = interrupts.next() => return Ok(code_of_signal(signal)),
    };
    let process = start(command, &stack.endpoints())?;
    let status = wait(&process, interrupts).await?;
    drop(stack);
    Ok(code_of(status))
}

fn start(command: &[OsString], endpoints: &Endpoints) -> anyhow::Result<Process> {
    let (program, args) = command.split_first().context("no command")?;
    let builder = Process::command(program).args(args).envs(endpoints.to_env());
    // In its own process group the command is in the background of a terminal, where reading would stop it.
    let builder = if std::io::stdin().is_terminal() { builder } else { builder.inherit_stdin() };
    builder.start()
}

/// Passes signals on to the command's whole group; a second one, or a command that does not end, kills it.
async fn wait(process: &Process, interrupts: &mut Interrupts) -> anyhow::Result<ExitStatus> {
    let ended = async {
        while process.is_running() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = ended => {}
        signal = interrupts.next() => {
            // It may have ended just now, which is what was asked for.
            let _ = process.signal_group(signal);
            tokio::select! {
                _ = process.wait_exit(GRACE) => {}
                _ = interrupts.next() => {}
            }
            process.kill().await?;
        }
    }
    process.exit_status().context("the command has ended without a status")
}

fn code_of(status: ExitStatus) -> ExitCode {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        (None, Some(signal)) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)),
        (None, None) => ExitCode::FAILURE,
    }
}

fn code_of_signal(signal: Signal) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(1))
}
