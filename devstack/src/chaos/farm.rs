//! The system under fire: what `make demo` starts, with a recording fflow beside the real one and a proxy on every cable.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use devstack::{Nginx, Postgres, Process, RabbitMq, Redis, Stack, Workspace, http, wait_until};
use peers::recording::{RecordingFflow, RecordingOptions};
use tokio::sync::Mutex;

use super::front::{Backends, Front};
use super::links::{LINES, Link, Links, REPLICAS};
use super::parts::{self, Holder};
use super::plan::FARM;
use super::program::Program;
use super::volume::Volume;
use crate::progress::Step;

pub(super) const DATABASE: &str = "retube";
/// The balancer's patience with fflow: short, so that a run of a minute sees its end.
const BALANCER: Duration = Duration::from_secs(10);
/// So many bytes of each recorded flow are kept to compare them; no file of a run is longer.
const KEPT: usize = 2 << 20;
/// Generous: a busy machine starts a broker in a minute or two.
const READY: Duration = Duration::from_secs(180);
const TALK: Duration = Duration::from_secs(3);
/// The service leaves within 8 s by itself; the rest is for a busy machine.
const LEAVE: Duration = Duration::from_secs(20);

/// Everything that runs. Processes are stopped in the order of the fields.
pub(super) struct Farm {
    pub(super) gateway: Program,
    pub(super) uploaders: Vec<Program>,
    pub(super) fflows: Vec<Program>,
    holder: Holder,
    nginx: Nginx,
    pub(super) front: Front,
    pub(super) recorder: RecordingFflow,
    pub(super) rabbitmq: Mutex<RabbitMq>,
    pub(super) redis: Mutex<Redis>,
    pub(super) postgres: Mutex<Postgres>,
    pub(super) links: Links,
    pub(super) volume: Volume,
    /// The neighbours have the manners of the existing ones.
    pub(super) as_observed: Rc<Cell<bool>>,
    /// Held by whoever stops or starts gateway.
    gateway_turn: Mutex<()>,
    health: Vec<String>,
    pub(super) database_url: String,
    pub(super) workspace: Rc<Workspace>,
}

impl Farm {
    /// Starts everything and waits until it is ready.
    pub(super) async fn start(workspace: &Rc<Workspace>, as_observed: bool) -> anyhow::Result<Self> {
        let step = Step::spin("starting");
        step.say("PostgreSQL, Redis, RabbitMQ");
        let stack = Stack::start(workspace).await?;
        stack.postgres.create_database(DATABASE, None).await?;
        let database_url = stack.postgres.url(DATABASE);
        let (links, volume) = (Links::listen().await?, Volume::make(workspace).await?);
        connect_servers(&links, &stack)?;
        let as_observed = Rc::new(Cell::new(as_observed));
        step.say("fflow, holder");
        let Feeding { holder, nginx, fflows, front, recorder } =
            Feeding::start(workspace, &links, &as_observed).await?;
        step.say("uploaders, gateway");
        parts::migrate(workspace, &links, &volume.spool()).await?;
        let (uploaders, mut health) = parts::uploaders(workspace, &links, &volume.spool())?;
        let (gateway, gateway_port) = parts::gateway(workspace, &links, &as_observed, &holder.url())?;
        for line in 0..LINES {
            links.connect(Link::ClientGateway(line), gateway_port)?;
        }
        health.push(format!("http://127.0.0.1:{gateway_port}/healthz"));
        let farm = Self {
            gateway,
            uploaders,
            fflows,
            holder,
            nginx,
            front,
            recorder,
            rabbitmq: Mutex::new(stack.rabbitmq),
            redis: Mutex::new(stack.redis),
            postgres: Mutex::new(stack.postgres),
            links,
            volume,
            as_observed,
            gateway_turn: Mutex::new(()),
            health,
            database_url,
            workspace: Rc::clone(workspace),
        };
        farm.ready().await?;
        step.done(
            "3 uploaders, 3 fflow, 3 recording ones, holder, gateway, nginx, PostgreSQL, Redis, RabbitMQ",
        );
        Ok(farm)
    }

    /// Waits until every uploader and gateway say that they are well.
    pub(super) async fn ready(&self) -> anyhow::Result<()> {
        for url in &self.health {
            let well = async || http::get(url, TALK).await.is_ok_and(|answer| answer.status == 200);
            wait_until(&format!("{url} answers 200"), READY, well).await?;
        }
        Ok(())
    }

    /// Where browsers upload to, by their line.
    pub(super) fn gateway_urls(&self) -> anyhow::Result<Vec<String>> {
        let url = |line| Ok(format!("http://{}", self.links.address(Link::ClientGateway(line))?));
        (0..LINES).map(url).collect()
    }

    /// gateway's operator starts it again: after a loss of its broker the existing one is of no use any more.
    pub(super) async fn restart_gateway(&self) -> anyhow::Result<()> {
        let _turn = self.gateway_turn.lock().await;
        // gateway does not come up without them, and whoever restarts one of them holds it.
        let _servers = tokio::join!(self.rabbitmq.lock(), self.postgres.lock());
        self.gateway.kill().await?;
        self.gateway.launch()?;
        let Some(url) = self.health.last() else { return Ok(()) };
        let well = async || http::get(url, TALK).await.is_ok_and(|answer| answer.status == 200);
        wait_until("gateway is back", READY, well).await
    }

    /// Gives the neighbours other manners, which only a restart of the programs among them does.
    pub(super) async fn set_manners(&self, as_observed: bool) -> anyhow::Result<()> {
        self.as_observed.set(as_observed);
        self.recorder.set_as_observed(as_observed);
        self.recorder.set_answer_base_address(as_observed);
        for fflow in &self.fflows {
            fflow.kill().await?;
            fflow.launch()?;
        }
        self.restart_gateway().await
    }

    /// Whatever is down comes up, and whatever is slow is fast again.
    pub(super) async fn heal(&self) -> anyhow::Result<()> {
        self.links.heal();
        self.recorder.disarm_all();
        (1..=FARM).for_each(|replica| self.recorder.revive_replica(replica));
        self.volume.free()?;
        for program in self.uploaders.iter().chain(&self.fflows) {
            program.launch()?;
        }
        self.ready().await
    }

    /// The programs of ours, with what starts them again when they end by themselves.
    pub(super) fn programs(&self) -> impl Iterator<Item = &Program> {
        [&self.gateway].into_iter().chain(&self.uploaders).chain(&self.fflows)
    }

    /// Never returns but with an error: an ended program of ours is started again, an ended server is the end.
    pub(super) async fn keep(self: Rc<Self>, number: usize) -> anyhow::Result<()> {
        let program = self.programs().nth(number).context("no such program")?;
        program.keep().await
    }

    /// Stops the programs of ours as in production, then everything else.
    pub(super) async fn stop(&self) -> anyhow::Result<()> {
        for program in self.programs() {
            program.terminate(LEAVE).await?;
        }
        self.holder.process.kill().await?;
        self.nginx.process().kill().await?;
        self.rabbitmq.lock().await.kill().await?;
        self.redis.lock().await.stop().await?;
        self.postgres.lock().await.stop(devstack::Kill::Fast).await
    }

    /// Where the streams of real videos are.
    pub(super) fn holder_url(&self) -> String {
        self.holder.url()
    }

    /// The real fflow's processes.
    pub(super) fn fflow_processes(&self) -> Vec<Rc<Process>> {
        self.fflows.iter().filter_map(Program::process).collect()
    }
}

fn connect_servers(links: &Links, stack: &Stack) -> anyhow::Result<()> {
    let (broker, database, redis) = (stack.rabbitmq.port(), stack.postgres.port(), stack.redis.port());
    for number in 0..REPLICAS {
        links.connect(Link::UploaderBroker(number), broker)?;
        links.connect(Link::UploaderDatabase(number), database)?;
        links.connect(Link::UploaderRedis(number), redis)?;
    }
    links.connect(Link::GatewayBroker, broker)?;
    links.connect(Link::GatewayDatabase, database)
}

/// Both fflows with what stands before and behind them.
struct Feeding {
    holder: Holder,
    nginx: Nginx,
    fflows: Vec<Program>,
    front: Front,
    recorder: RecordingFflow,
}

impl Feeding {
    async fn start(
        workspace: &Rc<Workspace>,
        links: &Links,
        as_observed: &Rc<Cell<bool>>,
    ) -> anyhow::Result<Self> {
        let recorder = recorder(links, as_observed.get())?;
        let holder = Holder::start(workspace).await?;
        links.connect(Link::FflowHolder, holder.ftp)?;
        let (nginx, fflows) = parts::fflows(workspace, links, as_observed, BALANCER).await?;
        links.connect(Link::UploaderFflow, nginx.port())?;
        let front = Front::start(Backends {
            recorder: recorder.base_url(),
            recorder_holder: recorder.holder_url(),
            fflow: nginx.url(),
            holder: holder.url(),
        })?;
        links.connect(Link::UploaderFront, front.port)?;
        Ok(Self { holder, nginx, fflows, front, recorder })
    }
}

fn recorder(links: &Links, as_observed: bool) -> anyhow::Result<RecordingFflow> {
    let options = RecordingOptions {
        replicas: FARM,
        as_observed,
        answer_base_address: as_observed,
        proxy_timeout: Some(BALANCER),
        public_url: Some(format!("http://{}", links.address(Link::UploaderRecorder)?)),
        keep_bytes: KEPT,
        ..RecordingOptions::default()
    };
    let recorder = RecordingFflow::start(options).context("the recording fflow does not start")?;
    let port = recorder.base_url().rsplit(':').next().and_then(|port| port.parse().ok());
    links.connect(Link::UploaderRecorder, port.context("the recording fflow has no port")?)?;
    Ok(recorder)
}
