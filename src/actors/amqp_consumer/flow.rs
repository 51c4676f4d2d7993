//! Whether deliveries should flow: the bytes in flight, the replies kept back, a full disk and a shutdown each stop
//! them.

use actix::prelude::*;

use super::AmqpConsumer;
use crate::gateways::broker::BrokerError;

/// The flow of deliveries on the current link.
#[derive(Debug)]
pub(super) struct Flow {
    budget: u64,
    over_budget: bool,
    consuming: bool,
    changing: bool,
}

impl Flow {
    /// At most `budget` bytes of bodies, and what the prefetch adds to it once.
    pub fn new(budget: u64) -> Self {
        Flow { budget, over_budget: false, consuming: true, changing: false }
    }

    /// A new link consumes from its beginning.
    pub fn restart(&mut self) {
        self.consuming = true;
        self.changing = false;
    }

    /// Above the budget it stops, at half of it it goes on: so it does not flutter.
    fn weigh(&mut self, bytes: u64) {
        self.over_budget = if self.over_budget { bytes > self.budget / 2 } else { bytes > self.budget };
    }
}

impl AmqpConsumer {
    /// Stops or starts consuming as the budgets say; one change at a time.
    pub(super) fn steer(&mut self, ctx: &mut Context<Self>) {
        self.flow.weigh(self.ledger.bytes());
        let room = !self.flow.over_budget && self.kept.len() < self.config.kept_replies;
        let wanted = room && !self.draining && !self.readiness.spool_is_full();
        let Some(current) = &self.current else { return };
        if self.flow.changing || self.flow.consuming == wanted {
            return;
        }
        self.flow.changing = true;
        let (number, link) = (current.number, current.link.clone());
        tracing::info!(
            consuming = wanted,
            inflight_bytes = self.ledger.bytes(),
            "flow of deliveries changes"
        );
        let change = async move { link.consume(wanted).await };
        ctx.spawn(
            change
                .into_actor(self)
                .map(move |changed, actor, ctx| actor.steered(number, wanted, changed, ctx)),
        );
    }

    fn steered(
        &mut self,
        link: u64,
        consuming: bool,
        changed: Result<(), BrokerError>,
        ctx: &mut Context<Self>,
    ) {
        if !self.is_current(link) {
            return;
        }
        self.flow.changing = false;
        match changed {
            Ok(()) => {
                self.flow.consuming = consuming;
                self.steer(ctx);
            }
            Err(error) => self.lose(link, error, ctx),
        }
    }
}
