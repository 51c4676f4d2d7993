//! A private Redis with many databases and no persistence: a restart empties it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use super::{Identity, START_ATTEMPTS, ready};
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
    tls: Option<(PortLease, Identity)>,
    folder: PathBuf,
    log: PathBuf,
}

impl Redis {
    /// Starts a server.
    ///
    /// # Errors
    /// When Redis is not installed, or does not answer a PING within 20 s.
    pub async fn start(workspace: &Workspace) -> anyhow::Result<Self> {
        Self::start_as(workspace, None).await
    }

    /// Starts a server that, beside its plain port, speaks TLS on another one.
    ///
    /// # Errors
    /// As `start`; also when it cannot use the identity.
    pub async fn start_tls(workspace: &Workspace, identity: &Identity) -> anyhow::Result<Self> {
        Self::start_as(workspace, Some(identity)).await
    }

    async fn start_as(workspace: &Workspace, identity: Option<&Identity>) -> anyhow::Result<Self> {
        let folder = workspace.folder("redis")?;
        let log = workspace.log("redis");
        let mut failure = anyhow::anyhow!("never tried");
        for _ in 0..START_ATTEMPTS {
            let port = PortLease::take()?;
            let tls = identity.map(|identity| Ok::<_, anyhow::Error>((PortLease::take()?, identity.clone())));
            let tls = tls.transpose()?;
            match launch(&folder, &log, &port, tls.as_ref()).await {
                Ok(process) => return Ok(Self { process, port, tls, folder, log }),
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
        self.process = launch(&self.folder, &self.log, &self.port, self.tls.as_ref()).await?;
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

    /// The port that speaks TLS, if the server was started so.
    #[must_use]
    pub fn tls_port(&self) -> Option<u16> {
        self.tls.as_ref().map(|(port, _)| port.number())
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

async fn launch(
    folder: &PathBuf,
    log: &PathBuf,
    port: &PortLease,
    tls: Option<&(PortLease, Identity)>,
) -> anyhow::Result<Process> {
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
        .args(tls.iter().flat_map(|(port, identity)| encrypted(port, identity)))
        .log(log)
        .start()?;
    let ping = async || command::<String>("127.0.0.1", port.number(), 0, &redis::cmd("PING")).await.map(drop);
    ready(&process, START, ping).await?;
    Ok(process)
}

fn encrypted(port: &PortLease, identity: &Identity) -> Vec<String> {
    let file = |path: &PathBuf| path.display().to_string();
    let pairs = [
        ("--tls-port", port.number().to_string()),
        ("--tls-cert-file", file(&identity.certificate)),
        ("--tls-key-file", file(&identity.key)),
        ("--tls-ca-cert-file", file(&identity.authority)),
        ("--tls-auth-clients", "no".to_owned()),
    ];
    pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
}
