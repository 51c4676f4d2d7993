//! Keeps the set of sessions that this replica feeds: claims them, keeps the lease, hands them back.
//!
//! Hears    SessionAdvanced (SessionRegistry), FeedEnded and FeedWaits (SessionFeed), Drain (app), Ping and Retire
//!          (supervision), ListFeeds
//! Tells    SessionFeed: Advance, Forsake, ReleaseFeed; starts and stops them
//! Owns     this replica's heartbeat and claims
//! Decides  nothing itself: who may claim what stands in the claim's statement
//! Fails    without PostgreSQL nothing is claimed and the feeds pause; restarted, it claims its own sessions anew

mod beats;
mod claims;
mod news;
mod rest;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;
use tracing::warn;

use self::rest::Resting;

use crate::clock;
use crate::config::{FeedConfig, ReplicaConfig};
use crate::domain::feed::Claim;
use crate::domain::ids::{ReplicaId, SessionId, Timestamp};
use crate::domain::trace::TraceParent;
use crate::gateways::upload_store::feeds::{FeedStore, Told};
use crate::gateways::upload_store::replicas::ReplicaStore;
use crate::lease::LeaseKeeper;
use crate::messages::{
    Advance, Drain, FedSessions, FeedEnded, FeedHandle, FeedWaits, Forsake, ForwarderDesk, ListFeeds, Ping,
    ReleaseFeed, Retire, SessionAdvanced,
};
use crate::metrics;
use crate::readiness::Readiness;

/// What the forwarder is built from.
pub struct ForwarderParts {
    /// This replica.
    pub me: ReplicaId,
    /// The truth.
    pub store: Arc<dyn FeedStore>,
    /// Starts the feed of a claim.
    pub start_feed: Rc<dyn Fn(Claim, Option<TraceParent>, ForwarderDesk) -> FeedHandle>,
    /// Where the lease is kept.
    pub replicas: Arc<dyn ReplicaStore>,
    /// Extends the lease that feeds ask for.
    pub keeper: LeaseKeeper,
    /// Limits and pauses.
    pub config: FeedConfig,
    /// Name, lease and heartbeat.
    pub replica: ReplicaConfig,
    /// Where trouble is written.
    pub readiness: Readiness,
}

struct Running {
    feed: FeedHandle,
    told: Told,
    waiting: bool,
}

/// The forwarder; see the card above.
pub struct FflowForwarder {
    parts: ForwarderParts,
    running: BTreeMap<SessionId, Running>,
    /// Sessions that advanced here and that nobody feeds.
    wanted: BTreeSet<SessionId>,
    /// The chunks that made them wanted, for their feeds' spans.
    causes: BTreeMap<SessionId, TraceParent>,
    resting: Resting,
    claiming: bool,
    /// The last claim found no room for all that it might have had: a slot that becomes free is filled at once.
    crowded: bool,
    filling: bool,
    /// Claims of a drain that are on their way back.
    handing_back: usize,
    polling: bool,
    /// The last of the feeds whose rows were compared; the first ones are next if it is nobody.
    compared: Option<SessionId>,
    beating: bool,
    /// When the heartbeat after a lapse was sent: the lease is valid again once rows read after it were compared.
    regained: Option<Timestamp>,
    /// When sessions of silent replicas may be taken: one lease after this one became valid.
    expired_from: Option<Timestamp>,
    leaving: Option<oneshot::Sender<usize>>,
    draining: bool,
    /// The lease was given up: no further heartbeat may bring it back. A beat on its way asks when it begins.
    left: Rc<Cell<bool>>,
    retired: bool,
}

impl FflowForwarder {
    /// A forwarder that feeds nothing yet.
    pub fn new(parts: ForwarderParts) -> Self {
        FflowForwarder {
            resting: Resting::new(parts.config.backoff_max),
            parts,
            running: BTreeMap::new(),
            wanted: BTreeSet::new(),
            causes: BTreeMap::new(),
            claiming: false,
            crowded: false,
            filling: false,
            handing_back: 0,
            polling: false,
            compared: None,
            beating: false,
            regained: None,
            expired_from: None,
            leaving: None,
            draining: false,
            left: Rc::default(),
            retired: false,
        }
    }

    fn start_feed(&mut self, claim: Claim, ctx: &mut Context<Self>) {
        let desk = ForwarderDesk { ended: ctx.address().recipient(), waits: ctx.address().recipient() };
        let told = news::told_by(&claim);
        let cause = self.causes.remove(&told.session);
        let feed = (self.parts.start_feed)(claim, cause, desk);
        self.running.insert(told.session, Running { feed, told, waiting: false });
    }

    fn finish_drain(&mut self) {
        if self.running.is_empty()
            && !self.claiming
            && self.handing_back == 0
            && let Some(done) = self.leaving.take()
        {
            // The one who asked may have run out of time.
            let _ = done.send(0);
        }
    }
}

impl Actor for FflowForwarder {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.retired {
            return;
        }
        metrics::mailbox_new("FflowForwarder");
        self.beat(ctx);
        ctx.run_interval(self.parts.replica.heartbeat, |forwarder, ctx| forwarder.beat(ctx));
        ctx.run_interval(self.parts.config.sweep, |forwarder, ctx| forwarder.sweep(ctx));
        ctx.run_interval(self.parts.config.advance_poll, Self::poll_rows);
        ctx.run_interval(self.parts.config.idle, |forwarder, ctx| forwarder.drop_idle_flows(ctx));
    }
}

impl Supervised for FflowForwarder {
    /// Feeds whose address is dropped stop; their sessions are mine while no feed runs here, and are claimed anew.
    fn restarting(&mut self, _: &mut Self::Context) {
        self.running.values().for_each(|running| running.feed.forsake.do_send(Forsake));
        self.running.clear();
        (self.claiming, self.filling, self.polling, self.beating) = (false, false, false, false);
        self.regained = None;
        self.handing_back = 0;
    }
}

impl Handler<SessionAdvanced> for FflowForwarder {
    type Result = ();

    fn handle(&mut self, advanced: SessionAdvanced, ctx: &mut Self::Context) {
        metrics::taken_up("FflowForwarder");
        if let Some(running) = self.running.get_mut(&advanced.session) {
            return running.advance(Advance {
                committed: advanced.committed,
                sealed: advanced.sealed,
                run: advanced.run,
                trace: advanced.trace,
            });
        }
        let unowned = advanced.owner.is_none() || advanced.owner == Some(self.parts.me);
        let enough = advanced.sealed || advanced.committed as u64 >= self.parts.config.start_bytes;
        if unowned && enough {
            self.wanted.insert(advanced.session);
            self.causes.extend(advanced.trace.map(|trace| (advanced.session, trace)));
            self.claim_wanted(ctx);
        }
    }
}

impl Handler<FeedEnded> for FflowForwarder {
    type Result = ();

    fn handle(&mut self, ended: FeedEnded, ctx: &mut Self::Context) {
        let same = self.running.get(&ended.session).is_some_and(|running| running.told.epoch == ended.epoch);
        if same {
            self.running.remove(&ended.session);
        }
        if ended.rest {
            self.resting.add(ended.session, clock::now(), fastrand::f64());
        }
        self.finish_drain();
        self.fill(ctx);
    }
}

impl Handler<FeedWaits> for FflowForwarder {
    type Result = ();

    fn handle(&mut self, waits: FeedWaits, ctx: &mut Self::Context) {
        if let Some(running) = self.running.get_mut(&waits.session) {
            running.waiting = waits.waiting;
            self.fill(ctx);
        }
    }
}

impl Handler<Drain> for FflowForwarder {
    type Result = ResponseActFuture<Self, usize>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        self.draining = true;
        let (done, drained) = oneshot::channel();
        self.leaving = Some(done);
        self.running.values().for_each(|running| running.feed.release.do_send(ReleaseFeed));
        self.finish_drain();
        let (replicas, me) = (self.parts.replicas.clone(), self.parts.me);
        let within = self.parts.replica.shutdown_release;
        let wait = async move { tokio::time::timeout(within, drained).await };
        let leave = wait.into_actor(self).then(move |answer, forwarder, _| {
            let left = if answer.is_ok() { 0 } else { forwarder.running.len() + forwarder.handing_back };
            forwarder.left.set(true);
            async move {
                if let Err(error) = replicas.leave(me).await {
                    warn!(%error, "the lease could not be given up, it will end by itself");
                }
                left
            }
            .into_actor(forwarder)
        });
        Box::pin(leave)
    }
}

impl Handler<Retire> for FflowForwarder {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) {
        self.retired = true;
        ctx.stop();
    }
}

impl Handler<Ping> for FflowForwarder {
    type Result = ();

    fn handle(&mut self, _: Ping, _: &mut Self::Context) {}
}

impl Handler<ListFeeds> for FflowForwarder {
    type Result = FedSessions;

    fn handle(&mut self, _: ListFeeds, _: &mut Self::Context) -> Self::Result {
        FedSessions(self.running.keys().copied().collect())
    }
}

#[cfg(test)]
mod tests;
