//! A program that is killed, frozen and started again, and the process manager that starts it when it ends by itself.

use std::cell::{Cell, RefCell};
use std::os::unix::process::ExitStatusExt;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use devstack::{Process, ProcessBuilder, Signal};

/// How often the process manager looks.
const LOOK: Duration = Duration::from_millis(200);
/// The pause of a process manager before it starts a program again.
const PAUSE: Duration = Duration::from_secs(1);

type Build = Box<dyn Fn() -> anyhow::Result<ProcessBuilder>>;

/// One program of the farm, running or not.
pub(super) struct Program {
    build: Build,
    process: RefCell<Option<Rc<Process>>>,
    /// It should be running: its end is its own doing.
    wanted: Cell<bool>,
    /// How it ended by itself.
    own_ends: RefCell<Vec<String>>,
}

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(
        build: impl Fn() -> anyhow::Result<ProcessBuilder> + 'static,
    ) -> anyhow::Result<Self> {
        let program = Self {
            build: Box::new(build),
            process: RefCell::default(),
            wanted: Cell::new(false),
            own_ends: RefCell::default(),
        };
        program.launch()?;
        Ok(program)
    }

    /// The running process.
    pub(super) fn process(&self) -> Option<Rc<Process>> {
        self.process.borrow().clone().filter(|process| process.is_running())
    }

    /// Starts it again; one that runs goes on.
    pub(super) fn launch(&self) -> anyhow::Result<()> {
        if self.process().is_none() {
            let process = (self.build)()?.start()?;
            self.process.replace(Some(Rc::new(process)));
        }
        self.wanted.set(true);
        Ok(())
    }

    /// kill -9, with all that it has started.
    pub(super) async fn kill(&self) -> anyhow::Result<()> {
        self.wanted.set(false);
        match self.process() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// SIGTERM; an end that takes longer than `deadline`, or is not a success, is an error.
    pub(super) async fn terminate(&self, deadline: Duration) -> anyhow::Result<()> {
        self.wanted.set(false);
        let Some(process) = self.process() else { return Ok(()) };
        process.signal(Signal::SIGTERM)?;
        let status = process
            .wait_exit(deadline)
            .await
            .with_context(|| format!("{} did not leave within {deadline:?} of SIGTERM", process.name()))?;
        // One that has only just started may not listen to signals yet.
        if !status.success() && status.signal() != Some(Signal::SIGTERM as i32) {
            bail!("{} left with {status} after SIGTERM", process.name());
        }
        Ok(())
    }

    /// SIGSTOP for so long.
    pub(super) async fn freeze(&self, time: Duration) -> anyhow::Result<()> {
        let Some(process) = self.process() else { return Ok(()) };
        process.signal(Signal::SIGSTOP)?;
        tokio::time::sleep(time).await;
        process.signal(Signal::SIGCONT)
    }

    /// How it ended by itself, so far.
    pub(super) fn own_ends(&self) -> Vec<String> {
        self.own_ends.borrow().clone()
    }

    /// Starts it again whenever it ends by itself; never returns but with an error.
    pub(super) async fn keep(&self) -> anyhow::Result<()> {
        loop {
            tokio::time::sleep(LOOK).await;
            let ended = self.process.borrow().clone().and_then(|process| {
                process.exit_status().map(|status| format!("{} ended with {status}", process.name()))
            });
            let Some(end) = ended.filter(|_| self.wanted.get()) else { continue };
            self.own_ends.borrow_mut().push(end);
            tokio::time::sleep(PAUSE).await;
            if self.wanted.get() {
                self.launch()?;
            }
        }
    }
}
