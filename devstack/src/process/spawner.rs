//! The one thread that starts child processes.
//!
//! The kernel's "parent died" signal is bound to the *thread* that started the child, not to its process. A child
//! started by a test's own thread, or by a pool thread that idles out, would die with that thread. This one
//! lives as long as the process.

use std::io;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

struct Job {
    command: Command,
    reply: Sender<io::Result<Child>>,
}

static SPAWNER: OnceLock<Option<Sender<Job>>> = OnceLock::new();

/// Starts `command` from the long-lived thread.
pub(super) fn spawn(command: Command) -> io::Result<Child> {
    let gone = || io::Error::other("the thread that starts processes is gone");
    let spawner = SPAWNER.get_or_init(start).as_ref().ok_or_else(gone)?;
    let (reply, answer) = channel();
    spawner.send(Job { command, reply }).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

fn start() -> Option<Sender<Job>> {
    let (sender, jobs) = channel::<Job>();
    let run = move || {
        for mut job in jobs {
            // A caller that no longer listens loses the child's handle: it must not be left running.
            if let Err(unheard) = job.reply.send(job.command.spawn())
                && let Ok(mut child) = unheard.0
            {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    };
    std::thread::Builder::new().name("devstack-spawner".to_owned()).spawn(run).ok()?;
    Some(sender)
}
