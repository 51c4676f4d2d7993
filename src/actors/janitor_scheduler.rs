//! The clock of cleaning: at fixed pauses it has everything removed that nobody uses any more.
//!
//! Hears    Tick (its own clock), RunOnce, Ping and Retire (supervision)
//! Tells    ExpireSessions to SessionRegistry, DropFlow and SweepStrays to FflowRouter; removes folders of the spool
//! Owns     the pause between two runs, and the places where a run that came to the end of its time is taken up
//! Decides  nothing: what is abandoned is decided on locked rows, see `gateways::upload_store::cleaning`
//! Fails    a part that fails is logged once and left to the next run; the other parts go on; restarted, it begins
//!          with a pause

mod run;

use std::sync::Arc;
use std::time::SystemTime;

use actix::prelude::*;
use tokio::time::Instant;
use tracing::info;

use crate::config::JanitorConfig;
use crate::domain::ids::{SessionId, VideoId};
use crate::gateways::spool::Spool;
use crate::gateways::upload_store::cleaning::CleaningStore;
use crate::messages::{DropFlow, ExpireSessions, JanitorReport, Ping, Retire, RunOnce, SweepStrays, Tick};
use crate::metrics;
use crate::readiness::Readiness;

/// What the janitor is built from.
#[derive(Clone)]
pub struct JanitorParts {
    /// The truth.
    pub store: Arc<dyn CleaningStore>,
    /// The bytes.
    pub spool: Arc<dyn Spool>,
    /// Who may end sessions.
    pub expire: Recipient<ExpireSessions>,
    /// Who forgets routes.
    pub drop_flow: Recipient<DropFlow>,
    /// Who deletes processes.
    pub sweep: Recipient<SweepStrays>,
    /// Times and bounds.
    pub config: JanitorConfig,
    /// Where the last run is shown.
    pub readiness: Readiness,
}

/// Where the next run's ways through videos, folders and ended sessions go on: after these. A way that came to its end
/// begins anew.
#[derive(Debug, Clone, Copy, Default)]
struct Places {
    videos: Option<VideoId>,
    emptied: Option<VideoId>,
    folders: Option<SessionId>,
    ended: Option<SessionId>,
}

/// The scheduler of the janitor; see the card above. Any number of replicas may run one.
pub struct JanitorScheduler {
    parts: JanitorParts,
    places: Places,
    running: bool,
    striking: bool,
    retired: bool,
}

impl JanitorScheduler {
    /// A janitor whose first run comes after one pause.
    pub fn new(parts: JanitorParts) -> Self {
        JanitorScheduler { parts, places: Places::default(), running: false, striking: true, retired: false }
    }

    /// A janitor without a clock: it runs when it is asked to.
    pub fn still(parts: JanitorParts) -> Self {
        JanitorScheduler { striking: false, ..Self::new(parts) }
    }
}

impl Actor for JanitorScheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // A run that was under way ended with the old context.
        self.running = false;
        if self.retired {
            return;
        }
        self.pause(ctx);
    }
}

impl Supervised for JanitorScheduler {}

impl Handler<Tick> for JanitorScheduler {
    type Result = ();

    /// The pause begins when the run has ended: a slow run does not run into the next.
    fn handle(&mut self, _: Tick, ctx: &mut Self::Context) {
        let run = self.run().map(|_, janitor, ctx: &mut Context<Self>| janitor.pause(ctx));
        ctx.spawn(run);
    }
}

impl Handler<RunOnce> for JanitorScheduler {
    type Result = ResponseActFuture<Self, JanitorReport>;

    fn handle(&mut self, _: RunOnce, _: &mut Self::Context) -> Self::Result {
        self.run()
    }
}

impl Handler<Retire> for JanitorScheduler {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) {
        self.retired = true;
        ctx.stop();
    }
}

impl Handler<Ping> for JanitorScheduler {
    type Result = ();

    fn handle(&mut self, _: Ping, _: &mut Self::Context) {}
}

impl JanitorScheduler {
    fn pause(&mut self, ctx: &mut Context<Self>) {
        if self.striking {
            let pause = self.parts.config.interval;
            self.parts.readiness.janitor_waits(SystemTime::now() + pause);
            ctx.notify_later(Tick, pause);
        }
    }

    fn run(&mut self) -> ResponseActFuture<Self, JanitorReport> {
        if self.running {
            let error = Some("another run is under way".to_owned());
            return Box::pin(actix::fut::ready(JanitorReport { error, ..JanitorReport::default() }));
        }
        self.running = true;
        self.parts.readiness.janitor_runs();
        let (run, began) = (run::run(self.parts.clone(), self.places), Instant::now());
        Box::pin(run.into_actor(self).map(move |(mut report, places), janitor, _| {
            (janitor.running, janitor.places) = (false, places);
            report.duration = began.elapsed();
            tell(&report);
            janitor.parts.readiness.janitor_ran(&report, SystemTime::now());
            report
        }))
    }
}

/// One line per run, and its counts.
fn tell(report: &JanitorReport) {
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    metrics::janitor_ran(report.error.is_none(), report.duration, at);
    metrics::janitor_removed("videos", report.videos_deleted);
    metrics::janitor_removed("sessions", report.sessions_removed);
    metrics::janitor_removed("strays", report.strays_gone);
    metrics::janitor_removed("tombstones", report.tombstones_forgotten);
    info!(
        videos.deleted = report.videos_deleted,
        videos.blocked = report.videos_blocked,
        sessions.removed = report.sessions_removed,
        sessions.cleaned = report.sessions_cleaned,
        folders.buried = report.folders_buried,
        folders.removed = report.folders_removed,
        failed.given_up = report.failed_given_up,
        strays.gone = report.strays_gone,
        runs = report.runs_forgotten,
        tombstones = report.tombstones_forgotten,
        replicas = report.replicas_forgotten,
        more_is_left = report.more_is_left,
        error = report.error.as_deref(),
        duration_ms = report.duration.as_millis() as u64,
        "cleaned"
    );
}

#[cfg(test)]
mod tests;
