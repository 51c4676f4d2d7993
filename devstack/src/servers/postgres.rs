//! A private PostgreSQL.
//!
//! It survives the death of its own processes but not that of the machine: nothing is synced to disk, which
//! makes tests fast and loses nothing that a killed process could lose. Whoever measures starts a durable one, which
//! syncs as in production.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::unistd::User;
use sea_orm::ConnectionTrait;

use super::{Identity, START_ATTEMPTS, ready};
use crate::database;
use crate::ports::PortLease;
use crate::process::{Process, Signal};
use crate::tools::Tool;
use crate::workspace::Workspace;

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(20);

/// Each as `-c name=value`.
const SETTINGS: [&str; 10] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=500",
    "shared_buffers=64MB",
    "fsync=off",
    "full_page_writes=off",
    "max_wal_size=2GB",
    "autovacuum_naptime=10s",
    "log_min_messages=warning",
    "timezone=UTC",
];

/// What a durable server is started with besides; later settings win. Segments of its log are kept to be written again.
const DURABLE: [&str; 4] = ["fsync=on", "full_page_writes=on", "synchronous_commit=on", "min_wal_size=512MB"];
/// Segments of 16 MiB that a durable server's log has before anybody uses it.
const LOG_SEGMENTS: usize = 24;

/// How PostgreSQL is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// Open transactions are rolled back, clients disconnected, the state written (SIGINT).
    Fast,
    /// All server processes quit at once, as in a crash; the next start recovers (SIGQUIT).
    Immediate,
}

/// A PostgreSQL server with the superuser `postgres`, whom it trusts.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: PortLease,
    data: PathBuf,
    log: PathBuf,
    user: Option<User>,
    durable: bool,
}

impl Postgres {
    /// Makes a new cluster and starts it. As root it runs as the user `postgres` or, without one, `nobody`.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, or does not answer a query within a minute.
    pub async fn start(workspace: &Workspace) -> anyhow::Result<Self> {
        Self::start_as(workspace, None, false).await
    }

    /// Like `start`, but what it commits is on the disk, as in production, and its log goes into segments that were
    /// written before: a new server fills each with zeros first, one that has run for a while does not.
    ///
    /// # Errors
    /// As `start`.
    pub async fn start_durable(workspace: &Workspace) -> anyhow::Result<Self> {
        let server = Self::start_as(workspace, None, true).await?;
        fill_log(&server.url("postgres")).await.context("cannot fill PostgreSQL's log")?;
        Ok(server)
    }

    /// Like `start`, but clients that ask for it are spoken to with TLS.
    ///
    /// # Errors
    /// As `start`; also when it cannot use the identity.
    pub async fn start_tls(workspace: &Workspace, identity: &Identity) -> anyhow::Result<Self> {
        Self::start_as(workspace, Some(identity), false).await
    }

    async fn start_as(
        workspace: &Workspace,
        identity: Option<&Identity>,
        durable: bool,
    ) -> anyhow::Result<Self> {
        let user = unprivileged_user()?;
        let data = workspace.reachable_folder("postgres")?;
        let log = workspace.log("postgres");
        make_cluster(&data, &log, user.as_ref()).await?;
        if let Some(identity) = identity {
            encrypt(&data, identity, user.as_ref())?;
        }
        let mut failure = anyhow::anyhow!("never tried");
        for _ in 0..START_ATTEMPTS {
            let port = PortLease::take()?;
            match launch(&data, &log, user.clone(), &port, durable).await {
                Ok(process) => return Ok(Self { process, port, data, log, user, durable }),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Stops the server and waits until it is gone; its port stays reserved. A stopped one is fine.
    ///
    /// # Errors
    /// When it does not end, even killed.
    pub async fn stop(&mut self, kill: Kill) -> anyhow::Result<()> {
        let signal = match kill {
            Kill::Fast => Signal::SIGINT,
            Kill::Immediate => Signal::SIGQUIT,
        };
        self.process.stop(signal, STOP).await
    }

    /// Starts the server again, on the same port and data; a running one is stopped first.
    ///
    /// # Errors
    /// When it does not answer a query within a minute.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop(Kill::Fast).await?;
        self.process = launch(&self.data, &self.log, self.user.clone(), &self.port, self.durable).await?;
        Ok(())
    }

    /// `postgresql://postgres@127.0.0.1:<port>/<database>`.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        url(&self.port, database)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Makes a database, as a copy of `template` when one is given.
    ///
    /// # Errors
    /// When it exists, or somebody stays connected to the template.
    pub async fn create_database(&self, name: &str, template: Option<&str>) -> anyhow::Result<()> {
        database::create(&self.url("postgres"), name, template).await
    }

    /// The server's main process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn url(port: &PortLease, database: &str) -> String {
    format!("postgresql://postgres@{}/{database}", port.address())
}

/// PostgreSQL refuses to run as root.
fn unprivileged_user() -> anyhow::Result<Option<User>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name).context("cannot look up a user")? {
            return Ok(Some(user));
        }
    }
    bail!("PostgreSQL refuses root, and there is neither a user postgres nor nobody")
}

async fn make_cluster(data: &Path, log: &Path, user: Option<&User>) -> anyhow::Result<()> {
    if let Some(user) = user {
        std::os::unix::fs::chown(data, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            .with_context(|| format!("cannot give {} to {}", data.display(), user.name))?;
    }
    let initdb = Process::command(Tool::Postgres.program("initdb")?)
        .args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
            "--pgdata",
        ])
        .arg(data)
        .current_dir("/")
        .run_as(user.cloned())
        .log(log)
        .start()?;
    let status = initdb.wait_exit(START).await?;
    if !status.success() {
        bail!("initdb failed ({status}){}", initdb.log_for_error());
    }
    Ok(())
}

/// Gives the cluster an identity under the names that it looks for; the key must be the server's alone.
fn encrypt(data: &Path, identity: &Identity, user: Option<&User>) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for (from, name) in [(&identity.certificate, "server.crt"), (&identity.key, "server.key")] {
        let to = data.join(name);
        std::fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o600))?;
        std::os::unix::fs::chown(
            &to,
            user.map(|user| user.uid.as_raw()),
            user.map(|user| user.gid.as_raw()),
        )?;
    }
    let mut settings = File::options().append(true).open(data.join("postgresql.conf"))?;
    settings.write_all(b"ssl = on\n").context("cannot write postgresql.conf")
}

/// Segments before the checkpoint become those that come next. One in which nothing is would not be left.
async fn fill_log(admin_url: &str) -> anyhow::Result<()> {
    let connection = database::connect(admin_url).await?;
    for _ in 0..LOG_SEGMENTS {
        connection.execute_unprepared("SELECT pg_logical_emit_message(false, '', '')").await?;
        connection.execute_unprepared("SELECT pg_switch_wal()").await?;
    }
    connection.execute_unprepared("CHECKPOINT").await?;
    connection.close().await.context("cannot close the connection")
}

async fn launch(
    data: &Path,
    log: &Path,
    user: Option<User>,
    port: &PortLease,
    durable: bool,
) -> anyhow::Result<Process> {
    let more = if durable { &DURABLE[..] } else { &[] };
    let settings = SETTINGS.iter().chain(more).flat_map(|setting| ["-c", setting]);
    let process = Process::command(Tool::Postgres.program("postgres")?)
        .args(["-p", &port.number().to_string(), "-D"])
        .arg(data)
        .args(settings)
        .current_dir("/")
        .run_as(user)
        .log(log)
        // Its own processes are in sessions of their own: only the main one can take them along.
        .death_signal(Signal::SIGQUIT)
        .stop_signal(Signal::SIGQUIT, STOP)
        .start()?;
    let admin_url = url(port, "postgres");
    ready(&process, START, async || database::execute(&admin_url, "SELECT 1").await).await?;
    Ok(process)
}
