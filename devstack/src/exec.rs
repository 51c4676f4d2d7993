//! `devstack exec`: servers for one command.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::process::{Process, Signal};
use crate::stack::Stack;
use crate::tools;
use crate::workspace::Workspace;

/// How long a command may take to end after a signal.
const GRACE: Duration = Duration::from_secs(20);
/// How long a command may run at most.
const AT_MOST: Duration = Duration::from_secs(4 * 3600);

/// Starts PostgreSQL, Redis and RabbitMQ, runs the command with their addresses in its environment, stops everything,
/// and ends as the command ended.
///
/// # Errors
/// When a tool is missing, a server does not start or the command cannot be run.
pub async fn exec(command: &[String]) -> anyhow::Result<ExitCode> {
    tools::ensure(&tools::ALL)?;
    let (program, arguments) = command.split_first().context("no command to run")?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let workspace = Workspace::new("exec")?;
    eprintln!("devstack: starting PostgreSQL, Redis and RabbitMQ");
    let stack = tokio::select! {
        stack = Stack::start(&workspace) => stack?,
        _ = terminate.recv() => return Ok(interrupted()),
        _ = interrupt.recv() => return Ok(interrupted()),
    };
    let program = tools::in_path(program).unwrap_or_else(|| PathBuf::from(program));
    let child = Process::command(program)
        .args(arguments)
        .envs(stack.endpoints().to_env())
        .inherit_stdin()
        .start()
        .with_context(|| format!("cannot run {command:?}"))?;
    let ended = tokio::select! {
        status = child.wait_exit(AT_MOST) => Some(status?),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    match ended {
        Some(status) => Ok(status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .map_or(ExitCode::FAILURE, ExitCode::from)),
        None => {
            child.stop(Signal::SIGTERM, GRACE).await?;
            Ok(interrupted())
        }
    }
}

/// As a shell tells of a command that a signal ended.
fn interrupted() -> ExitCode {
    ExitCode::from(130)
}
