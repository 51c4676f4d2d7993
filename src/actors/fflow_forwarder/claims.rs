//! Claiming sessions.

use std::time::Duration;

use actix::prelude::*;
use tracing::{debug, warn};

use super::FflowForwarder;
use crate::clock;
use crate::domain::feed::Claim;
use crate::domain::ids::SessionId;
use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::feeds::{Guard, Wanted};

/// Slots that become free within this time are filled by one claim: with many waiting, each looks through all of them.
const GATHER: Duration = Duration::from_millis(100);
/// Idle flows dropped in one pass.
const IDLE_BATCH: i64 = 100;

impl FflowForwarder {
    /// Looks for work that nobody does, whoever stored it.
    pub(super) fn sweep(&mut self, ctx: &mut Context<Self>) {
        self.running.retain(|_, running| running.feed.advance.connected());
        self.claim(None, ctx);
    }

    /// Claims what advanced here, at once; what advances meanwhile goes into the next claim.
    pub(super) fn claim_wanted(&mut self, ctx: &mut Context<Self>) {
        if !self.wanted.is_empty() && !self.claiming {
            let wanted = std::mem::take(&mut self.wanted).into_iter().collect();
            self.claim(Some(wanted), ctx);
        }
    }

    /// A slot may be free now: sessions that found none before do not wait for the next sweep.
    pub(super) fn fill(&mut self, ctx: &mut Context<Self>) {
        if self.crowded && !self.filling {
            self.filling = true;
            ctx.run_later(GATHER, |forwarder, ctx| {
                forwarder.filling = false;
                forwarder.claim(None, ctx);
            });
        }
    }

    fn claim(&mut self, only: Option<Vec<SessionId>>, ctx: &mut Context<Self>) {
        let slots = self.parts.config.max_feeds.saturating_sub(self.busy());
        self.crowded |= slots == 0;
        let may = !self.draining && !self.claiming && slots > 0 && self.parts.keeper.is_valid();
        if !may {
            return;
        }
        self.claiming = true;
        let all = only.is_none();
        let (me, store) = (self.parts.me, self.parts.store.clone());
        let resting = self.resting.sessions(clock::now());
        let except: Vec<SessionId> = self.running.keys().copied().chain(resting).collect();
        let from_expired = self.expired_from.is_some_and(|from| from <= clock::now());
        let start_bytes = i64::try_from(self.parts.config.start_bytes).unwrap_or(i64::MAX);
        let claim = async move {
            let (limit, only) = (slots as i64, only.as_deref());
            let wanted = Wanted { me, except: &except, only, limit, start_bytes, from_expired };
            store.claim(&wanted).await
        };
        ctx.spawn(claim.into_actor(self).map(move |result, forwarder, ctx| {
            let full = result.as_ref().is_ok_and(|claims| claims.len() >= slots);
            forwarder.crowded = full || (forwarder.crowded && !all);
            forwarder.claimed(result, ctx);
        }));
    }

    fn claimed(&mut self, result: Result<Vec<Claim>, StoreError>, ctx: &mut Context<Self>) {
        self.claiming = false;
        let claims = result.unwrap_or_else(|error| {
            warn!(%error, "claiming failed");
            Vec::new()
        });
        if self.draining {
            return self.hand_back(claims, ctx);
        }
        for claim in claims {
            debug!(session.id = %claim.session, epoch = claim.epoch.0, settled = claim.settled, "claimed");
            self.start_feed(claim, ctx);
        }
        // Of what others have claimed.
        self.causes.retain(|session, _| self.wanted.contains(session));
        self.claim_wanted(ctx);
        self.fill(ctx);
    }

    /// The claim was on its way when the drain began: its sessions go back as they were, and no feed begins.
    fn hand_back(&mut self, claims: Vec<Claim>, ctx: &mut Context<Self>) {
        self.handing_back += claims.len();
        for claim in claims {
            let guard = Guard {
                session: claim.session,
                owner: self.parts.me,
                epoch: claim.epoch,
                generation: claim.generation,
            };
            let store = self.parts.store.clone();
            let release = async move { store.release(guard, claim.settled, claim.fed).await };
            ctx.spawn(release.into_actor(self).map(move |result, forwarder, _| {
                if let Err(error) = result {
                    warn!(%error, session.id = %guard.session, "a claim could not be handed back");
                }
                forwarder.handing_back -= 1;
                forwarder.finish_drain();
            }));
        }
        self.finish_drain();
    }

    /// Feeds that need a slot.
    fn busy(&self) -> usize {
        self.running.values().filter(|running| !running.waiting).count()
    }

    pub(super) fn drop_idle_flows(&mut self, ctx: &mut Context<Self>) {
        if self.draining {
            return;
        }
        let store = self.parts.store.clone();
        let idle = self.parts.config.flow_idle.as_secs_f64();
        let drop = async move { store.drop_idle_flows(idle, IDLE_BATCH).await };
        ctx.spawn(drop.into_actor(self).map(|result, _, _| match result {
            Ok(0) => {}
            Ok(flows) => tracing::info!(flows, "idle sessions lost their process, their bytes stay"),
            Err(error) => warn!(%error, "idle sessions keep their process for now"),
        }));
    }
}
