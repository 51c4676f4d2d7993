//! What a child process is started with.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::unistd::{Pid, User};

use super::{KILL_WAIT, Process, Signal, State, spawner};
use crate::tools;

/// What to start, and how.
#[derive(Debug)]
pub struct ProcessBuilder {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    envs: Vec<(OsString, Option<OsString>)>,
    folder: Option<PathBuf>,
    log: Option<PathBuf>,
    user: Option<User>,
    death_signal: Signal,
    stop: (Signal, Duration),
    inherit_stdin: bool,
}

impl ProcessBuilder {
    /// A process without arguments, killed at once when its turn comes.
    pub(super) fn new(program: PathBuf) -> Self {
        Self {
            name: program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned(),
            program,
            args: Vec::new(),
            envs: Vec::new(),
            folder: None,
            log: None,
            user: None,
            death_signal: Signal::SIGKILL,
            stop: (Signal::SIGKILL, KILL_WAIT),
            inherit_stdin: false,
        }
    }

    /// The name for errors; the program's own by default.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// One more environment variable beside the inherited ones.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs.push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// More environment variables.
    #[must_use]
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(self, envs: impl IntoIterator<Item = (N, V)>) -> Self {
        envs.into_iter().fold(self, |builder, (name, value)| builder.env(name, value))
    }

    /// Takes an inherited environment variable away.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.envs.push((name.as_ref().to_owned(), None));
        self
    }

    /// The folder to start in.
    #[must_use]
    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// The file that standard output and error are appended to; without one they are inherited.
    #[must_use]
    pub fn log(mut self, file: impl Into<PathBuf>) -> Self {
        self.log = Some(file.into());
        self
    }

    /// The user to run as; needs root.
    #[must_use]
    pub fn run_as(mut self, user: Option<User>) -> Self {
        self.user = user;
        self
    }

    /// What the kernel sends when the owner is killed; SIGKILL by default.
    #[must_use]
    pub fn death_signal(mut self, signal: Signal) -> Self {
        self.death_signal = signal;
        self
    }

    /// What `Drop` sends, and how long it waits before it kills; SIGKILL at once by default.
    #[must_use]
    pub fn stop_signal(mut self, signal: Signal, grace: Duration) -> Self {
        self.stop = (signal, grace);
        self
    }

    /// Lets the process read the owner's standard input; otherwise it gets none.
    #[must_use]
    pub fn inherit_stdin(mut self) -> Self {
        self.inherit_stdin = true;
        self
    }

    /// Starts the process.
    ///
    /// # Errors
    /// When the program does not exist, the log cannot be written or the system starts no more processes.
    pub fn start(self) -> anyhow::Result<Process> {
        let command = self.system_command()?;
        let child =
            spawner::spawn(command).with_context(|| format!("cannot start {}", self.program.display()))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).context("a process id beyond any process")?);
        let state = Mutex::new(State::Running(child));
        Ok(Process { name: self.name, pid, state, log: self.log, stop: self.stop })
    }

    fn system_command(&self) -> anyhow::Result<Command> {
        let program = self.existing_program()?;
        let mut command = match tools::in_path("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(self.setpriv_args()).arg("--").arg(program);
                command
            }
            None if self.user.is_some() => {
                bail!("setpriv (package util-linux) is needed to run as another user")
            }
            None => Command::new(program),
        };
        command.args(&self.args).process_group(0);
        for (name, value) in &self.envs {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        if !self.inherit_stdin {
            command.stdin(Stdio::null());
        }
        if let Some(log) = &self.log {
            let file = std::fs::File::options().create(true).append(true).open(log);
            let file = file.with_context(|| format!("cannot write {}", log.display()))?;
            command.stdout(file.try_clone()?).stderr(file);
        }
        Ok(command)
    }

    fn existing_program(&self) -> anyhow::Result<PathBuf> {
        let found = match self.program.components().count() {
            1 => tools::in_path(&self.program.to_string_lossy()),
            _ => Some(self.program.clone()).filter(|path| path.is_file()),
        };
        found.with_context(|| format!("there is no program {}", self.program.display()))
    }

    fn setpriv_args(&self) -> Vec<String> {
        let mut args = Vec::new();
        if let Some(user) = &self.user {
            args.extend([format!("--reuid={}", user.uid), format!("--regid={}", user.gid)]);
            args.push("--init-groups".to_owned());
        }
        args.push(format!("--pdeathsig={}", self.death_signal.as_str().trim_start_matches("SIG")));
        args
    }
}
