//! How each program of the farm is started, and with which settings: those of production, with every wait as short as
//! makes sense, so that a run of a minute sees each of them end.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::bail;
use devstack::{Balancer, Endpoints, Nginx, PortLease, Process, ProcessBuilder, Workspace};

use super::links::{Link, Links, REPLICAS};
use super::plan::FARM;
use super::program::Program;
use super::volume::QUOTA_MIB;
use crate::demo::replica::{UploaderSettings, program, start};

use super::farm::DATABASE;

/// How long a replica may be silent before others take its feeds.
pub(super) const LEASE: Duration = Duration::from_secs(4);
/// How long an upload may be silent.
pub(super) const VIDEO_TTL: Duration = Duration::from_secs(20);
/// The pause between two cleanings.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// The kind gateway's patience with a chunk: a frozen replica's chunks are answered by others within 25 s.
const REPLY: &str = "25s";
const PASSIVE_PORTS: u16 = 16;
const MIGRATION: Duration = Duration::from_secs(60);

const SETTINGS: [(&str, &str); 22] = [
    ("AMQP_CONNECTION_POLLING_TIME", "1000"),
    ("UPLOADER_AMQP_HEARTBEAT", "3s"),
    // A route whose writing stalled on its way may come after its removal: then it ends by itself, and is waited for.
    ("UPLOADER_ROUTE_TTL", "1m"),
    ("UPLOADER_AMQP_REPLY_EXPIRATION", "10s"),
    ("UPLOADER_REPLICA_HEARTBEAT", "1s"),
    ("UPLOADER_FEED_START_BYTES", "32KiB"),
    ("UPLOADER_FEED_PUSH_BLOCK", "64KiB"),
    ("UPLOADER_FEED_IDLE", "5s"),
    ("UPLOADER_FEED_FLOW_IDLE", "10s"),
    ("UPLOADER_FEED_FINISH_BASE", "15s"),
    ("UPLOADER_FEED_FINISH_GRACE", "5s"),
    ("UPLOADER_FEED_STRIKE_WAITS", "1s,2s"),
    ("UPLOADER_FEED_BACKOFF_MAX", "2s"),
    ("UPLOADER_FEED_STRAY_INTERVAL", "2s"),
    ("UPLOADER_FFLOW_CREATE_TIMEOUT", "5s"),
    ("UPLOADER_FFLOW_PUSH_TIMEOUT", "8s"),
    ("UPLOADER_FFLOW_FINISH_TIMEOUT", "15s"),
    ("UPLOADER_FFLOW_DELETE_TIMEOUT", "2s"),
    ("UPLOADER_HOLDER_TIMEOUT", "5s"),
    ("UPLOADER_HOLDER_POLL", "500ms"),
    ("UPLOADER_LOG_FILTER", "info,uploader_v4=debug"),
    ("RUST_BACKTRACE", "1"),
];

/// holder and its ports.
pub(super) struct Holder {
    pub(super) process: Process,
    /// The port of its FTP.
    pub(super) ftp: u16,
    http: PortLease,
    _ports: Vec<PortLease>,
}

impl Holder {
    pub(super) async fn start(workspace: &Workspace) -> anyhow::Result<Self> {
        let (http, ftp) = (PortLease::take()?, PortLease::take()?);
        let mut ports = PortLease::take_block(PASSIVE_PORTS)?;
        let first = ports.first().map_or(0, PortLease::number);
        let builder = program("holder", "holder", workspace)?
            .arg("--root")
            .arg(workspace.folder("holder")?)
            .args(["--ftp", &ftp.address(), "--http", &http.address()])
            .args(["--passive-ports", &format!("{first}-{}", first + PASSIVE_PORTS - 1)]);
        let process = start(builder, &http, "/healthz").await?;
        let number = ftp.number();
        ports.push(ftp);
        Ok(Self { process, ftp: number, http, _ports: ports })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.http.address())
    }
}

/// The real fflow replicas and the balancer in front of them.
pub(super) async fn fflows(
    workspace: &Rc<Workspace>,
    links: &Links,
    as_observed: &Rc<Cell<bool>>,
    patience: Duration,
) -> anyhow::Result<(Nginx, Vec<Program>)> {
    let (public, ftp) = (links.address(Link::UploaderFflow)?, links.address(Link::FflowHolder)?);
    let (mut programs, mut ports) = (Vec::new(), Vec::new());
    for number in 1..=FARM {
        let port = PortLease::take()?;
        ports.push(port.number());
        let (workspace, as_observed) = (Rc::clone(workspace), Rc::clone(as_observed));
        let (public, ftp) = (format!("http://{public}/r{number}"), ftp.clone());
        programs.push(Program::start(move || {
            let role = format!("fflow-{number}");
            let builder = program("fflow", &role, &workspace)?
                .args(["--listen", &port.address(), "--prefix", &format!("/r{number}")])
                .args(["--public-url", &public, "--ftp", &ftp])
                .arg("--work-dir")
                .arg(workspace.folder(&role)?);
            Ok(with_manners(builder, as_observed.get()))
        })?);
    }
    let port = PortLease::take()?;
    let balancer = Balancer { read_timeout: patience.as_secs(), ..Balancer::new(ports) };
    let servers = balancer.render(port.number());
    Ok((Nginx::start(workspace, port, &servers).await?, programs))
}

fn with_manners(builder: ProcessBuilder, as_observed: bool) -> ProcessBuilder {
    if as_observed { builder.arg("--as-observed") } else { builder }
}

/// Brings the database up, through the first replica's cables.
pub(super) async fn migrate(workspace: &Workspace, links: &Links, spool: &Path) -> anyhow::Result<()> {
    let settings = settings(links, 0, spool.to_owned())?;
    let builder = settings.apply(program("uploader-v4", "migrate", workspace)?);
    let process = builder.args(["migrate", "--shared-tables"]).start()?;
    let status = process.wait_exit(MIGRATION).await?;
    if !status.success() {
        bail!("uploader-v4 migrate failed ({status}):\n{}", process.log_tail(15));
    }
    Ok(())
}

/// The replicas, the last of which cleans, and where they tell of their health.
pub(super) fn uploaders(
    workspace: &Rc<Workspace>,
    links: &Links,
    spool: &Path,
) -> anyhow::Result<(Vec<Program>, Vec<String>)> {
    let (mut programs, mut health) = (Vec::new(), Vec::new());
    let recorder = format!("http://{}", links.address(Link::UploaderRecorder)?);
    let allowed = format!("{recorder},http://{}", links.address(Link::UploaderFflow)?);
    for number in 0..REPLICAS {
        let settings = settings(links, number, spool.to_owned())?;
        let (workspace, allowed, port) = (Rc::clone(workspace), allowed.clone(), PortLease::take()?);
        health.push(format!("http://{}/readyz", port.address()));
        let role = format!("uploader-{}", number + 1);
        let standalone = number + 1 == REPLICAS;
        programs.push(Program::start(move || {
            let builder = settings.apply(program("uploader-v4", &role, &workspace)?);
            Ok(builder
                .arg("serve")
                .envs(SETTINGS)
                .env("UPLOADER_HTTP_ADDR", port.address())
                .env("UPLOADER_REPLICA_NAME", &role)
                .env("UPLOADER_FFLOW_ALLOWED", &allowed)
                .env("UPLOADER_LEASE", format!("{}s", LEASE.as_secs()))
                .env("UPLOADER_SPOOL_MAX_BYTES", format!("{QUOTA_MIB}MiB"))
                .env("VIDEO_TTL", VIDEO_TTL.as_millis().to_string())
                .env("SCHEDULER_CLEAR_UPLOAD_RESOURCES_SLEEP_TIME", TICK.as_millis().to_string())
                .env("SCHEDULER_CLEAR_UPLOAD_RESOURCES_ENABLED", standalone.to_string()))
        })?);
    }
    Ok((programs, health))
}

fn settings(links: &Links, number: usize, spool: PathBuf) -> anyhow::Result<UploaderSettings> {
    let database = links.address(Link::UploaderDatabase(number))?;
    let redis = links.get(Link::UploaderRedis(number))?.port();
    let front = links.address(Link::UploaderFront)?;
    Ok(UploaderSettings {
        endpoints: Endpoints {
            postgres_url: format!("postgresql://postgres@{database}/postgres"),
            redis_host: "127.0.0.1".to_owned(),
            redis_port: redis,
            amqp_url: format!("amqp://guest:guest@{}", links.address(Link::UploaderBroker(number))?),
            // Nothing here asks for it.
            amqp_management_url: String::new(),
        },
        database_url: format!("postgresql://postgres@{database}/{DATABASE}"),
        fflow_url: format!("http://{front}"),
        holder_url: format!("http://{front}/holder"),
        spool,
    })
}

/// gateway and its port.
pub(super) fn gateway(
    workspace: &Rc<Workspace>,
    links: &Links,
    as_observed: &Rc<Cell<bool>>,
    holder_url: &str,
) -> anyhow::Result<(Program, u16)> {
    let port = PortLease::take()?;
    let number = port.number();
    let amqp = format!("amqp://guest:guest@{}", links.address(Link::GatewayBroker)?);
    let database = format!("postgresql://postgres@{}/{DATABASE}", links.address(Link::GatewayDatabase)?);
    let (workspace, as_observed, holder_url) =
        (Rc::clone(workspace), Rc::clone(as_observed), holder_url.to_owned());
    let gateway = Program::start(move || {
        let builder = program("gateway", "gateway", &workspace)?
            .args(["--listen", &port.address(), "--amqp", &amqp, "--database", &database])
            .args(["--holder-url", &holder_url, "--reply-timeout", REPLY]);
        Ok(with_manners(builder, as_observed.get()))
    })?;
    Ok((gateway, number))
}
