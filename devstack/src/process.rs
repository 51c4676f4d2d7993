//! Child processes that never outlive their owner.
//!
//! Each child is the leader of a process group of its own, so a Ctrl-C at the terminal reaches the owner alone,
//! which then stops everything in order. A child is stopped when its `Process` is dropped; if the owner is
//! killed outright the kernel kills the child (`setpriv --pdeathsig`).

mod builder;
mod spawner;

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

pub use self::builder::ProcessBuilder;
pub use nix::sys::signal::Signal;

/// How often a wait looks whether a child has ended.
const LOOK: Duration = Duration::from_millis(5);
/// How long `kill` waits for the kernel to end a process that got SIGKILL.
const KILL_WAIT: Duration = Duration::from_secs(10);
/// The most that is read from the end of a log, in bytes.
const TAIL_BYTES: u64 = 64 * 1024;

/// A child process, stopped with everything in its process group when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    state: Mutex<State>,
    log: Option<PathBuf>,
    stop: (Signal, Duration),
}

#[derive(Debug)]
enum State {
    Running(Child),
    Ended(ExitStatus),
}

impl Process {
    /// Begins the description of a process; `program` is a path or a name in `PATH`.
    #[must_use]
    pub fn command(program: impl Into<PathBuf>) -> ProcessBuilder {
        ProcessBuilder::new(program.into())
    }

    /// The process id; it stays this process's own until the end was noticed by one of the methods here.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// The name used in errors.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True until the process has ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(&*self.look(), State::Running(_))
    }

    /// How the process ended, or `None` while it runs.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        match &*self.look() {
            State::Running(_) => None,
            State::Ended(status) => Some(*status),
        }
    }

    /// Sends `signal` to the process alone.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.send(signal, kill)
    }

    /// Sends `signal` to the process and to those that it started in its process group.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal_group(&self, signal: Signal) -> anyhow::Result<()> {
        self.send(signal, killpg)
    }

    fn send(&self, signal: Signal, how: impl Fn(Pid, Signal) -> nix::Result<()>) -> anyhow::Result<()> {
        // The lock is held so that nobody reaps the process, and frees its id, before the signal is sent.
        let state = self.look();
        if let State::Ended(status) = &*state {
            bail!("{} has ended ({status}) and gets no {signal}", self.name);
        }
        how(self.pid, signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Kills the process and its group with SIGKILL and waits until it is gone. An ended process is fine.
    ///
    /// # Errors
    /// When the kernel does not end it within 10 s.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.kill_group();
        self.wait_exit(KILL_WAIT).await.map(drop)
    }

    /// Sends `signal` and waits up to `grace`, then kills. An ended process is fine.
    ///
    /// # Errors
    /// When the kernel does not end it.
    pub async fn stop(&self, signal: Signal, grace: Duration) -> anyhow::Result<()> {
        if self.is_running() && self.signal(signal).is_ok() && self.wait_exit(grace).await.is_ok() {
            return Ok(());
        }
        self.kill().await
    }

    /// Waits until the process has ended.
    ///
    /// # Errors
    /// When it still runs after `deadline`; the end of its log is in the error.
    pub async fn wait_exit(&self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.exit_status() {
                return Ok(status);
            }
            if Instant::now() >= end {
                bail!("{} still runs after {deadline:?}{}", self.name, self.log_for_error());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The last `lines` lines of the log, or nothing when there is none.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        self.log.as_deref().map(|log| tail(log, lines)).unwrap_or_default()
    }

    /// The file with what the process wrote to standard output and error.
    #[must_use]
    pub fn log_path(&self) -> Option<&Path> {
        self.log.as_deref()
    }

    /// The end of the log, worded as the end of an error message.
    pub(crate) fn log_for_error(&self) -> String {
        match &self.log {
            Some(log) => format!("; the end of {}:\n{}", log.display(), tail(log, 30)),
            None => String::new(),
        }
    }

    /// Reaps the process if it has ended; whatever it left in its group goes with it.
    fn look(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Running(child) = &mut *state {
            // WNOWAIT keeps the ended leader, and so the group's id, until the group has been swept.
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            if !matches!(waitid(Id::Pid(self.pid), flags), Ok(WaitStatus::StillAlive)) {
                let _ = killpg(self.pid, Signal::SIGKILL);
                if let Ok(status) = child.wait() {
                    *state = State::Ended(status);
                }
            }
        }
        state
    }

    fn kill_group(&self) {
        if let State::Running(_) = &*self.look() {
            let _ = killpg(self.pid, Signal::SIGKILL);
        }
    }

    fn wait_blocking(&self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        while self.is_running() {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let (signal, grace) = self.stop;
        if signal != Signal::SIGKILL
            && self.is_running()
            && self.signal(signal).is_ok()
            && self.wait_blocking(grace)
        {
            return;
        }
        self.kill_group();
        self.wait_blocking(KILL_WAIT);
    }
}

/// The last `lines` lines of a file, as far as they fit 64 KiB; nothing when it cannot be read.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests;
