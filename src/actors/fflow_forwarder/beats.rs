//! This replica's heartbeat, and what its lapse and its return mean.

use actix::prelude::*;
use tracing::{info, warn};

use super::FflowForwarder;
use crate::clock;
use crate::domain::ids::Timestamp;
use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::replicas::Heartbeat;
use crate::readiness::{Dependency, State};

impl FflowForwarder {
    /// Says that this replica lives. The lease counts from before the heartbeat was sent.
    pub(super) fn beat(&mut self, ctx: &mut Context<Self>) {
        if self.left.get() || std::mem::replace(&mut self.beating, true) {
            return;
        }
        let sent = clock::now();
        let taking = !self.draining && !self.parts.readiness.spool_is_full();
        let consuming = taking && self.parts.readiness.get(Dependency::Amqp) == State::Up;
        let heartbeat = Heartbeat {
            replica: self.parts.me,
            name: self.parts.replica.name.clone(),
            consuming,
            lease_seconds: self.parts.replica.lease.as_secs_f64(),
        };
        let (replicas, left) = (self.parts.replicas.clone(), self.left.clone());
        let beat = async move { if left.get() { Ok(()) } else { replicas.beat(&heartbeat).await } };
        ctx.spawn(
            beat.into_actor(self).map(move |result, forwarder, ctx| forwarder.beaten(sent, result, ctx)),
        );
    }

    fn beaten(&mut self, sent: Timestamp, result: Result<(), StoreError>, ctx: &mut Context<Self>) {
        self.beating = false;
        if self.left.get() {
            return;
        }
        let lapsed = !self.parts.keeper.is_valid();
        match result {
            Ok(()) if lapsed => self.regain(sent, ctx),
            Ok(()) => self.parts.keeper.extend(sent, self.parts.replica.lease),
            Err(error) => {
                self.parts.readiness.set(Dependency::Database, State::Down(error.to_string()));
                warn!(%error, "heartbeat failed");
                return;
            }
        }
        self.parts.readiness.set(Dependency::Database, State::Up);
    }

    /// After a lapse feeds go on only with rows that are still theirs, and nothing is taken from replicas that look
    /// silent before they had the time to be heard again.
    fn regain(&mut self, sent: Timestamp, ctx: &mut Context<Self>) {
        let lease = self.parts.replica.lease;
        self.expired_from = Some(clock::now().after(lease));
        if self.running.is_empty() {
            self.regained = None;
            return self.parts.keeper.extend(sent, lease);
        }
        info!(feeds = self.running.len(), "heartbeat is back, checking what is still ours");
        self.regained = Some(sent);
        self.poll_rows(ctx);
    }
}
