//! Opening, watching and giving up links.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::StreamExt;
use futures_util::stream::unfold;

use super::{AmqpConsumer, Gate};
use crate::clock;
use crate::domain::ids::Timestamp;
use crate::domain::retry::Backoff;
use crate::fault::{Classified, Fault};
use crate::gateways::broker::{BrokerError, BrokerLink, LinkEvent};
use crate::readiness::{Dependency, State};

/// The first wait before another attempt to connect.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// The link in use.
pub(super) struct Current {
    pub number: u64,
    pub link: Arc<dyn BrokerLink>,
    events: SpawnHandle,
    since: Timestamp,
}

/// What a link said, and which one.
pub(super) struct FromLink {
    pub link: u64,
    pub event: LinkEvent,
}

impl AmqpConsumer {
    pub(super) fn is_current(&self, number: u64) -> bool {
        self.current.as_ref().is_some_and(|current| current.number == number)
    }

    pub(super) fn connect(&mut self, ctx: &mut Context<Self>) {
        if self.draining || self.current.is_some() {
            return;
        }
        let broker = self.broker.clone();
        let connect = async move { broker.connect().await };
        ctx.spawn(connect.into_actor(self).map(|outcome, actor, ctx| match outcome {
            Ok(link) => actor.connected(link.into(), ctx),
            Err(error) => actor.reconnect_after(&error, ctx),
        }));
    }

    fn connected(&mut self, link: Arc<dyn BrokerLink>, ctx: &mut Context<Self>) {
        if self.draining {
            // Connected too late to be of use: the link closes in good order and nothing was taken from it.
            ctx.spawn(async move { link.close().await }.into_actor(self));
            return;
        }
        self.links += 1;
        let number = self.links;
        let events = unfold(Some(link.clone()), |link| async move {
            let link = link?;
            let event = link.next().await;
            let rest = if matches!(event, LinkEvent::Lost(_)) { None } else { Some(link) };
            Some((event, rest))
        });
        let events = ctx.add_stream(events.map(move |event| FromLink { link: number, event }));
        self.current = Some(Current { number, link, events, since: clock::now() });
        self.flow.restart();
        self.readiness.set(Dependency::Amqp, State::Up);
        self.steer(ctx);
        self.flush(ctx);
    }

    /// Gives up the link; what was open on it comes again. Whoever notices first calls this, the others change nothing.
    pub(super) fn lose(&mut self, number: u64, error: BrokerError, ctx: &mut Context<Self>) {
        let Some(lost) = self.current.take_if(|current| current.number == number) else { return };
        self.drop_link(&lost, "link_lost", ctx);
        if lost.since.until(clock::now()) > self.config.reconnect_max {
            self.attempt = 0;
        }
        let link = lost.link;
        // Requests in flight hold the old link: its connections must not stay open for as long as they wait.
        ctx.spawn(async move { link.close().await }.into_actor(self));
        self.reconnect_after(&error, ctx);
        self.check_drained();
    }

    /// Everything that lived on a link that is no longer the current one.
    fn drop_link(&mut self, lost: &Current, why: &'static str, ctx: &mut Context<Self>) {
        ctx.cancel_future(lost.events);
        self.gate = Gate::Open;
        self.forget(why);
    }

    fn reconnect_after(&mut self, error: &BrokerError, ctx: &mut Context<Self>) {
        self.readiness.set(Dependency::Amqp, State::Down(error.to_string()));
        let backoff = Backoff { min: FIRST_WAIT, max: self.config.reconnect_max };
        let wait = match error.fault() {
            Fault::Transient | Fault::Poison => backoff.wait(self.attempt, fastrand::f64()),
            Fault::Fatal => {
                tracing::error!(
                    %error,
                    "the broker refuses this service: check the address, the user's rights, and that exchange and \
                     queues exist with the configured flags"
                );
                self.config.reconnect_max
            }
        };
        self.attempt = self.attempt.saturating_add(1);
        ctx.run_later(wait, |actor, ctx| actor.connect(ctx));
    }

    /// Gives back what is still open and closes the link; tells how many deliveries that were.
    pub(super) fn leave(&mut self, ctx: &mut Context<Self>) -> ResponseActFuture<Self, usize> {
        let open = self.ledger.unacked();
        let current = self.current.take();
        if let Some(current) = &current {
            self.drop_link(current, "leaving", ctx);
        }
        if !self.kept.is_empty() {
            tracing::warn!(replies = self.kept.len(), "leaving with replies that the broker did not take");
        }
        let close = async move {
            let Some(current) = current else { return 0 };
            for id in &open {
                // What cannot be given back comes back when the link is closed.
                let _ = current.link.give_back(id.tag).await;
            }
            current.link.close().await;
            open.len()
        };
        Box::pin(close.into_actor(self))
    }
}
