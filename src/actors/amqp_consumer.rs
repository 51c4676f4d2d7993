//! Takes chunks from the broker, hands each one on with a ticket, and answers it when the ticket ends.
//!
//! Hears    deliveries and the state of the link (broker), Settlement (the tickets), Drain (app), Ping and Retire
//!          (supervision)
//! Tells    ValidateChunk to ChunkValidator
//! Owns     the links to the broker, the open tickets, the replies kept back while the broker takes none
//! Decides  when to stop consuming for a while, and when a delivery is acked before its reply was published
//! Fails    any error of a link ends it: its deliveries come again on the next one, which is opened with backoff

mod answers;
mod flow;
mod ledger;
mod links;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;
use tracing::Instrument;

use self::flow::Flow;
use self::ledger::Ledger;
use self::links::{Current, FromLink};
use crate::config::AmqpConfig;
use crate::domain::chunk::RawDelivery;
use crate::gateways::broker::{Broker, LinkEvent};
use crate::messages::{Drain, Ping, Retire, ValidateChunk};
use crate::metrics;
use crate::readiness::Readiness;
use crate::tasks::Tasks;
use crate::ticket::{DeliveryId, Reply, Settlement, Ticket, Verdict};
use crate::trace;

/// Pause between two looks at whether deliveries should flow.
const STEER_EVERY: Duration = Duration::from_secs(1);

/// Whether replies are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// They are.
    Open,
    /// The broker is under alarm: they wait, unacked, for a while.
    Shut,
    /// The alarm has lasted: deliveries are acked and their replies kept, or the queue could never drain.
    Yielding,
}

/// The actor.
pub struct AmqpConsumer {
    broker: Arc<dyn Broker>,
    validator: Recipient<ValidateChunk>,
    config: AmqpConfig,
    readiness: Readiness,
    settle_share: Duration,
    links: u64,
    current: Option<Current>,
    attempt: u32,
    ledger: Ledger,
    flow: Flow,
    answers: Tasks<Self>,
    gate: Gate,
    alarms: u64,
    kept: VecDeque<Reply>,
    flushing: usize,
    given_back_in_row: u32,
    draining: bool,
    drained: Option<oneshot::Sender<()>>,
    retired: bool,
}

impl AmqpConsumer {
    /// The consumer's share of a shutdown.
    const SETTLE_SHARE: Duration = Duration::from_secs(4);

    /// A consumer that connects when it starts. The mailbox behind `validator` must hold `config.prefetch` messages.
    pub fn new(
        broker: Arc<dyn Broker>,
        validator: Recipient<ValidateChunk>,
        config: AmqpConfig,
        readiness: Readiness,
    ) -> Self {
        AmqpConsumer {
            flow: Flow::new(config.inflight_bytes),
            broker,
            validator,
            config,
            readiness,
            settle_share: Self::SETTLE_SHARE,
            links: 0,
            current: None,
            attempt: 0,
            ledger: Ledger::default(),
            answers: Tasks::default(),
            gate: Gate::Open,
            alarms: 0,
            kept: VecDeque::new(),
            flushing: 0,
            given_back_in_row: 0,
            draining: false,
            drained: None,
            retired: false,
        }
    }

    /// The same with another share of a shutdown for settling tickets.
    pub fn with_settle_share(self, settle_share: Duration) -> Self {
        AmqpConsumer { settle_share, ..self }
    }

    /// One chunk came: every received delivery passes here.
    fn received(&mut self, id: DeliveryId, delivery: RawDelivery, ctx: &mut Context<Self>) {
        let span = tracing::info_span!(
            "chunk",
            delivery.link = id.link,
            delivery.tag = id.tag,
            session.id = tracing::field::Empty,
            chunk.start = tracing::field::Empty,
            chunk.size = tracing::field::Empty,
        );
        trace::adopt(&span, delivery.trace);
        self.ledger.receive(id, delivery.body.len() as u64, span.clone());
        metrics::chunk_received();
        self.tell_held();
        let ticket = Ticket::new(id, span, ctx.address().recipient());
        metrics::posted("ChunkValidator");
        if let Err(error) = self.validator.try_send(ValidateChunk { delivery, ticket }) {
            metrics::taken_up("ChunkValidator");
            // The refused message is dropped with its ticket, which gives the delivery back.
            tracing::warn!(delivery.tag = id.tag, %error, "chunk not handed on");
        }
        self.steer(ctx);
    }

    fn heard(&mut self, link: u64, event: LinkEvent, ctx: &mut Context<Self>) {
        match event {
            LinkEvent::Delivery { tag, delivery } => self.received(DeliveryId { link, tag }, delivery, ctx),
            LinkEvent::Blocked(true) => self.blocked(ctx),
            LinkEvent::Blocked(false) => self.unblocked(ctx),
            LinkEvent::Lost(error) => self.lose(link, error, ctx),
        }
    }

    /// Runs `work` for a delivery, inside its span, and hands the outcome to `done`.
    fn work<T: 'static>(
        &self,
        id: DeliveryId,
        work: impl Future<Output = T> + 'static,
        done: impl FnOnce(T, &mut Self, &mut Context<Self>) + 'static,
        ctx: &mut Context<Self>,
    ) {
        let span = self.ledger.get(id).map_or_else(tracing::Span::none, |open| open.span.clone());
        let within = span.clone();
        let done = move |outcome, actor: &mut Self, ctx: &mut Context<Self>| {
            within.in_scope(|| done(outcome, actor, ctx));
        };
        self.answers.spawn(work.instrument(span), done, ctx);
    }
}

impl Actor for AmqpConsumer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if self.retired {
            return;
        }
        metrics::mailbox_new("AmqpConsumer");
        self.connect(ctx);
        // What stops the flow from outside, a full disk, ends without a word to this actor.
        ctx.run_interval(STEER_EVERY, |actor, ctx| actor.steer(ctx));
    }
}

impl Supervised for AmqpConsumer {
    fn restarting(&mut self, _: &mut Context<Self>) {
        // Everything in flight is gone with the old context; the broker delivers it again.
        self.forget("restarted");
        self.current = None;
        self.answers = Tasks::default();
        self.gate = Gate::Open;
        self.flushing = 0;
    }
}

impl StreamHandler<FromLink> for AmqpConsumer {
    fn handle(&mut self, FromLink { link, event }: FromLink, ctx: &mut Context<Self>) {
        if self.is_current(link) {
            self.heard(link, event, ctx);
        }
    }

    /// A link's end is no reason to stop.
    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl Handler<Settlement> for AmqpConsumer {
    type Result = ();

    fn handle(&mut self, Settlement { delivery, verdict }: Settlement, ctx: &mut Context<Self>) {
        metrics::taken_up("AmqpConsumer");
        if self.ledger.settle(delivery) {
            match verdict {
                Verdict::Reply(reply) => self.answer(delivery, reply, ctx),
                Verdict::Reject { reason } => self.reject(delivery, &reason, ctx),
                Verdict::GiveBack => self.give_back(delivery, "dropped", ctx),
            }
        }
        self.steer(ctx);
    }
}

impl Handler<Drain> for AmqpConsumer {
    type Result = ResponseActFuture<Self, usize>;

    fn handle(&mut self, _: Drain, ctx: &mut Context<Self>) -> Self::Result {
        self.draining = true;
        self.steer(ctx);
        let (tell, settled) = oneshot::channel();
        self.drained = Some(tell);
        self.check_drained();
        let wait = tokio::time::timeout(self.settle_share, settled);
        Box::pin(wait.into_actor(self).then(|_, actor, ctx| actor.leave(ctx)))
    }
}

impl Handler<Retire> for AmqpConsumer {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Self::Context) {
        self.retired = true;
        ctx.stop();
    }
}

impl Handler<Ping> for AmqpConsumer {
    type Result = ();

    fn handle(&mut self, _: Ping, _: &mut Context<Self>) {}
}

#[cfg(test)]
mod tests;
