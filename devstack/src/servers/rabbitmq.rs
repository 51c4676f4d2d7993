//! A private RabbitMQ with its management plugin, everything on loopback.

mod files;
pub mod management;

use std::time::Duration;

use anyhow::{Context, bail};
use lapin::{Connection, ConnectionProperties};

use self::files::Files;
use self::management::{Management, QueueDepth};
use super::{Identity, START_ATTEMPTS, ready};
use crate::ports::PortLease;
use crate::process::{Process, Signal};
use crate::tools::Tool;
use crate::workspace::Workspace;

const START: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(60);
const TALK: Duration = Duration::from_secs(5);
const CONTROL: Duration = Duration::from_secs(30);
/// The share of the machine's memory above which the broker raises its alarm: less than it ever has, and its default.
const ALARMING_SHARE: &str = "0.000001";
const USUAL_SHARE: &str = "0.4";

/// The ports of one broker.
#[derive(Debug)]
pub(crate) struct Ports {
    amqp: PortLease,
    /// Only of a broker with an identity.
    amqps: Option<PortLease>,
    management: PortLease,
    distribution: PortLease,
    epmd: PortLease,
}

/// A RabbitMQ broker with the user `guest`.
#[derive(Debug)]
pub struct RabbitMq {
    // Before epmd: fields are dropped in this order, and a node does not like to lose its name server.
    process: Process,
    epmd: Process,
    files: Files,
    ports: Ports,
}

impl RabbitMq {
    /// Starts a broker, which takes 5 to 10 s.
    ///
    /// # Errors
    /// When RabbitMQ is not installed, or does not open a channel and answer on its management port in time.
    pub async fn start(workspace: &Workspace) -> anyhow::Result<Self> {
        Self::start_as(workspace, None).await
    }

    /// Starts a broker that, beside its plain port, speaks TLS on another one.
    ///
    /// # Errors
    /// As `start`; also when it cannot use the identity.
    pub async fn start_tls(workspace: &Workspace, identity: &Identity) -> anyhow::Result<Self> {
        Self::start_as(workspace, Some(identity)).await
    }

    async fn start_as(workspace: &Workspace, identity: Option<&Identity>) -> anyhow::Result<Self> {
        let mut failure = anyhow::anyhow!("never tried");
        for _ in 0..START_ATTEMPTS {
            let ports = Ports::take(identity.is_some())?;
            let files = Files::write(workspace, &ports, identity)?;
            match launch_both(&files, &ports).await {
                Ok((process, epmd)) => return Ok(Self { process, epmd, files, ports }),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Stops the broker orderly and waits until it is gone; its ports stay reserved. A stopped one is fine.
    ///
    /// # Errors
    /// When it does not end, even killed.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop(Signal::SIGTERM, STOP).await
    }

    /// Kills the broker without warning.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().await
    }

    /// Starts the broker again, on the same ports and data; a running one is stopped first.
    ///
    /// # Errors
    /// When it does not come up in time.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        if !self.epmd.is_running() {
            self.epmd = launch_epmd(&self.files, &self.ports).await?;
        }
        self.process = launch_broker(&self.files, &self.ports).await?;
        Ok(())
    }

    /// `amqp://guest:guest@127.0.0.1:<port>/<vhost>`; give `%2f` for the vhost `/`.
    #[must_use]
    pub fn amqp_url(&self, vhost: &str) -> String {
        self.ports.amqp_url(vhost)
    }

    /// The address of the management API, with credentials.
    #[must_use]
    pub fn management_url(&self) -> String {
        self.ports.management_url()
    }

    /// The AMQP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.amqp.number()
    }

    /// The port that speaks TLS, if the broker was started so.
    #[must_use]
    pub fn tls_port(&self) -> Option<u16> {
        self.ports.amqps.as_ref().map(PortLease::number)
    }

    /// The management API.
    #[must_use]
    pub fn management(&self) -> Management {
        Management::new(self.management_url())
    }

    /// Makes a vhost that `guest` may use.
    ///
    /// # Errors
    /// As the management API.
    pub async fn create_vhost(&self, name: &str) -> anyhow::Result<()> {
        self.management().create_vhost(name).await
    }

    /// Removes a vhost and everything in it; an absent one is fine.
    ///
    /// # Errors
    /// As the management API.
    pub async fn delete_vhost(&self, name: &str) -> anyhow::Result<()> {
        self.management().delete_vhost(name).await
    }

    /// The messages in a queue, as of at most half a second ago; `None` without such a queue.
    ///
    /// # Errors
    /// As the management API.
    pub async fn queue_depth(&self, vhost: &str, queue: &str) -> anyhow::Result<Option<QueueDepth>> {
        self.management().queue_depth(vhost, queue).await
    }

    /// Puts the broker under a memory alarm, which blocks every connection that publishes, or lifts it.
    ///
    /// # Errors
    /// When `rabbitmqctl` is not installed or cannot talk to the broker.
    pub async fn memory_alarm(&self, on: bool) -> anyhow::Result<()> {
        let share = if on { ALARMING_SHARE } else { USUAL_SHARE };
        let control = Process::command(Tool::RabbitMq.program("rabbitmqctl")?)
            .args(["set_vm_memory_high_watermark", share])
            .envs(self.files.environment(&self.ports))
            .current_dir(self.files.folder())
            .log(self.files.log("rabbitmqctl"))
            .start()?;
        let status = control.wait_exit(CONTROL).await?;
        if !status.success() {
            bail!("rabbitmqctl failed ({status}){}", control.log_for_error());
        }
        Ok(())
    }

    /// The broker's process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }
}

impl Ports {
    fn take(encrypted: bool) -> anyhow::Result<Self> {
        Ok(Self {
            amqp: PortLease::take()?,
            amqps: encrypted.then(PortLease::take).transpose()?,
            management: PortLease::take()?,
            distribution: PortLease::take()?,
            epmd: PortLease::take()?,
        })
    }

    fn amqp_url(&self, vhost: &str) -> String {
        format!("amqp://guest:guest@{}/{vhost}", self.amqp.address())
    }

    fn management_url(&self) -> String {
        format!("http://guest:guest@{}", self.management.address())
    }
}

async fn launch_both(files: &Files, ports: &Ports) -> anyhow::Result<(Process, Process)> {
    let epmd = launch_epmd(files, ports).await?;
    let broker = launch_broker(files, ports).await?;
    Ok((broker, epmd))
}

/// Erlang's name server. A node would start one itself, as a daemon that nobody stops.
async fn launch_epmd(files: &Files, ports: &Ports) -> anyhow::Result<Process> {
    let port = ports.epmd.number();
    let process = Process::command(Tool::RabbitMq.program("epmd")?)
        .args(["-address", "127.0.0.1", "-port", &port.to_string()])
        .log(files.log("epmd"))
        .start()?;
    let talk = async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.map(drop).context("cannot connect to epmd")
    };
    ready(&process, TALK, talk).await?;
    Ok(process)
}

async fn launch_broker(files: &Files, ports: &Ports) -> anyhow::Result<Process> {
    let process = Process::command(Tool::RabbitMq.program("rabbitmq-server")?)
        .envs(files.environment(ports))
        .env_remove("NOTIFY_SOCKET")
        .current_dir(files.folder())
        .log(files.log("rabbitmq"))
        .start()?;
    let (amqp, management) = (ports.amqp_url("%2f"), Management::new(ports.management_url()));
    let talk = async || {
        tokio::time::timeout(TALK, open_channel(&amqp)).await.context("no channel in time")??;
        management.is_up().await
    };
    ready(&process, START, talk).await?;
    Ok(process)
}

/// An open port is not readiness: the broker accepts connections before it serves them.
async fn open_channel(url: &str) -> anyhow::Result<()> {
    let connection =
        Connection::connect(url, ConnectionProperties::default()).await.context("cannot connect")?;
    // Held until the end: a dropped channel is still closing when the connection closes, and that is an error.
    let _channel = connection.create_channel().await.context("cannot open a channel")?;
    connection.close(200, "ready".into()).await.context("cannot close the connection")
}
