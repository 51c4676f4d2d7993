//! Knows where the ffmpeg process of each session runs, for all replicas, and which processes nobody wants any more.
//!
//! Hears    OpenFlow, ResolveFlow, PublishRoute, FlowWorked (SessionFeed), DropFlow (SessionFeed, JanitorScheduler),
//!          SweepStrays (JanitorScheduler, its own clock), Ping and Retire (supervision)
//! Tells    nobody; speaks to fflow (create, delete), Redis and the farm's tables
//! Owns     the pause after a refused address, the evidence of the last second, the replicas seen lately
//! Decides  nothing itself, see `domain::route`
//! Fails    without Redis it works on from what the session's row says; without PostgreSQL it keeps the evidence, and
//!          strays wait; restarted, it forgets only what it can learn again

mod evidence;
mod shared_routes;
mod strays;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;
use tracing_actix::ActorInstrument;

use self::evidence::{Evidence, Seen};
use self::shared_routes::SharedRoutes;
pub use self::strays::StrayRound;
use crate::config::FflowConfig;
use crate::domain::ids::FlowName;
use crate::domain::route::{self, AllowList, FlowUrl};
use crate::gateways::fflow::{Fflow, FflowError};
use crate::gateways::route_store::RouteStore;
use crate::gateways::upload_store::farm::FarmStore;
use crate::messages::{
    DropFlow, FlowWorked, OpenFlow, Opened, Ping, PublishRoute, ResolveFlow, Retire, SweepStrays, Swept,
};
use crate::readiness::{Dependency, Readiness, State};
use crate::trace;

/// How long evidence gathers before it is written.
const FLUSH: Duration = Duration::from_secs(1);

/// The routing actor; one per replica.
pub struct FflowRouter {
    fflow: Rc<dyn Fflow>,
    routes: Arc<dyn RouteStore>,
    farm: Arc<dyn FarmStore>,
    allowed: Rc<AllowList>,
    config: FflowConfig,
    readiness: Readiness,
    stray_round: StrayRound,
    paused_until: Option<Instant>,
    evidence: Evidence,
    flushing: bool,
    seen: Seen,
    sweeping: bool,
    retired: bool,
}

impl FflowRouter {
    /// A router that speaks to these neighbours; strays are swept as [`StrayRound::default`] says.
    pub fn new(
        fflow: Rc<dyn Fflow>,
        routes: Arc<dyn RouteStore>,
        farm: Arc<dyn FarmStore>,
        allowed: AllowList,
        config: FflowConfig,
        readiness: Readiness,
    ) -> Self {
        FflowRouter {
            fflow,
            routes,
            farm,
            allowed: Rc::new(allowed),
            config,
            readiness,
            stray_round: StrayRound::default(),
            paused_until: None,
            evidence: Evidence::default(),
            flushing: false,
            seen: Seen::default(),
            sweeping: false,
            retired: false,
        }
    }

    /// With these rounds of sweeping strays.
    #[must_use]
    pub fn with_strays(mut self, round: StrayRound) -> Self {
        self.stray_round = round;
        self
    }
}

impl Actor for FflowRouter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // What was in flight before a restart is gone, and so are its ends.
        self.flushing = false;
        self.sweeping = false;
        if self.retired {
            return;
        }
        ctx.run_interval(FLUSH, |router, ctx| router.flush(ctx));
        self.watch_redis(ctx);
        ctx.run_interval(self.stray_round.interval, |router, ctx| {
            let round = router.sweep(Instant::now() + strays::ROUND).map(|_, _, _| ());
            ctx.spawn(round);
        });
    }
}

impl Supervised for FflowRouter {}

impl Handler<OpenFlow> for FflowRouter {
    type Result = ResponseActFuture<Self, Opened>;

    fn handle(&mut self, OpenFlow { session, name, trace }: OpenFlow, _: &mut Self::Context) -> Self::Result {
        let span = tracing::info_span!("open_flow", session.id = %session, flow.name = %name);
        trace::adopt(&span, trace);
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            let reason = "creates are paused, fflow answers with an address outside UPLOADER_FFLOW_ALLOWED";
            return Box::pin(actix::fut::ready(Opened::NotSent(reason.to_owned())));
        }
        let fflow = Rc::clone(&self.fflow);
        let create = async move {
            let answer = fflow.create(&name).await;
            (name, answer)
        };
        let opened =
            create.into_actor(self).map(|(name, answer), router, ctx| router.opened(&name, answer, ctx));
        Box::pin(opened.actor_instrument(span))
    }
}

impl Handler<ResolveFlow> for FflowRouter {
    type Result = ResponseFuture<Option<FlowUrl>>;

    fn handle(&mut self, asked: ResolveFlow, _: &mut Self::Context) -> Self::Result {
        let (routes, allowed) = (self.shared_routes(), Rc::clone(&self.allowed));
        let name = asked.generation.name(asked.session);
        Box::pin(async move {
            let cached = routes.get(asked.session).await;
            if let Some(url) = cached.and_then(|value| route::from_stored(&value, &name, &allowed)) {
                return Some(url);
            }
            let url = route::from_stored(&asked.stored?, &name, &allowed)?;
            routes.set(asked.session, &url).await;
            Some(url)
        })
    }
}

impl Handler<PublishRoute> for FflowRouter {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, PublishRoute { session, url }: PublishRoute, _: &mut Self::Context) -> Self::Result {
        let routes = self.shared_routes();
        Box::pin(async move { routes.set(session, &url).await })
    }
}

impl Handler<DropFlow> for FflowRouter {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, DropFlow { session }: DropFlow, _: &mut Self::Context) -> Self::Result {
        let routes = self.shared_routes();
        Box::pin(async move { routes.remove(session).await })
    }
}

impl Handler<FlowWorked> for FflowRouter {
    type Result = ();

    fn handle(&mut self, FlowWorked { session, url, step }: FlowWorked, _: &mut Self::Context) {
        self.evidence.add(url.replica(), step, session);
    }
}

impl Handler<SweepStrays> for FflowRouter {
    type Result = ResponseActFuture<Self, Option<Swept>>;

    fn handle(&mut self, SweepStrays { until }: SweepStrays, _: &mut Self::Context) -> Self::Result {
        self.sweep(until)
    }
}

impl Handler<Retire> for FflowRouter {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) {
        self.retired = true;
        ctx.stop();
    }
}

impl Handler<Ping> for FflowRouter {
    type Result = ();

    fn handle(&mut self, _: Ping, _: &mut Self::Context) {}
}

impl FflowRouter {
    fn opened(
        &mut self,
        name: &FlowName,
        answer: Result<String, FflowError>,
        ctx: &mut Context<Self>,
    ) -> Opened {
        match answer {
            Ok(address) => match route::from_answer(&address, name, &self.allowed) {
                Ok(url) => self.found(url, ctx),
                Err(reason) => self.refused(reason),
            },
            Err(FflowError::NotSent(reason)) => {
                self.readiness.set(Dependency::Fflow, State::Degraded(format!("not reached: {reason}")));
                Opened::NotSent(reason)
            }
            Err(error @ (FflowError::Status { .. } | FflowError::Unknown(_))) => {
                self.readiness.set(Dependency::Fflow, State::Degraded("creates fail".to_owned()));
                Opened::Failed(error.to_string())
            }
        }
    }

    fn found(&mut self, url: FlowUrl, ctx: &mut Context<Self>) -> Opened {
        self.readiness.set(Dependency::Fflow, State::Up);
        if self.seen.is_news(url.replica()) {
            let (farm, replica) = (Arc::clone(&self.farm), url.replica().to_owned());
            let tell = async move { farm.saw_replica(&replica).await.map_err(|error| (replica, error)) };
            ctx.spawn(tell.into_actor(self).map(|told, router, _| {
                if let Err((replica, error)) = told {
                    tracing::debug!(replica, %error, "a replica of fflow was not written down");
                    router.seen.forget(&replica);
                }
            }));
        }
        Opened::At(url)
    }

    /// Nothing but a person can mend this: no process is started for a while, and nothing is ever sent to the address.
    fn refused(&mut self, reason: String) -> Opened {
        let pause = self.config.refused_pause;
        if self.paused_until.is_none_or(|until| until < Instant::now()) {
            tracing::error!(
                reason,
                pause_ms = pause.as_millis() as u64,
                "fflow answered with an address outside the allowed origins; if it is right, add its origin to \
                 UPLOADER_FFLOW_ALLOWED"
            );
        }
        self.paused_until = Some(Instant::now() + pause);
        let shown = format!("refused address: {reason}; see UPLOADER_FFLOW_ALLOWED");
        self.readiness.set(Dependency::Fflow, State::Down(shown));
        Opened::RefusedAddress(reason)
    }

    /// Writes down the evidence; what cannot be written now is written with the next.
    fn flush(&mut self, ctx: &mut Context<Self>) {
        if self.flushing || self.evidence.is_empty() {
            return;
        }
        self.flushing = true;
        let (farm, evidence) = (Arc::clone(&self.farm), self.evidence.take());
        let write = async move {
            let written = farm.worked(evidence.clone()).await;
            (evidence, written)
        };
        ctx.spawn(write.into_actor(self).map(|(evidence, written), router, _| {
            router.flushing = false;
            if let Err(error) = written {
                tracing::debug!(%error, "evidence was not written down");
                router.evidence.put_back(evidence);
            }
        }));
    }

    fn shared_routes(&self) -> SharedRoutes {
        SharedRoutes::new(Arc::clone(&self.routes), self.readiness.clone())
    }
}

#[cfg(test)]
mod tests;
