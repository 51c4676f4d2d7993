//! The composition root: opens the gateways, starts the actors tail first, drains them on a signal.

mod cleaning;
mod foundation;
mod gauges;
mod lines;
mod signals;
mod start;

use std::time::Duration;

use tracing::{error, info, warn};

pub use self::cleaning::{CannotClean, Forecast, clean_once, forecast};
pub use self::foundation::{Foundation, Stores};
use self::lines::{ChunkLine, FeedLine};
pub use self::signals::Signals;
use crate::clock;
use crate::config::Config;
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
    let mut leave = Signals::listen()?;
    let foundation = tokio::select! {
        foundation = start::foundation(config, readiness.clone()) => foundation?,
        // What blocks may still be under way, and the next start does all of it again.
        () = leave.next() => return Ok(Exit::Hurried),
    };
    let gauges = actix_rt::spawn(gauges::keep(foundation.gauges()));
    let exit = run(&foundation, &mut leave).await;
    gauges.abort();
    match exit {
        Ok(Exit::Hurried) => Ok(Exit::Hurried),
        exit => match leave.beside(health.stop()).await {
            Some(()) => exit,
            None => Ok(Exit::Hurried),
        },
    }
}

/// How the lines were left.
enum Ended {
    /// A signal came; the chunk line is drained.
    Called,
    /// A second one came meanwhile.
    Hurried,
    /// This actor of the feed line died; the chunk line fell with it.
    Dead(&'static str),
}

/// Builds the lines and rebuilds what dies, until it is told to leave. The chunk line stands on the feed line: it falls
/// with it, not the other way round.
///
/// # Errors
/// [`GivenUp`](crate::supervision::GivenUp): a line keeps dying.
pub async fn run(foundation: &Foundation, leave: &mut Signals) -> anyhow::Result<Exit> {
    let mut budget = Budget::default();
    loop {
        let feeds = FeedLine::build(foundation);
        match tend(foundation, &feeds, leave, &mut budget).await? {
            Ended::Called => return drain(foundation, feeds, leave).await,
            Ended::Hurried => return Ok(Exit::Hurried),
            Ended::Dead(actor) => {
                let pause = budget.spend(actor, clock::now())?;
                if leave.beside(feeds.dismantle()).await.is_none() {
                    return Ok(Exit::Hurried);
                }
                leave.pause(pause).await;
            }
        }
        if leave.called() {
            return settle(foundation, leave).await;
        }
    }
}

/// Builds the chunk line, watches both and rebuilds the chunk line, until a signal comes or the feed line falls.
async fn tend(
    foundation: &Foundation,
    feeds: &FeedLine,
    leave: &mut Signals,
    budget: &mut Budget,
) -> anyhow::Result<Ended> {
    while !leave.called() {
        let chunks = ChunkLine::build(foundation, feeds);
        foundation.readiness.set(Dependency::Lines, State::Up);
        let dead = tokio::select! {
            biased;
            () = leave.next() => None,
            name = first_death(&feeds.pulses) => Some((name, true)),
            name = first_death(&chunks.pulses) => Some((name, false)),
        };
        match dead {
            Some((name, _)) => fallen(foundation, name),
            None => leaving(foundation),
        }
        let Some(given_back) = leave.beside(chunks.dismantle()).await else {
            return Ok(Ended::Hurried);
        };
        info!(given_back, "chunk road drained");
        match dead {
            Some((name, true)) if !leave.called() => return Ok(Ended::Dead(name)),
            Some((name, false)) if !leave.called() => leave.pause(budget.spend(name, clock::now())?).await,
            Some(_) | None => {}
        }
    }
    leaving(foundation);
    Ok(Ended::Called)
}

fn leaving(foundation: &Foundation) {
    foundation.readiness.set(Dependency::Draining, State::Down("leaving".to_owned()));
}

fn fallen(foundation: &Foundation, name: &'static str) {
    error!(actor = name, "an actor is dead, its line is built anew");
    metrics::line_rebuilt(name);
    foundation.readiness.set(Dependency::Lines, State::Degraded(format!("{name} is being rebuilt")));
}

async fn drain(foundation: &Foundation, feeds: FeedLine, leave: &mut Signals) -> anyhow::Result<Exit> {
    let left = leave.left_of(foundation.config.replica.shutdown_deadline);
    match leave.beside(tokio::time::timeout(left, feeds.drain())).await {
        None => return Ok(Exit::Hurried),
        Some(Ok(0)) => info!("feed road drained"),
        Some(Ok(feeds)) => warn!(feeds, "feeds could not be handed over in time, their leases will end"),
        Some(Err(_)) => warn!("the shutdown deadline has come, leases will end by themselves"),
    }
    settle(foundation, leave).await
}

async fn settle(foundation: &Foundation, leave: &mut Signals) -> anyhow::Result<Exit> {
    match leave.beside(tokio::time::timeout(SETTLE_WITHIN, foundation.spool.settle())).await {
        None => return Ok(Exit::Hurried),
        Some(Ok(Ok(()))) => {}
        Some(Ok(Err(error))) => warn!(%error, "the journal is not settled, the next start will do it"),
        Some(Err(_)) => warn!("no time to settle the journal, the next start will do it"),
    }
    Ok(Exit::Clean)
}

/// For settling the journal, beyond the shutdown deadline, which may be used up by then.
const SETTLE_WITHIN: Duration = Duration::from_secs(2);

/// Pause between two attempts to reach what the start waits for.
const START_PAUSE: Duration = Duration::from_secs(1);
