//! Carrying out what a feed asks for; each step ends in the event that answers it.

use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;

use super::writes::{self, Landed};
use super::{FeedParts, SessionFeed};
use crate::clock;
use crate::domain::feed::{Claim, Created, Deleted, Event, Feed, Sight, Step, Trouble};
use crate::domain::ids::{FlowName, Timestamp};
use crate::domain::route::FlowUrl;
use crate::domain::run::Run;
use crate::domain::status::SessionState;
use crate::fault::{Classified, Fault};
use crate::gateways::fflow::FflowError;
use crate::gateways::holder;
use crate::gateways::upload_store::feeds::{Ending, Guard};
use crate::messages::{FlowWorked, OpenFlow, Opened, PublishRoute, ResolveFlow, WorkedStep};
use crate::metrics;
use crate::readiness::{Dependency, State};
use crate::trace;

/// A route is set again this long after the last time, well within its life in Redis.
const PUBLISH_EVERY: Duration = Duration::from_secs(3600);

/// What a feed keeps from one step to the next. A step that is broken off loses it, and with it its place among the
/// replays.
#[derive(Default)]
pub(super) struct Memo {
    /// When the route was set last.
    published: Option<Timestamp>,
    /// Its place among the replays, from the first block that was fed before to the last.
    replaying: Option<OwnedSemaphorePermit>,
    /// The last run that PostgreSQL named.
    run: Option<Run>,
}

/// A step's own copy of what it needs: the actor may hear other things meanwhile.
pub(super) struct Errand {
    pub(super) parts: Rc<FeedParts>,
    pub(super) claim: Claim,
    guard: Guard,
    name: FlowName,
    address: Option<FlowUrl>,
    saving_path: String,
    pub(super) newest: Option<Run>,
}

impl SessionFeed {
    /// Starts a step; its answer comes back as an event.
    pub(super) fn ask(&mut self, step: Step, ctx: &mut Context<Self>) -> SpawnHandle {
        let errand = self.feed.as_ref().map(|feed| self.errand(feed));
        let memo = std::mem::take(&mut self.memo);
        let run = async move {
            match errand {
                Some(errand) => errand.run(step, memo).await,
                None => (Event::Fenced, memo),
            }
        };
        let run = run.into_actor(self).map(|(event, memo), actor, ctx| {
            actor.memo = memo;
            actor.hear(event, ctx);
        });
        let run = tracing_actix::ActorInstrument::actor_instrument(run, self.span.clone());
        ctx.spawn(run)
    }

    fn errand(&self, feed: &Feed) -> Errand {
        Errand {
            parts: self.parts.clone(),
            claim: self.claim.clone(),
            guard: self.guard(feed),
            name: feed.name(),
            address: feed.address().cloned(),
            saving_path: feed.saving_path(),
            newest: self.newest,
        }
    }

    /// A process that only this feed knows of is left to whoever deletes strays.
    pub(super) fn leave_stray(&self, name: FlowName) {
        let parts = self.parts.clone();
        let session = self.claim.session;
        actix_rt::spawn(async move {
            if let Err(error) = parts.store.add_stray(session, &name).await {
                warn!(%error, %name, "a process without an owner could not be written down");
            }
        });
    }
}

impl Errand {
    async fn run(&self, step: Step, memo: Memo) -> (Event, Memo) {
        let memo = match step {
            Step::Push { from, to, replay } => return self.push(from, to, replay, memo).await,
            Step::Record(url) => return self.record(url, memo).await,
            // Whatever else comes next, the replay is over or interrupted: others may have its place.
            _ => Memo { replaying: None, ..memo },
        };
        let event = match step {
            Step::Resolve { stored } => self.resolve(stored).await,
            Step::Number(numbering) => {
                let next = numbering.generation;
                let write = || self.parts.store.number(self.guard, &numbering);
                let landed: Landed<'_> = &|row| row.owned_by(&self.guard) && row.generation == next;
                writes::settle(&self.parts, self.guard, write, landed, Event::Numbered).await
            }
            Step::Create => self.create().await,
            Step::Mark => {
                let write = || self.parts.store.mark_finish(self.guard);
                let landed: Landed<'_> = &|row| row.owned_by(&self.guard) && row.finish_sent;
                writes::settle(&self.parts, self.guard, write, landed, Event::Marked).await
            }
            Step::Finish => self.finish().await,
            Step::Look => self.look().await,
            Step::Delete => self.delete().await,
            Step::Weigh(work) => {
                let evidence = writes::read(|| self.parts.store.weigh(self.claim.session, work)).await;
                evidence.map_or_else(|refused| refused, Event::Weighed)
            }
            Step::Complete => {
                let write = || self.parts.store.complete(self.guard, &self.claim);
                let landed = writes::ended(self.guard, SessionState::Done);
                let event = writes::settle(&self.parts, self.guard, write, &landed, Event::Completed).await;
                self.finish_worked(&event);
                event
            }
            Step::Park(reason) => self.park(reason).await,
            Step::CleanUp { keep_bytes } => self.clean_up(keep_bytes).await,
            Step::Release { settled, fed } => self.release(settled, fed).await,
            Step::Stay | Step::Wait { .. } | Step::Stop { .. } | Step::Push { .. } | Step::Record(_) => {
                Event::Time
            }
        };
        (event, memo)
    }

    async fn resolve(&self, stored: Option<String>) -> Event {
        let ask = ResolveFlow { session: self.claim.session, generation: self.guard.generation, stored };
        // A router that is being rebuilt costs a generation, never a byte.
        Event::Resolved(self.parts.router.resolve.send(ask).await.unwrap_or(None))
    }

    async fn create(&self) -> Event {
        if !self.parts.lease.valid().await {
            return Event::Fenced;
        }
        let ask = OpenFlow {
            session: self.claim.session,
            name: self.name.clone(),
            trace: trace::of(&tracing::Span::current()),
        };
        Event::Created(match self.parts.router.open.send(ask).await {
            Ok(Opened::At(url)) => Created::At(url),
            Ok(Opened::NotSent(why)) => Created::NotSent(why),
            Ok(Opened::RefusedAddress(why) | Opened::Failed(why)) => Created::Failed(why),
            Err(error) => Created::Failed(format!("router: {error}")),
        })
    }

    async fn record(&self, url: FlowUrl, memo: Memo) -> (Event, Memo) {
        let write = || self.parts.store.record(self.guard, &url);
        let landed: Landed<'_> = &|row| {
            row.owned_by(&self.guard)
                && row.generation == self.guard.generation
                && row.flow_url.as_deref() == Some(url.as_str())
        };
        let event = writes::settle(&self.parts, self.guard, write, landed, Event::Recorded).await;
        if event != Event::Recorded {
            return (event, memo);
        }
        self.parts.router.publish.do_send(PublishRoute { session: self.claim.session, url });
        (event, Memo { published: Some(clock::now()), ..memo })
    }

    async fn push(&self, from: i64, to: i64, replay: bool, mut memo: Memo) -> (Event, Memo) {
        memo.replaying = match memo.replaying {
            held @ Some(_) if replay => held,
            None if replay => self.parts.replays.clone().acquire_owned().await.ok(),
            Some(_) | None => None,
        };
        let block = match self.read(from, to, &mut memo.run).await {
            Ok(block) => block,
            Err(event) => return (event, memo),
        };
        let Some(address) = self.address.clone() else {
            return (Event::Pushed(Err(Trouble::NotSent("no address".to_owned()))), memo);
        };
        if !self.parts.lease.valid().await {
            return (Event::Fenced, memo);
        }
        let (began, bytes) = (clock::now(), block.len() as u64);
        let pushed = self.parts.fflow.push(&address, block).await;
        metrics::pushed(pushed.is_ok(), bytes, replay, began.until(clock::now()));
        if pushed.is_ok() {
            self.worked(&address, WorkedStep::Push);
        }
        memo.published = self.publish_again(&address, memo.published);
        (Event::Pushed(pushed.map_err(Trouble::from)), memo)
    }

    fn publish_again(&self, url: &FlowUrl, published: Option<Timestamp>) -> Option<Timestamp> {
        let now = clock::now();
        let due = published.is_none_or(|at| at.until(now) >= PUBLISH_EVERY);
        if !due {
            return published;
        }
        self.parts.router.publish.do_send(PublishRoute { session: self.claim.session, url: url.clone() });
        Some(now)
    }

    /// A finish is evidence once its files were seen; without a holder address fflow's word is all there is.
    fn finish_worked(&self, event: &Event) {
        if let (Event::Completed, Some(address)) = (event, &self.address) {
            self.worked(address, WorkedStep::Finish);
        }
    }

    fn worked(&self, url: &FlowUrl, step: WorkedStep) {
        self.parts.router.worked.do_send(FlowWorked { session: self.claim.session, url: url.clone(), step });
    }

    async fn finish(&self) -> Event {
        let Some(address) = &self.address else {
            return Event::Finished(Err(Trouble::NotSent("no address".to_owned())));
        };
        if !self.parts.lease.valid().await {
            return Event::Fenced;
        }
        let began = clock::now();
        let finished = self.parts.fflow.finish(address, &self.saving_path).await;
        metrics::finish_answered(finished.is_ok(), began.until(clock::now()));
        Event::Finished(finished.map_err(Trouble::from))
    }

    async fn look(&self) -> Event {
        let Some(holder) = &self.parts.holder else {
            return Event::Looked(Sight::Unreachable("no holder address is set".to_owned()));
        };
        let (sight, state) = match holder.look(self.claim.video, self.claim.flow).await {
            holder::Sight::Whole { fingerprint } => (Sight::Whole(fingerprint), State::Up),
            holder::Sight::NotWhole(what) => (Sight::NotWhole(what), State::Up),
            holder::Sight::Unreachable(why) => (Sight::Unreachable(why.clone()), State::Degraded(why)),
        };
        self.parts.readiness.set(Dependency::Holder, state);
        Event::Looked(sight)
    }

    async fn delete(&self) -> Event {
        let Some(address) = &self.address else {
            return Event::Deleted(Deleted::NoAnswer);
        };
        if !self.parts.lease.valid().await {
            return Event::Fenced;
        }
        Event::Deleted(match self.parts.fflow.delete(address).await {
            Ok(()) => Deleted::Gone,
            Err(FflowError::Status { status: 404, .. }) => Deleted::Unknown,
            Err(FflowError::Status { .. } | FflowError::NotSent(_) | FflowError::Unknown(_)) => {
                Deleted::NoAnswer
            }
        })
    }

    async fn park(&self, reason: String) -> Event {
        let ending = Ending {
            reason,
            stray: (self.guard.generation.0 > 0).then(|| self.name.clone()),
            stray_base: self.address.as_ref().map(|url| url.replica().to_owned()),
        };
        let write = || self.parts.store.park(self.guard, &self.claim, &ending);
        let landed = writes::ended(self.guard, SessionState::Failed);
        writes::settle(&self.parts, self.guard, write, &landed, Event::Parked).await
    }

    /// The last act of the epoch: sent once, whatever comes of it.
    async fn release(&self, settled: bool, fed: i64) -> Event {
        self.parts.spool.close(self.claim.session).await;
        if let Err(error) = self.parts.store.release(self.guard, settled, fed).await {
            let transient = error.fault() == Fault::Transient;
            warn!(%error, transient, "release did not succeed, the lease will end instead");
        }
        Event::Released
    }
}
