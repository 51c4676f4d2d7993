//! The clock of cleaning: at fixed pauses it has everything removed that nobody uses any more.
//!
//! Hears    Tick (its own clock), RunOnce, Ping and Retire (supervision)
//! Tells    ExpireSessions to SessionRegistry, DropFlow and SweepStrays to FflowRouter; removes folders of the spool
//! Owns     the pause between two runs, and the place in the spool where the next look at its folders begins
//! Decides  nothing: what is abandoned is decided on locked rows, see `gateways::upload_store::cleaning`
//! Fails    a part that fails is logged once and left to the next run; the other parts go on; restarted, it begins
//!          with a pause

mod run;

use std::sync::Arc;

use actix::prelude::*;
use tokio::time::Instant;
use tracing::info;

use crate::config::JanitorConfig;
use crate::domain::ids::SessionId;
use crate::gateways::spool::Spool;
use crate::gateways::upload_store::cleaning::CleaningStore;
use crate::messages::{DropFlow, ExpireSessions, JanitorReport, Ping, Retire, RunOnce, SweepStrays, Tick};

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
}

/// The scheduler of the janitor; see the card above. Any number of replicas may run one.
pub struct JanitorScheduler {
    parts: JanitorParts,
    after: Option<SessionId>,
    running: bool,
    retired: bool,
}

impl JanitorScheduler {
    /// A janitor whose first run comes after one pause.
    pub fn new(parts: JanitorParts) -> Self {
        JanitorScheduler { parts, after: None, running: false, retired: false }
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
        ctx.notify_later(Tick, self.parts.config.interval);
    }
}

impl Supervised for JanitorScheduler {}

impl Handler<Tick> for JanitorScheduler {
    type Result = ();

    /// The pause begins when the run has ended: a slow run does not run into the next.
    fn handle(&mut self, _: Tick, ctx: &mut Self::Context) {
        let run = self.run().map(|_, janitor, ctx: &mut Context<Self>| {
            ctx.notify_later(Tick, janitor.parts.config.interval);
        });
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
    fn run(&mut self) -> ResponseActFuture<Self, JanitorReport> {
        if self.running {
            let error = Some("another run is under way".to_owned());
            return Box::pin(actix::fut::ready(JanitorReport { error, ..JanitorReport::default() }));
        }
        self.running = true;
        let (run, began) = (run::run(self.parts.clone(), self.after), Instant::now());
        Box::pin(run.into_actor(self).map(move |(mut report, after), janitor, _| {
            (janitor.running, janitor.after) = (false, after);
            report.duration = began.elapsed();
            tell(&report);
            report
        }))
    }
}

/// One line per run.
fn tell(report: &JanitorReport) {
    info!(
        videos.deleted = report.expiry.deleted,
        videos.blocked = report.expiry.blocked,
        sessions.removed = report.expiry.removed,
        sessions.cleaned = report.cleaned,
        folders.buried = report.buried,
        failed.given_up = report.given_up,
        strays.gone = report.strays,
        tombstones = report.tombstones,
        replicas = report.replicas,
        error = report.error.as_deref(),
        duration_ms = report.duration.as_millis() as u64,
        "cleaned"
    );
}

#[cfg(test)]
mod tests;
