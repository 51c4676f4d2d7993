//! A private Redis with many databases and no persistence: a restart empties it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use super::{START_ATTEMPTS, ready};
use crate::ports::PortLease;
use crate::process::{Process, Signal};
use crate::tools::Tool;
use crate::workspace::Workspace;

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(10);

/// How many databases the server has, number 0 included.
pub const DATABASES: u32 = 4096;

/// A Redis server on 127.0.0.1.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: PortLease,
    folder: PathBuf,
    log: PathBuf,
}

impl Redis {
    /// Starts a server.
    ///
    /// # Errors
    /// When Redis is not installed, or does not answer a PING within 20 s.
    pub async fn start(workspace: &Workspace) -> anyhow::Result<Self> {
        let folder = workspace.folder("redis")?;
        let log = workspace.log("redis");
        let mut failure = anyhow::anyhow!("never tried");
        for _ in 0..START_ATTEMPTS {
            let port = PortLease::take()?;
            match launch(&folder, &log, &port).await {
                Ok(process) => return Ok(Self { process, port, folder, log }),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Stops the server and waits until it is gone; its port stays reserved. A stopped one is fine.
    ///
    /// # Errors
    /// When it does not end, even killed.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop(Signal::SIGTERM, STOP).await
    }

    /// Starts the server again, empty, on the same port; a running one is stopped first.
    ///
    /// # Errors
    /// When it does not answer a PING within 20 s.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        self.process = launch(&self.folder, &self.log, &self.port).await?;
        Ok(())
    }

    /// `127.0.0.1`.
    #[must_use]
    pub fn host(&self) -> &str {
        "127.0.0.1"
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The server's process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// Sends one command to a database of a Redis server on a connection of its own.
///
/// # Errors
/// When the server cannot be reached, or refuses the command.
pub async fn command<T: redis::FromRedisValue>(
    host: &str,
    port: u16,
    database: u32,
    command: &redis::Cmd,
) -> anyhow::Result<T> {
    let client =
        redis::Client::open(format!("redis://{host}:{port}/{database}")).context("no address of Redis")?;
    let mut connection =
        client.get_multiplexed_async_connection().await.context("cannot connect to Redis")?;
    command.query_async(&mut connection).await.context("Redis refused")
}

async fn launch(folder: &PathBuf, log: &PathBuf, port: &PortLease) -> anyhow::Result<Process> {
    let process = Process::command(Tool::Redis.program("redis-server")?)
        .args(["--bind", "127.0.0.1", "--port", &port.number().to_string()])
        .args([
            "--databases",
            &DATABASES.to_string(),
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
        ])
        .arg("--dir")
        .arg(folder)
        .log(log)
        .start()?;
    let ping = async || command::<String>("127.0.0.1", port.number(), 0, &redis::cmd("PING")).await.map(drop);
    ready(&process, START, ping).await?;
    Ok(process)
}
