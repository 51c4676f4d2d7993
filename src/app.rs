//! The composition root: opens the gateways, starts the actors tail first, drains them on a signal.

mod cleaning;
mod gauges;
mod lines;
mod start;

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

pub use self::cleaning::{CannotClean, Forecast, clean_once, forecast};
use self::lines::{ChunkLine, FeedLine};
use self::start::Foundation;
use crate::clock;
use crate::config::Config;
use crate::domain::ids::Timestamp;
use crate::http::HealthServer;
use crate::metrics;
use crate::readiness::{Dependency, Readiness, State};
use crate::supervision::{Budget, first_death};

/// How the service ended.
pub enum Exit {
    /// A signal, and everything was handed over.
    Clean,
    /// A second signal: at once.
    Hurried,
}

/// Runs the service until a signal ends it.
///
/// # Errors
/// What cannot be mended by waiting: a foreign spool, a schema without `migrate`, a line that keeps dying.
pub async fn serve(config: Config) -> anyhow::Result<Exit> {
    metrics::install()?;
    let readiness = Readiness::new();
    let health = HealthServer::start(&config.http, readiness.clone())?;
    info!(address = %health.address(), "health");
    let mut leave = Signals::new()?;
    let foundation = tokio::select! {
        foundation = start::foundation(config, readiness.clone()) => foundation?,
        () = leave.next() => return Ok(Exit::Clean),
    };
    let gauges = actix_rt::spawn(gauges::keep(foundation.gauges()));
    let exit = run(&foundation, &mut leave).await;
    gauges.abort();
    health.stop().await;
    exit
}

/// Builds the lines and rebuilds what dies. The chunk line stands on the feed line: it falls with it, not the other
/// way round.
async fn run(foundation: &Foundation, leave: &mut Signals) -> anyhow::Result<Exit> {
    let mut budget = Budget::default();
    loop {
        let feeds = FeedLine::build(foundation);
        let chunks = ChunkLine::build(foundation, &feeds);
        let ended = tend(foundation, &feeds, chunks, leave, &mut budget).await?;
        let Some(line) = ended else {
            return drain(foundation, feeds, leave).await;
        };
        feeds.dismantle().await;
        tokio::time::sleep(budget.spend(line, clock::now())?).await;
    }
}

/// Watches both lines. `None` when a signal came, the chunk line drained; otherwise the dead actor of the feed line.
async fn tend(
    foundation: &Foundation,
    feeds: &FeedLine,
    mut chunks: ChunkLine,
    leave: &mut Signals,
    budget: &mut Budget,
) -> anyhow::Result<Option<&'static str>> {
    foundation.readiness.set(Dependency::Lines, State::Up);
    loop {
        let dead = tokio::select! {
            () = leave.next() => {
                foundation.readiness.set(Dependency::Draining, State::Down("leaving".to_owned()));
                let settled = chunks.drain();
                tokio::select! {
                    left = settled => info!(given_back = left, "chunk road drained"),
                    () = leave.next() => leave.hurry(),
                }
                return Ok(None);
            }
            name = first_death(&feeds.pulses) => {
                fallen(foundation, name);
                chunks.drain().await;
                return Ok(Some(name));
            }
            name = first_death(&chunks.pulses) => name,
        };
        fallen(foundation, dead);
        chunks.drain().await;
        tokio::time::sleep(budget.spend(dead, clock::now())?).await;
        chunks = ChunkLine::build(foundation, feeds);
        foundation.readiness.set(Dependency::Lines, State::Up);
    }
}

fn fallen(foundation: &Foundation, name: &'static str) {
    error!(actor = name, "an actor is dead, its line is built anew");
    metrics::line_rebuilt(name);
    foundation.readiness.set(Dependency::Lines, State::Degraded(format!("{name} is being rebuilt")));
}

async fn drain(foundation: &Foundation, feeds: FeedLine, leave: &mut Signals) -> anyhow::Result<Exit> {
    if leave.hurried {
        return Ok(Exit::Hurried);
    }
    let left = foundation.config.replica.shutdown_deadline.saturating_sub(leave.since());
    tokio::select! {
        left = feeds.drain() => {
            if left > 0 {
                warn!(feeds = left, "feeds could not be handed over in time, their leases will end");
            }
            Ok(Exit::Clean)
        }
        () = leave.next() => Ok(Exit::Hurried),
        () = tokio::time::sleep(left) => Ok(Exit::Clean),
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hurried: bool,
    /// When the first one came.
    first: Option<Timestamp>,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Signals { terminate, interrupt, hurried: false, first: None })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        self.first.get_or_insert_with(clock::now);
    }

    /// How long ago the first one came.
    fn since(&self) -> Duration {
        self.first.map_or(Duration::ZERO, |first| first.until(clock::now()))
    }

    fn hurry(&mut self) {
        warn!("a second signal: leaving at once");
        self.hurried = true;
    }
}

/// Pause between two attempts to reach what the start waits for.
const START_PAUSE: Duration = Duration::from_secs(1);
