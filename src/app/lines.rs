//! The two lines of actors: feeds, and the chunks that come before them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::Semaphore;

use super::cleaning;
use super::foundation::Foundation;
use crate::actors::amqp_consumer::AmqpConsumer;
use crate::actors::chunk_validator::ChunkValidator;
use crate::actors::fflow_forwarder::{FflowForwarder, ForwarderParts};
use crate::actors::fflow_router::{FflowRouter, StrayRound};
use crate::actors::janitor_scheduler::JanitorScheduler;
use crate::actors::session_feed::{FeedParts, RouterDesk, SessionFeed};
use crate::actors::session_registry::{RegistryParts, SessionRegistry};
use crate::domain::feed::Rules;
use crate::domain::retry::Backoff;
use crate::domain::route::AllowList;
use crate::lease;
use crate::messages::{Drain, FeedHandle, SessionAdvanced};
use crate::supervision::{Pulse, retire};

/// How long the parts of a fallen line may take to give back what they hold.
const DISMANTLE_WITHIN: Duration = Duration::from_secs(6);

/// How long giving back and closing may take after the settle share.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);

/// FflowRouter and FflowForwarder with its feeds.
pub(super) struct FeedLine {
    forwarder: Addr<FflowForwarder>,
    router: Addr<FflowRouter>,
    pub(super) pulses: Vec<Pulse>,
}

impl FeedLine {
    pub(super) fn build(foundation: &Foundation) -> Self {
        let config = &foundation.config;
        let router = router(foundation);
        let (keeper, lease) = lease::lease();
        let feeds = Rc::new(FeedParts {
            me: foundation.me,
            store: foundation.stores.feeds.clone(),
            spool: foundation.spool.clone(),
            fflow: foundation.fflow.clone(),
            holder: foundation.holder.clone(),
            router: desk(&router),
            rules: rules(foundation),
            lease,
            replays: Arc::new(Semaphore::new(config.feed.replays)),
            read_retry: config.spool.read_retry,
            readiness: foundation.readiness.clone(),
            release_within: config.replica.shutdown_release.mul_f64(0.7),
        });
        let parts = ForwarderParts {
            me: foundation.me,
            store: feeds.store.clone(),
            start_feed: Rc::new(move |claim, cause, desk| {
                FeedHandle::of(&SessionFeed::new(claim, cause, feeds.clone(), desk).start())
            }),
            replicas: foundation.stores.replicas.clone(),
            keeper,
            config: config.feed.clone(),
            replica: config.replica.clone(),
            readiness: foundation.readiness.clone(),
        };
        let forwarder = Supervisor::start(move |ctx: &mut Context<FflowForwarder>| {
            ctx.set_mailbox_capacity(4096);
            FflowForwarder::new(parts)
        });
        let pulses = vec![Pulse::of("FflowForwarder", &forwarder), Pulse::of("FflowRouter", &router)];
        FeedLine { forwarder, router, pulses }
    }

    fn advanced(&self) -> Recipient<SessionAdvanced> {
        self.forwarder.clone().recipient()
    }

    /// Hands the feeds back; says how many could not be.
    pub(super) async fn drain(&self) -> usize {
        self.forwarder.send(Drain).await.unwrap_or(0)
    }

    /// Gives up what a fallen line still holds, and ends its actors.
    pub(super) async fn dismantle(self) {
        // A dead forwarder cannot hand anything back: its sessions are claimed anew by the next one.
        let _ = tokio::time::timeout(DISMANTLE_WITHIN, self.drain()).await;
        retire(self.pulses).await;
    }
}

pub(super) fn router(foundation: &Foundation) -> Addr<FflowRouter> {
    let config = &foundation.config;
    let (fflow, routes) = (foundation.fflow.clone(), foundation.routes.clone());
    let farm = foundation.stores.farm.clone();
    let allowed = AllowList::new(config.fflow.allowed.iter().map(ToString::to_string));
    let strays = StrayRound { interval: config.feed.stray_interval, max_age: config.feed.stray_max_age };
    let (settings, readiness) = (config.fflow.clone(), foundation.readiness.clone());
    Supervisor::start(move |ctx: &mut Context<FflowRouter>| {
        ctx.set_mailbox_capacity(4096);
        FflowRouter::new(fflow, routes, farm, allowed, settings, readiness).with_strays(strays)
    })
}

fn desk(router: &Addr<FflowRouter>) -> RouterDesk {
    RouterDesk {
        open: router.clone().recipient(),
        resolve: router.clone().recipient(),
        publish: router.clone().recipient(),
        drop: router.clone().recipient(),
        worked: router.clone().recipient(),
    }
}

fn rules(foundation: &Foundation) -> Rules {
    let config = &foundation.config;
    let feed = &config.feed;
    let bytes = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
    Rules {
        start_bytes: bytes(feed.start_bytes),
        push_block: bytes(feed.push_block),
        push_linger: feed.push_linger,
        push_rate: feed.push_rate,
        idle: feed.idle,
        backoff: Backoff { min: feed.backoff_min, max: feed.backoff_max },
        max_strikes: i32::try_from(feed.max_strikes).unwrap_or(i32::MAX),
        strike_waits: feed.strike_waits.clone(),
        strike_span: feed.strike_span,
        holder: foundation.holder.is_some(),
        holder_poll: config.holder.poll,
        finish_base: feed.finish_base,
        finish_rate: feed.finish_rate,
        finish_grace: feed.finish_grace,
    }
}

/// AmqpConsumer, ChunkValidator and SessionRegistry, and the JanitorScheduler where it is enabled.
pub(super) struct ChunkLine {
    consumer: Addr<AmqpConsumer>,
    drain_within: Duration,
    pub(super) pulses: Vec<Pulse>,
}

impl ChunkLine {
    pub(super) fn build(foundation: &Foundation, feeds: &FeedLine) -> Self {
        let config = &foundation.config;
        let mailbox = usize::from(config.amqp.prefetch) * 2;
        let registry = registry(foundation, feeds.advanced());
        let (admit, max_bytes) = (registry.clone().recipient(), config.chunk.max_bytes as u32);
        let validator = Supervisor::start(move |ctx: &mut Context<ChunkValidator>| {
            ctx.set_mailbox_capacity(mailbox);
            ChunkValidator::new(admit, max_bytes)
        });
        let (broker, amqp) = (foundation.broker.clone(), config.amqp.clone());
        let share = config.replica.shutdown_settle;
        let (validate, readiness) = (validator.clone().recipient(), foundation.readiness.clone());
        let consumer = Supervisor::start(move |ctx: &mut Context<AmqpConsumer>| {
            ctx.set_mailbox_capacity(mailbox);
            AmqpConsumer::new(broker, validate, amqp, readiness).with_settle_share(share)
        });
        // In the order of the road: whatever one hands on while it retires, the next one still drops.
        let mut pulses: Vec<Pulse> = janitor(foundation, feeds, &registry).into_iter().collect();
        pulses.push(Pulse::of("AmqpConsumer", &consumer));
        pulses.push(Pulse::of("ChunkValidator", &validator));
        pulses.push(Pulse::of("SessionRegistry", &registry));
        let drain_within = config.replica.shutdown_settle + CLOSE_WITHIN;
        ChunkLine { consumer, drain_within, pulses }
    }

    /// Stops consuming, settles what can be settled in time, gives the rest back and ends its actors; says how many
    /// chunks went back.
    pub(super) async fn dismantle(self) -> usize {
        let drain = tokio::time::timeout(self.drain_within, self.consumer.send(Drain));
        let given_back = drain.await.map_or(0, |answer| answer.unwrap_or(0));
        retire(self.pulses).await;
        given_back
    }
}

pub(super) fn registry(
    foundation: &Foundation,
    forwarder: Recipient<SessionAdvanced>,
) -> Addr<SessionRegistry> {
    let config = &foundation.config;
    let mailbox = usize::from(config.amqp.prefetch) * 2;
    let parts = RegistryParts {
        store: foundation.stores.chunks.clone(),
        cleaning: foundation.stores.cleaning.clone(),
        spool: foundation.spool.clone(),
        forwarder,
        config: config.chunk.clone(),
        video_ttl: config.janitor.video_ttl,
        quota_bytes: foundation.quota_bytes,
        early_chunks: usize::from(config.amqp.prefetch).div_ceil(4),
        readiness: foundation.readiness.clone(),
    };
    Supervisor::start(move |ctx: &mut Context<SessionRegistry>| {
        ctx.set_mailbox_capacity(mailbox);
        SessionRegistry::new(parts)
    })
}

/// The pulse keeps the janitor: it ends with its line.
fn janitor(foundation: &Foundation, feeds: &FeedLine, registry: &Addr<SessionRegistry>) -> Option<Pulse> {
    if !foundation.config.janitor.enabled {
        return None;
    }
    let parts = cleaning::janitor_parts(foundation, registry, &feeds.router);
    let janitor = Supervisor::start(move |_| JanitorScheduler::new(parts));
    Some(Pulse::of("JanitorScheduler", &janitor))
}
