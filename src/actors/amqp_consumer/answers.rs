//! How a delivery ends: replied and acked, in this order; rejected; or given back.
//!
//! The one exception to the order is a broker under alarm that takes no replies for long: see [`Gate::Yielding`].

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::ledger::{Forgotten, Stage};
use super::{AmqpConsumer, Gate};
use crate::clock;
use crate::domain::ids::Timestamp;
use crate::domain::retry::Backoff;
use crate::gateways::broker::{BrokerError, BrokerLink, Published};
use crate::metrics::{self, ChunkEnd, Stage as Timed};
use crate::moderation;
use crate::readiness::{Dependency, State};
use crate::ticket::{DeliveryId, Reply};

/// How often a reply that found no queue is published again.
const REPEATS: usize = 3;
/// Kept replies that are published at once.
const FLUSH_WIDTH: usize = 32;
/// A line that gives everything back must not spin: the waits before a delivery goes back.
const GIVE_BACK: Backoff = Backoff { min: Duration::from_millis(50), max: Duration::from_secs(5) };

/// How a reply is counted.
fn end_of(reply: &Reply) -> ChunkEnd {
    reply.refusal.as_ref().map_or(ChunkEnd::Accepted, |refusal| ChunkEnd::Refused(refusal.kind.word()))
}

/// Publishes a reply until a queue takes it; the topology is declared again in between. A queue of the asker's own is
/// no part of the topology, so there is nothing to declare for it.
async fn publish(link: Arc<dyn BrokerLink>, reply: Reply) -> Result<Published, BrokerError> {
    if reply.correlation.is_private() {
        return link.publish(&reply).await;
    }
    for _ in 0..REPEATS {
        match link.publish(&reply).await? {
            Published::Confirmed => return Ok(Published::Confirmed),
            Published::Returned => link.declare().await?,
        }
    }
    link.publish(&reply).await
}

impl AmqpConsumer {
    pub(super) fn answer(&mut self, id: DeliveryId, reply: Reply, ctx: &mut Context<Self>) {
        self.given_back_in_row = 0;
        match self.gate {
            Gate::Open => self.publish(id, reply, ctx),
            Gate::Shut => self.ledger.set(id, Stage::Parked(reply)),
            Gate::Yielding => self.keep(id, reply, ctx),
        }
    }

    fn publish(&mut self, id: DeliveryId, reply: Reply, ctx: &mut Context<Self>) {
        let Some(link) = self.link() else { return };
        self.ledger.set(id, Stage::Publishing(reply.clone()));
        let (published, began) = (publish(link, reply), clock::now());
        let done = move |outcome, actor: &mut Self, ctx: &mut Context<Self>| {
            metrics::chunk_stage(Timed::Reply, began.until(clock::now()));
            actor.published(id, outcome, ctx);
        };
        self.work(id, published, done, ctx);
    }

    fn published(
        &mut self,
        id: DeliveryId,
        outcome: Result<Published, BrokerError>,
        ctx: &mut Context<Self>,
    ) {
        if let Err(error) = outcome {
            return self.lose(id.link, error, ctx);
        }
        let routed = outcome.is_ok_and(|published| published == Published::Confirmed);
        match self.ledger.get(id).map(|open| open.stage.clone()) {
            Some(Stage::Publishing(reply)) if routed => self.ack(id, &reply, false, ctx),
            // Given back, its chunk would come, be answered and be returned again for as long as the broker lives.
            Some(Stage::Publishing(reply)) if reply.correlation.is_private() => {
                tracing::info!(delivery.tag = id.tag, "the asker is gone, its reply is dropped");
                self.ack(id, &reply, false, ctx);
            }
            Some(Stage::Publishing(_)) => {
                tracing::warn!(delivery.tag = id.tag, "no queue takes replies, the chunk goes back");
                self.give_back(id, "no_queue", ctx);
            }
            Some(Stage::Owed(reply)) => self.over(id, end_of(&reply)),
            // The link is gone, or the delivery went back in a shutdown.
            Some(Stage::Held | Stage::Stale | Stage::Parked(_) | Stage::Returning | Stage::Ending) | None => {
            }
        }
    }

    /// The delivery stays open until its ack was sent, unless it owes its reply still.
    fn ack(&mut self, id: DeliveryId, reply: &Reply, owed: bool, ctx: &mut Context<Self>) {
        let ending = end_of(reply);
        let Some(link) = self.link() else { return };
        self.ledger.set(id, if owed { Stage::Owed(reply.clone()) } else { Stage::Ending });
        let ack = async move { link.ack(id.tag).await };
        self.work(id, ack, move |acked, actor, ctx| actor.ended(id, ending, acked, ctx), ctx);
    }

    pub(super) fn reject(&mut self, id: DeliveryId, reason: &str, ctx: &mut Context<Self>) {
        self.given_back_in_row = 0;
        let Some(link) = self.link() else { return };
        tracing::warn!(delivery.tag = id.tag, reason, "delivery rejected, nobody can be told");
        self.ledger.set(id, Stage::Ending);
        let reject = async move { link.reject(id.tag).await };
        self.work(
            id,
            reject,
            move |done, actor, ctx| actor.ended(id, ChunkEnd::Refused("unanswerable"), done, ctx),
            ctx,
        );
    }

    pub(super) fn give_back(&mut self, id: DeliveryId, why: &'static str, ctx: &mut Context<Self>) {
        self.ledger.set(id, Stage::Returning);
        let wait = GIVE_BACK.wait(self.given_back_in_row, fastrand::f64());
        self.given_back_in_row = self.given_back_in_row.saturating_add(1);
        let wait = if self.draining { Duration::ZERO } else { wait };
        ctx.run_later(wait, move |actor, ctx| actor.return_now(id, why, ctx));
    }

    fn return_now(&mut self, id: DeliveryId, why: &'static str, ctx: &mut Context<Self>) {
        if self.ledger.get(id).is_none() {
            return;
        }
        let Some(link) = self.link() else { return };
        self.ledger.set(id, Stage::Ending);
        let give_back = async move { link.give_back(id.tag).await };
        let done = move |done, actor: &mut Self, ctx: &mut Context<Self>| {
            actor.ended(id, ChunkEnd::GivenBack(why), done, ctx);
        };
        self.work(id, give_back, done, ctx);
    }

    /// Every ending of a delivery passes here once the broker was told.
    fn ended(
        &mut self,
        id: DeliveryId,
        ending: ChunkEnd,
        told: Result<(), BrokerError>,
        ctx: &mut Context<Self>,
    ) {
        match told {
            Ok(()) => {
                tracing::debug!(?ending, "delivery ended");
                if self.ledger.get(id).is_some_and(|open| open.stage == Stage::Ending) {
                    self.over(id, ending);
                }
            }
            Err(error) => self.lose(id.link, error, ctx),
        }
    }

    /// Every delivery is counted once, here or when its link is lost.
    fn over(&mut self, id: DeliveryId, ending: ChunkEnd) {
        if let Some(open) = self.ledger.close(id) {
            count(ending, open.since);
        }
        self.tell_held();
        self.check_drained();
    }

    /// What was open on a link that is gone is counted as given back: the broker delivers it again.
    pub(super) fn forget(&mut self, why: &'static str) {
        let Forgotten { owed, open } = self.ledger.forget();
        open.into_iter().for_each(|since| count(ChunkEnd::GivenBack(why), since));
        for (reply, since) in owed {
            count(end_of(&reply), since);
            self.kept.push_back(reply);
        }
        metrics::replies_kept(self.kept.len());
        self.tell_held();
    }

    /// How many deliveries are open: to whoever looks at the metrics, and to what paces this thread.
    pub(super) fn tell_held(&self) {
        let in_flight = self.ledger.in_flight();
        metrics::chunks_held(in_flight, self.ledger.bytes());
        moderation::under_way(in_flight);
    }

    /// A shutdown need not wait any longer when nothing is left to answer, or no link to answer on.
    pub(super) fn check_drained(&mut self) {
        let answered = self.ledger.is_settled() && self.flushing == 0 && self.kept.is_empty();
        if (answered || self.current.is_none())
            && let Some(drained) = self.drained.take()
        {
            // The waiting side may have met its deadline already.
            let _ = drained.send(());
        }
    }

    fn link(&self) -> Option<Arc<dyn BrokerLink>> {
        self.current.as_ref().map(|current| current.link.clone())
    }

    /// The broker takes no replies: wait a while, they may soon be taken again.
    pub(super) fn blocked(&mut self, ctx: &mut Context<Self>) {
        self.gate = Gate::Shut;
        self.alarms += 1;
        let alarm = self.alarms;
        self.readiness
            .set(Dependency::Amqp, State::Degraded("the broker is under alarm and takes no replies".into()));
        ctx.run_later(self.config.blocked_grace, move |actor, ctx| {
            if actor.gate == Gate::Shut && actor.alarms == alarm {
                actor.yield_queue(ctx);
            }
        });
    }

    /// Acks what is answered, so that the queue that causes the alarm can drain; the replies are kept.
    fn yield_queue(&mut self, ctx: &mut Context<Self>) {
        self.gate = Gate::Yielding;
        let reason = "the broker is under alarm: chunks are taken, their replies are kept back";
        self.readiness.set(Dependency::Amqp, State::Degraded(reason.into()));
        for (id, reply) in self.ledger.publishing() {
            self.ack(id, &reply, true, ctx);
        }
        for (id, reply) in self.ledger.parked() {
            self.keep(id, reply, ctx);
        }
        self.steer(ctx);
    }

    /// Acks a delivery whose reply is kept, if there is room for it; otherwise it stays unacked and parked.
    fn keep(&mut self, id: DeliveryId, reply: Reply, ctx: &mut Context<Self>) {
        if self.kept.len() >= self.config.kept_replies {
            return self.ledger.set(id, Stage::Parked(reply));
        }
        self.ack(id, &reply, false, ctx);
        self.kept.push_back(reply);
        metrics::replies_kept(self.kept.len());
    }

    /// The broker takes replies again.
    pub(super) fn unblocked(&mut self, ctx: &mut Context<Self>) {
        self.gate = Gate::Open;
        self.readiness.set(Dependency::Amqp, State::Up);
        for (id, reply) in self.ledger.parked() {
            self.publish(id, reply, ctx);
        }
        self.flush(ctx);
    }

    /// Publishes kept replies, a bounded number at once.
    pub(super) fn flush(&mut self, ctx: &mut Context<Self>) {
        while self.gate == Gate::Open
            && self.flushing < FLUSH_WIDTH
            && let Some(current) = &self.current
            && let Some(reply) = self.kept.pop_front()
        {
            self.flushing += 1;
            let (number, link) = (current.number, current.link.clone());
            let published = publish(link, reply.clone());
            ctx.spawn(
                published
                    .into_actor(self)
                    .map(move |outcome, actor, ctx| actor.flushed(number, reply, outcome, ctx)),
            );
        }
        self.steer(ctx);
    }

    fn flushed(
        &mut self,
        link: u64,
        reply: Reply,
        outcome: Result<Published, BrokerError>,
        ctx: &mut Context<Self>,
    ) {
        self.flushing -= 1;
        match outcome {
            Ok(Published::Confirmed) => {}
            Ok(Published::Returned) => tracing::warn!("no queue takes replies, a kept one is dropped"),
            Err(error) => {
                self.kept.push_front(reply);
                self.lose(link, error, ctx);
            }
        }
        metrics::replies_kept(self.kept.len() + self.flushing);
        self.flush(ctx);
        self.check_drained();
    }
}

fn count(ending: ChunkEnd, since: Timestamp) {
    metrics::chunk_ended(ending, since.until(clock::now()));
}
