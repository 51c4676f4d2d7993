//! One cell of the matrix: echo, service and disk in turns, so that what disturbs one disturbs the others too.

use std::time::{Duration, Instant};

use devstack::Process;
use serde::Serialize;
use uuid::Uuid;

use super::cost;
use super::figures::{Times, each_us};
use super::ground::{Echo, Ground, Service};
use super::load::{Heard, Load, Uploads};
use super::plan::{Pace, Scenario};
use super::{census, disk};

/// Bytes of one uploaded file, about; as many are sent one after another as the time needs.
const FILE: u64 = 1 << 30;
/// More than any load here reaches, in bytes per second: so many files are announced.
const FASTEST: u64 = 1 << 30;

/// Processor time per chunk, in microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct CpuUs {
    /// The service, or the echo in its place.
    pub(crate) service: f64,
    pub(crate) broker: f64,
    pub(crate) database: f64,
    pub(crate) generator: f64,
    pub(crate) sink: f64,
}

impl CpuUs {
    /// Of all of them.
    pub(crate) fn total(&self) -> f64 {
        self.service + self.broker + self.database + self.generator + self.sink
    }
}

/// What one round has shown.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Round {
    pub(crate) chunks_per_s: f64,
    pub(crate) mb_per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    pub(crate) cpu_us: CpuUs,
    /// Until everything stored was fed, after the last answer.
    pub(crate) drain_s: f64,
}

/// All rounds of one scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) scenario: Scenario,
    pub(crate) echo: Vec<Round>,
    pub(crate) service: Vec<Round>,
    /// Appends per second; only with one replica, since the disk does not know of replicas.
    pub(crate) disk_per_s: Vec<f64>,
    /// Of the largest replica, from its start on.
    pub(crate) peak_rss_kib: u64,
    /// Rows of `uploader.run` at the end, for each chunk.
    pub(crate) run_rows_per_chunk: f64,
}

/// Measures one scenario.
///
/// # Errors
/// When something cannot be started, a chunk is not answered well, or a byte is not where it should be.
pub(crate) async fn measure(ground: &Ground, scenario: Scenario, pace: Pace) -> anyhow::Result<Cell> {
    let echo = Echo::start(ground, scenario.replicas).await?;
    let service = Service::start(ground, scenario.replicas).await?;
    let mut bench = Bench::open(ground, &echo, &service, scenario, pace).await?;
    bench.warm_up(pace.warm_up).await?;
    let mut cell = Cell {
        scenario,
        echo: Vec::new(),
        service: Vec::new(),
        disk_per_s: Vec::new(),
        peak_rss_kib: 0,
        run_rows_per_chunk: 0.0,
    };
    for _ in 0..pace.rounds {
        cell.echo.push(bench.echo_round(pace.window).await?);
        cell.service.push(bench.service_round(pace.window).await?);
        if scenario.replicas == 1 {
            cell.disk_per_s.push(disk_round(ground, scenario, pace.window).await?);
        }
    }
    let stored = bench.to_service.progress();
    census::check(&service, &stored, &ground.content, scenario.bytes).await?;
    cell.peak_rss_kib = peak(&service)?;
    let chunks = stored.values().sum::<u64>() / scenario.bytes as u64;
    cell.run_rows_per_chunk = run_rows(&service).await? / chunks.max(1) as f64;
    drop(bench);
    echo.stop().await?;
    service.stop().await?;
    Ok(cell)
}

/// Both loads and those whose cost is told.
pub(crate) struct Bench<'a> {
    ground: &'a Ground,
    echo: &'a Echo,
    service: &'a Service,
    to_echo: Load,
    pub(crate) to_service: Load,
}

impl<'a> Bench<'a> {
    pub(crate) async fn open(
        ground: &'a Ground,
        echo: &'a Echo,
        service: &'a Service,
        scenario: Scenario,
        pace: Pace,
    ) -> anyhow::Result<Self> {
        let file = FILE / scenario.bytes as u64 * scenario.bytes as u64;
        let seconds = pace.warm_up.as_secs() + pace.rounds as u64 * (pace.window.as_secs() + 1);
        let files = (FASTEST * seconds).div_ceil(file * scenario.sessions as u64) as usize + 1;
        let announced = service.announce(files * scenario.sessions, file).await?;
        let content = || ground.content.clone();
        let for_echo = uploads((0..files * scenario.sessions).map(|_| Uuid::new_v4()).collect(), files, file);
        let for_service = uploads(announced, files, file);
        let to_echo = Load::open(&echo.amqp_url, content(), scenario.bytes, for_echo).await?;
        let url = &service.sandbox.amqp_url;
        let to_service = Load::open(url, content(), scenario.bytes, for_service).await?;
        Ok(Bench { ground, echo, service, to_echo, to_service })
    }

    /// Brings both to their pace; each session has stored something then.
    pub(crate) async fn warm_up(&mut self, time: Duration) -> anyhow::Result<()> {
        self.to_echo.run(time).await?;
        self.to_service.run(time).await?;
        self.service.drained(&self.to_service.progress()).await
    }

    async fn echo_round(&mut self, window: Duration) -> anyhow::Result<Round> {
        let before = Spent::read(self.ground, &self.echo.processes, None)?;
        let heard = self.to_echo.run(window).await?;
        let after = Spent::read(self.ground, &self.echo.processes, None)?;
        Ok(round(heard, self.to_echo.chunk_bytes(), after.since(&before), Duration::ZERO))
    }

    /// The cost is told up to the moment when all is fed.
    pub(crate) async fn service_round(&mut self, window: Duration) -> anyhow::Result<Round> {
        let before = self.spent()?;
        let heard = self.to_service.run(window).await?;
        let begun = Instant::now();
        self.service.drained(&self.to_service.progress()).await?;
        let drain = begun.elapsed();
        let spent = self.spent()?.since(&before);
        Ok(round(heard, self.to_service.chunk_bytes(), spent, drain))
    }

    fn spent(&self) -> anyhow::Result<Spent> {
        let replicas = self.service.replicas.iter().map(|replica| &replica.process);
        Spent::read(self.ground, replicas, Some(&self.service.sink))
    }
}

/// Each place in the load gets `files` uploads of its own.
pub(crate) fn uploads(sessions: Vec<Uuid>, files: usize, file: u64) -> Vec<Uploads> {
    sessions.chunks(files).map(|mine| Uploads { sessions: mine.to_vec(), file }).collect()
}

async fn disk_round(ground: &Ground, scenario: Scenario, window: Duration) -> anyhow::Result<f64> {
    let (folder, content) = (ground.disk(), ground.content.clone());
    let Scenario { bytes, sessions, .. } = scenario;
    let append = move || disk::run(&folder, &content, bytes, sessions, window);
    let appended = tokio::task::spawn_blocking(append).await??;
    Ok(appended as f64 / window.as_secs_f64())
}

/// Processor time so far.
struct Spent {
    service: Duration,
    broker: Duration,
    database: Duration,
    generator: Duration,
    sink: Duration,
}

impl Spent {
    fn read<'p>(
        ground: &Ground,
        service: impl IntoIterator<Item = &'p Process>,
        sink: Option<&Process>,
    ) -> anyhow::Result<Self> {
        let all = service.into_iter().map(|process| cost::of_tree(process.pid()));
        Ok(Spent {
            service: all.sum::<anyhow::Result<Duration>>()?,
            broker: cost::of_tree(ground.stack.rabbitmq.process().pid())?,
            database: cost::of_tree(ground.stack.postgres.process().pid())?,
            generator: cost::of_self()?,
            sink: sink.map_or(Ok(Duration::ZERO), |sink| cost::of_tree(sink.pid()))?,
        })
    }

    fn since(&self, before: &Spent) -> Spent {
        Spent {
            service: self.service.saturating_sub(before.service),
            broker: self.broker.saturating_sub(before.broker),
            database: self.database.saturating_sub(before.database),
            generator: self.generator.saturating_sub(before.generator),
            sink: self.sink.saturating_sub(before.sink),
        }
    }
}

fn round(heard: Heard, bytes: usize, spent: Spent, drain: Duration) -> Round {
    let chunks_per_s = heard.chunks as f64 / heard.window.as_secs_f64();
    let count = heard.latencies.len();
    let times = Times::new(heard.latencies);
    Round {
        chunks_per_s,
        mb_per_s: chunks_per_s * bytes as f64 / 1e6,
        p50_ms: times.within(0.5),
        p99_ms: times.within(0.99),
        max_ms: times.within(1.0),
        cpu_us: CpuUs {
            service: each_us(spent.service, count),
            broker: each_us(spent.broker, count),
            database: each_us(spent.database, count),
            generator: each_us(spent.generator, count),
            sink: each_us(spent.sink, count),
        },
        drain_s: drain.as_secs_f64(),
    }
}

fn peak(service: &Service) -> anyhow::Result<u64> {
    let peaks = service.replicas.iter().map(|replica| cost::peak_kib(replica.process.pid()));
    Ok(peaks.collect::<anyhow::Result<Vec<u64>>>()?.into_iter().max().unwrap_or_default())
}

async fn run_rows(service: &Service) -> anyhow::Result<f64> {
    let rows = service.query("SELECT count(*)::float8 FROM uploader.run", Vec::new()).await?;
    rows.first().map_or(Ok(0.0), |row| Ok(row.try_get_by_index(0)?))
}
