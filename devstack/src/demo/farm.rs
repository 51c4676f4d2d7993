//! The whole system on one machine: servers, neighbours, two uploader replicas and a standalone.

use std::time::Duration;

use anyhow::bail;
use devstack::{Balancer, Nginx, PortLease, Process, Signal, Stack, Workspace};

use super::replica::{Uploader, UploaderSettings, program, start};
use crate::progress::Step;

const FFLOW_REPLICAS: u16 = 3;
/// One for each file that is in transfer at a moment.
const PASSIVE_PORTS: u16 = 32;
/// How many programs are started, for the progress bar.
const PARTS: u64 = 1 + 1 + FFLOW_REPLICAS as u64 + 1 + 1 + 3 + 1;
const MIGRATION: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(200);
const DATABASE: &str = "retube";

/// Everything that runs. Processes are stopped in the order of the fields.
pub(crate) struct Farm {
    gateway: Process,
    uploaders: Vec<Uploader>,
    neighbours: Vec<Process>,
    balancer: Nginx,
    stack: Stack,
    gateway_url: String,
    holder_url: String,
    _ports: Vec<PortLease>,
}

impl Farm {
    /// Starts everything and waits until it is ready.
    pub(crate) async fn start(workspace: &Workspace) -> anyhow::Result<Self> {
        let step = Step::parts("starting", PARTS);
        step.say("PostgreSQL, Redis, RabbitMQ");
        let stack = Stack::start(workspace).await?;
        stack.postgres.create_database(DATABASE, None).await?;
        let mut ports = Vec::new();
        let mut neighbours = Vec::new();
        step.part("holder");
        let holder = Holder::start(workspace, &mut ports).await?;
        neighbours.push(holder.process);
        let balancer_port = PortLease::take()?;
        let mut replicas = Vec::new();
        for number in 1..=FFLOW_REPLICAS {
            step.part(&format!("fflow {number}"));
            let port = PortLease::take()?;
            neighbours.push(fflow(number, &port, &balancer_port, &holder.ftp, workspace).await?);
            replicas.push(port.number());
            ports.push(port);
        }
        step.part("nginx");
        let servers = Balancer::new(replicas).render(balancer_port.number());
        let balancer = Nginx::start(workspace, balancer_port, &servers).await?;
        let settings = UploaderSettings {
            endpoints: stack.endpoints(),
            database_url: stack.postgres.url(DATABASE),
            fflow_url: balancer.url(),
            holder_url: holder.url.clone(),
            spool: workspace.folder("spool")?,
        };
        step.part("tables");
        migrate(&settings, workspace).await?;
        let uploaders = uploaders(&settings, &step, workspace).await?;
        step.part("gateway");
        let gateway_port = PortLease::take()?;
        let gateway = gateway(&gateway_port, &settings, workspace).await?;
        let gateway_url = format!("http://{}", gateway_port.address());
        ports.push(gateway_port);
        step.done("2 uploaders, 1 standalone, 3 fflow, holder, gateway, nginx, PostgreSQL, Redis, RabbitMQ");
        let holder_url = holder.url;
        Ok(Self { gateway, uploaders, neighbours, balancer, stack, gateway_url, holder_url, _ports: ports })
    }

    pub(crate) fn gateway_url(&self) -> &str {
        &self.gateway_url
    }

    /// Where everything is, for people.
    pub(crate) fn addresses(&self) -> String {
        let ready = self
            .uploaders
            .iter()
            .map(|uploader| format!("\n{:<13} {}/readyz", uploader.process.name(), uploader.url));
        let servers = format!(
            "gateway       {}\nholder        {}\nfflow (nginx) {}\nRabbitMQ      {}\nPostgreSQL    {}\nRedis         redis://{}:{}",
            self.gateway_url,
            self.holder_url,
            self.balancer.url(),
            self.stack.rabbitmq.management_url(),
            self.stack.postgres.url(DATABASE),
            self.stack.redis.host(),
            self.stack.redis.port(),
        );
        servers + &ready.collect::<String>()
    }

    /// Returns when a process has ended that should not have.
    pub(crate) async fn death(&self) -> anyhow::Error {
        loop {
            if let Some(dead) = self.processes().find(|process| !process.is_running()) {
                return anyhow::anyhow!(
                    "{} has ended\nthe end of its log:\n{}",
                    dead.name(),
                    dead.log_tail(15)
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        let servers =
            [self.stack.postgres.process(), self.stack.redis.process(), self.stack.rabbitmq.process()];
        self.ours().chain([self.balancer.process()]).chain(servers)
    }

    /// The programs of this workspace, clients before those that they need.
    fn ours(&self) -> impl Iterator<Item = &Process> {
        let uploaders = self.uploaders.iter().map(|uploader| &uploader.process);
        [&self.gateway].into_iter().chain(uploaders).chain(&self.neighbours)
    }

    /// Stops everything: the programs of ours as in production, the servers without ceremony.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let step = Step::spin("stopping");
        for process in self.ours() {
            process.signal(Signal::SIGTERM)?;
        }
        for process in self.ours() {
            step.say(process.name());
            if process.wait_exit(STOP).await.is_err() {
                bail!("{} did not stop within {STOP:?} of SIGTERM", process.name());
            }
        }
        step.say("servers");
        drop(self);
        step.done("nothing is left running");
        Ok(())
    }
}

struct Holder {
    process: Process,
    url: String,
    ftp: String,
}

impl Holder {
    async fn start(workspace: &Workspace, ports: &mut Vec<PortLease>) -> anyhow::Result<Self> {
        let (http, ftp) = (PortLease::take()?, PortLease::take()?);
        let passive = PortLease::take_block(PASSIVE_PORTS)?;
        let first = passive.first().map_or(0, PortLease::number);
        let builder = program("holder", "holder", workspace)?
            .arg("--root")
            .arg(workspace.folder("holder")?)
            .args(["--ftp", &ftp.address(), "--http", &http.address()])
            .args(["--passive-ports", &format!("{first}-{}", first + PASSIVE_PORTS - 1)]);
        let process = start(builder, &http, "/healthz").await?;
        let (url, ftp_address) = (format!("http://{}", http.address()), ftp.address());
        ports.extend([http, ftp]);
        ports.extend(passive);
        Ok(Self { process, url, ftp: ftp_address })
    }
}

async fn fflow(
    number: u16,
    port: &PortLease,
    balancer: &PortLease,
    ftp: &str,
    workspace: &Workspace,
) -> anyhow::Result<Process> {
    let role = format!("fflow-{number}");
    let builder = program("fflow", &role, workspace)?
        .args(["--listen", &port.address(), "--prefix", &format!("/r{number}"), "--ftp", ftp])
        .args(["--public-url", &format!("http://{}/r{number}", balancer.address())])
        .arg("--work-dir")
        .arg(workspace.folder(&role)?);
    start(builder, port, "/healthz").await
}

async fn migrate(settings: &UploaderSettings, workspace: &Workspace) -> anyhow::Result<()> {
    let builder = settings.apply(program("uploader-v4", "migrate", workspace)?);
    let process = builder.args(["migrate", "--shared-tables"]).start()?;
    let status = process.wait_exit(MIGRATION).await?;
    if !status.success() {
        bail!("uploader-v4 migrate failed ({status}):\n{}", process.log_tail(15));
    }
    Ok(())
}

async fn uploaders(
    settings: &UploaderSettings,
    step: &Step,
    workspace: &Workspace,
) -> anyhow::Result<Vec<Uploader>> {
    let mut uploaders = Vec::new();
    for (role, standalone) in [("uploader-1", false), ("uploader-2", false), ("standalone", true)] {
        step.part(role);
        uploaders.push(settings.serve(role, standalone, workspace).await?);
    }
    Ok(uploaders)
}

async fn gateway(
    port: &PortLease,
    settings: &UploaderSettings,
    workspace: &Workspace,
) -> anyhow::Result<Process> {
    let builder = program("gateway", "gateway", workspace)?
        .args(["--listen", &port.address(), "--amqp", &settings.endpoints.amqp_url])
        .args(["--database", &settings.database_url, "--holder-url", &settings.holder_url]);
    start(builder, port, "/healthz").await
}
