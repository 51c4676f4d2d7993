//! Brings one session's bytes to its current generation and has it finished.
//!
//! Hears    Advance, Forsake, ReleaseFeed (FflowForwarder); the answers to its own steps
//! Tells    FflowRouter (open, resolve, publish, drop, worked), fflow (push, finish, delete), FflowForwarder (waits, ended)
//! Owns     one epoch of one session; its writes are fenced by it
//! Decides  nothing itself, see `domain::feed`
//! Fails    a write of unknown outcome is read again until it is known; what PostgreSQL refuses hands the session back
//!          to rest; a panic ends the actor, and the forwarder claims the session anew

mod bytes;
mod gauges;
mod steps;
mod writes;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use crate::clock;
use crate::domain::feed::{self, Claim, Event, Feed, Rules, Step};
use crate::domain::ids::ReplicaId;
use crate::domain::run::Run;
use crate::domain::trace::TraceParent;
use crate::gateways::fflow::Fflow;
use crate::gateways::holder::Holder;
use crate::gateways::spool::Spool;
use crate::gateways::upload_store::feeds::{FeedStore, Guard};
use crate::lease::Lease;
use crate::messages::{
    Advance, DropFlow, FeedEnded, FeedWaits, FlowWorked, Forsake, ForwarderDesk, OpenFlow, PublishRoute,
    ReleaseFeed, ResolveFlow,
};
use crate::metrics;
use crate::readiness::Readiness;
use crate::trace;

/// What all feeds of a replica share.
pub struct FeedParts {
    /// This replica.
    pub me: ReplicaId,
    /// The truth.
    pub store: Arc<dyn FeedStore>,
    /// The bytes.
    pub spool: Arc<dyn Spool>,
    /// The farm.
    pub fflow: Rc<dyn Fflow>,
    /// Where finished files are looked at, if an address is set.
    pub holder: Option<Rc<dyn Holder>>,
    /// Where flows are opened and found.
    pub router: RouterDesk,
    /// What feeds are decided by.
    pub rules: Rules,
    /// The right to speak to fflow at all.
    pub lease: Lease,
    /// Blocks that are fed a second time, at most so many at once.
    pub replays: Arc<Semaphore>,
    /// How long damaged bytes are read again before they count as damaged.
    pub read_retry: Duration,
    /// Where trouble with holder is written.
    pub readiness: Readiness,
    /// How long a feed that leaves may wait for what is in flight.
    pub release_within: Duration,
}

/// The FflowRouter, as feeds see it.
pub struct RouterDesk {
    /// New processes.
    pub open: Recipient<OpenFlow>,
    /// Known ones.
    pub resolve: Recipient<ResolveFlow>,
    /// For the other replicas.
    pub publish: Recipient<PublishRoute>,
    /// Ended ones.
    pub drop: Recipient<DropFlow>,
    /// Evidence.
    pub worked: Recipient<FlowWorked>,
}

/// One session's feed; see the card above.
pub struct SessionFeed {
    parts: Rc<FeedParts>,
    forwarder: ForwarderDesk,
    /// `None` only while an event is decided.
    feed: Option<Feed>,
    claim: Claim,
    span: tracing::Span,
    asked: Option<SpawnHandle>,
    timer: Option<SpawnHandle>,
    waiting: bool,
    /// PostgreSQL refused something: the session is to be left alone for a while.
    refused: bool,
    /// Where the newest bytes are, if this replica stored them: a committed run only ever grows at its end.
    newest: Option<Run>,
    memo: steps::Memo,
    gauges: gauges::Gauges,
}

impl SessionFeed {
    /// The feed of a claim, and the chunk that caused it.
    pub fn new(
        claim: Claim,
        cause: Option<TraceParent>,
        parts: Rc<FeedParts>,
        forwarder: ForwarderDesk,
    ) -> Self {
        let span = tracing::info_span!("feed", session.id = %claim.session, epoch = claim.epoch.0);
        trace::link(&span, cause);
        let feed = Some(Feed::new(claim.clone(), clock::now()));
        SessionFeed {
            parts,
            forwarder,
            feed,
            claim,
            span,
            asked: None,
            timer: None,
            waiting: false,
            refused: false,
            newest: None,
            memo: steps::Memo::default(),
            gauges: gauges::Gauges::default(),
        }
    }

    fn hear(&mut self, event: Event, ctx: &mut Context<Self>) {
        // An actor with a timer outlives its addresses: a feed whose forwarder is gone ends itself.
        if !self.forwarder.ended.connected() {
            return ctx.stop();
        }
        let Some(feed) = self.feed.take() else {
            return;
        };
        let span = self.span.clone();
        let _entered = span.enter();
        tell(&event);
        self.refused |= matches!(event, Event::Refused(_));
        let (feed, step) = feed::decide(feed, event, clock::now(), fastrand::f64(), &self.parts.rules);
        self.gauges.tell(&feed);
        self.feed = Some(feed);
        self.act(step, ctx);
    }

    /// One step replaces whatever was waited for or asked for before.
    fn act(&mut self, step: Step, ctx: &mut Context<Self>) {
        if step == Step::Stay {
            return;
        }
        debug!(?step, "next step");
        if let Step::Number(numbering) = &step {
            metrics::generation_begun(gauges::cause(numbering));
        }
        for handle in [self.asked.take(), self.timer.take()].into_iter().flatten() {
            ctx.cancel_future(handle);
        }
        self.note_waiting(matches!(step, Step::Wait { slow: true, .. }));
        match step {
            Step::Wait { until, .. } => {
                let span = clock::now().until(until);
                self.timer = Some(ctx.run_later(span, |actor, ctx| actor.hear(Event::Time, ctx)));
            }
            Step::Stop { stray } => self.stop(stray, ctx),
            step => self.asked = Some(self.ask(step, ctx)),
        }
    }

    fn note_waiting(&mut self, waiting: bool) {
        if self.waiting != waiting {
            self.waiting = waiting;
            self.forwarder.waits.do_send(FeedWaits { session: self.claim.session, waiting });
        }
    }

    fn stop(&mut self, stray: Option<crate::domain::ids::FlowName>, ctx: &mut Context<Self>) {
        if let Some(name) = stray {
            self.leave_stray(name);
        }
        let (session, epoch, rest) = (self.claim.session, self.claim.epoch, self.refused);
        self.forwarder.ended.do_send(FeedEnded { session, epoch, rest });
        ctx.stop();
    }

    fn guard(&self, feed: &Feed) -> Guard {
        Guard {
            session: self.claim.session,
            owner: self.parts.me,
            epoch: self.claim.epoch,
            generation: feed.generation(),
        }
    }
}

/// What an operator wants to know of a feed's life.
fn tell(event: &Event) {
    match event {
        Event::Created(feed::Created::At(address)) => info!(%address, "flow created"),
        Event::Created(feed::Created::NotSent(reason) | feed::Created::Failed(reason)) => {
            warn!(reason, "flow not created, it is tried again");
        }
        Event::Pushed(Err(trouble)) => warn!(?trouble, "push failed, this generation is over"),
        Event::Finished(Ok(())) => info!("finish reported done"),
        Event::Finished(Err(trouble)) => warn!(?trouble, "finish did not report done"),
        Event::Weighed(evidence) => info!(?evidence, "failure weighed"),
        Event::Damaged(reason) => tracing::error!(reason, "stored bytes are damaged, the session fails"),
        Event::Refused(reason) => {
            tracing::error!(reason, "the database refuses this session, it is handed back and rests");
        }
        Event::Completed => {
            metrics::session_ended("done");
            info!("distributed");
        }
        Event::Parked => {
            metrics::session_ended("failed");
            warn!("failed for good");
        }
        Event::Fenced => {
            metrics::fenced();
            info!("fenced: this session was taken over, or ended by another hand");
        }
        Event::Begin
        | Event::Advanced { .. }
        | Event::Time
        | Event::Leave { .. }
        | Event::Resolved(_)
        | Event::Numbered
        | Event::Recorded
        | Event::Pushed(Ok(()))
        | Event::Marked
        | Event::Looked(_)
        | Event::Deleted(_)
        | Event::Cleaned
        | Event::Released => {}
    }
}

impl Actor for SessionFeed {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.hear(Event::Begin, ctx);
    }
}

impl Handler<Advance> for SessionFeed {
    type Result = ();

    fn handle(&mut self, message: Advance, ctx: &mut Self::Context) {
        trace::link(&self.span, message.trace);
        self.newest = message.run.or(self.newest);
        self.hear(Event::Advanced { committed: message.committed, sealed: message.sealed }, ctx);
    }
}

impl Handler<Forsake> for SessionFeed {
    type Result = ();

    fn handle(&mut self, _: Forsake, ctx: &mut Self::Context) {
        self.hear(Event::Fenced, ctx);
    }
}

impl Handler<ReleaseFeed> for SessionFeed {
    type Result = ();

    fn handle(&mut self, _: ReleaseFeed, ctx: &mut Self::Context) {
        self.hear(Event::Leave { now: false }, ctx);
        ctx.run_later(self.parts.release_within, |actor, ctx| actor.hear(Event::Leave { now: true }, ctx));
    }
}

#[cfg(test)]
mod tests;
