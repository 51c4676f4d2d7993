//! A replica's feed: what it hears goes through the real `decide`, and what that asks for is put on its way.

use std::sync::Arc;

use uploader_v4::domain::feed::{self, Claim, Event, Evidence, Feed, Sight, Step, Trouble};
use uploader_v4::domain::ids::{Epoch, Generation, Timestamp};
use uploader_v4::domain::invariants::FeedHistory;
use uploader_v4::domain::route;
use uploader_v4::domain::status::SessionState;

use super::road::Road;
use super::safeguards::Safeguard;
use super::world::{Body, Flow, Guard, Letter, Pending, Running, Verb, World, Write};

impl Road {
    /// The feed of a claim begins.
    pub fn start(&self, world: &mut World, slot: usize, claim: Claim) {
        let feed = Arc::new(Feed::new(claim, Timestamp(0)));
        let history = Arc::new(FeedHistory::new(&feed));
        world.replicas[slot].running = Some(Running { feed, history, now: 0, pending: Pending::Time(0) });
        self.hear(world, slot, Event::Begin);
    }

    /// One event, one step.
    pub fn hear(&self, world: &mut World, slot: usize, event: Event) {
        let Some(running) = &mut world.replicas[slot].running else {
            return;
        };
        let before = Arc::clone(&running.feed);
        let told = self.told(event.clone());
        let (after, step) = feed::decide((*before).clone(), told, Timestamp(running.now), 0.0, &self.rules);
        if self.lacks(Safeguard::ReleaseIsLast)
            && let (Step::Release { .. }, Pending::Time(_)) = (&step, &running.pending)
        {
            // It hands the session back and goes on as if it had not.
            let guard = guard(world, slot, &before);
            return self.post(world, slot, before.claim().epoch, Body::Write(guard, written(&step)), false);
        }
        let sound = Arc::make_mut(&mut running.history).observe(&before, &event, &after, &step);
        running.feed = Arc::new(after);
        // What a mutant breaks is to be seen in the world; only a strike's reason is nowhere but in the feed.
        if matches!(self.without, None | Some(Safeguard::StrikeNeedsEvidence)) {
            world.require(sound);
        }
        self.act(world, slot, step);
    }

    /// What a feed without one of its rules would make of an event.
    fn told(&self, event: Event) -> Event {
        match (self.without, event) {
            (Some(Safeguard::UnknownFinishIsWatched), Event::Finished(Err(Trouble::Unknown(_)))) => {
                Event::Finished(Err(Trouble::Status(500, String::new())))
            }
            (Some(Safeguard::UnknownFinishIsNotRepeated), Event::Finished(Err(Trouble::Unknown(_)))) => {
                Event::Finished(Err(Trouble::NotSent(String::new())))
            }
            (Some(Safeguard::GraceAfterDelete), Event::Deleted(_)) => Event::Deleted(feed::Deleted::Gone),
            (Some(Safeguard::NameOnce), Event::Created(feed::Created::Failed(why))) => {
                Event::Created(feed::Created::NotSent(why))
            }
            (Some(Safeguard::StrikeNeedsEvidence), Event::Weighed(evidence)) => {
                Event::Weighed(Evidence { worked: true, ..evidence })
            }
            (_, event) => event,
        }
    }

    /// Whatever was asked for before is no longer waited for.
    fn act(&self, world: &mut World, slot: usize, step: Step) {
        if step == Step::Stay {
            return;
        }
        self.orphan(world, slot);
        let Some(running) = &world.replicas[slot].running else {
            return;
        };
        let feed = Arc::clone(&running.feed);
        match step {
            Step::Wait { until, .. } => self.pend(world, slot, Pending::Time(until.0)),
            Step::Stop { stray } => {
                world.replicas[slot].running = None;
                let stray = stray.filter(|_| !self.lacks(Safeguard::FencedLeavesStray));
                if let Some(name) = stray {
                    world.add_stray(self.generation_named(&name));
                }
            }
            Step::Stay | Step::Resolve { .. } | Step::Look | Step::Weigh(_) | Step::CleanUp { .. } => {
                self.pend(world, slot, Pending::Asked(step));
            }
            Step::Create | Step::Push { .. } | Step::Finish | Step::Delete => self.speak(world, slot, step),
            Step::Number(_)
            | Step::Record(_)
            | Step::Mark
            | Step::Complete
            | Step::Park(_)
            | Step::Release { .. } => {
                let body = Body::Write(guard(world, slot, &feed), self.written(&step, &feed));
                self.store(world, slot, step, body, &feed);
            }
        }
    }

    fn store(&self, world: &mut World, slot: usize, step: Step, body: Body, feed: &Feed) {
        let hasty = match &step {
            Step::Number(_) if self.lacks(Safeguard::NumberBeforeCreate) => Some(Event::Numbered),
            Step::Mark if self.lacks(Safeguard::MarkBeforeFinish) => Some(Event::Marked),
            _ => None,
        };
        self.post(world, slot, feed.claim().epoch, body, hasty.is_none());
        match hasty {
            Some(event) => self.hear(world, slot, event),
            None => self.pend(world, slot, Pending::Sent(step)),
        }
    }

    fn written(&self, step: &Step, feed: &Feed) -> Write {
        match step {
            Step::Record(url) => Write::Record(self.generation_at(url)),
            Step::Release { settled, .. } => {
                let doubtless = *settled
                    || self.lacks(Safeguard::SettledWithoutDoubt)
                    || (self.lacks(Safeguard::SettledWithAddress) && feed.address().is_none());
                Write::Release { settled: doubtless, fed: feed.fed() }
            }
            step => written(step),
        }
    }

    /// A request to fflow waits for the lease.
    fn speak(&self, world: &mut World, slot: usize, step: Step) {
        let may = world.replicas[slot].lease || self.lacks(Safeguard::LeaseBeforeSpeaking);
        let Some(running) = world.replicas[slot].running.as_ref().filter(|_| may) else {
            return self.pend(world, slot, Pending::Lease(step));
        };
        let feed = Arc::clone(&running.feed);
        let (to, verb) = match (&step, feed.address()) {
            (Step::Create, _) => (feed.generation(), Verb::Create),
            (Step::Push { from, to, .. }, Some(url)) => {
                (self.generation_at(url), Verb::Push { from: *from, to: *to })
            }
            (Step::Finish, Some(url)) => (self.generation_at(url), Verb::Finish),
            (_, Some(url)) => (self.generation_at(url), Verb::Delete),
            (_, None) => return world.require(Err("a request without an address")),
        };
        self.post(world, slot, feed.claim().epoch, Body::Call { to, verb }, true);
        self.pend(world, slot, Pending::Sent(step));
    }

    /// The lease is back: what waited for it is sent.
    pub fn resume(&self, world: &mut World, slot: usize) {
        let waiting = world.replicas[slot].running.as_ref().map(|running| running.pending.clone());
        if let Some(Pending::Lease(step)) = waiting {
            self.speak(world, slot, step);
        }
    }

    pub fn post(&self, world: &mut World, slot: usize, epoch: Epoch, body: Body, awaited: bool) {
        let from = world.process(slot);
        world.wire.push(Letter { from, epoch, awaited, arrived: false, body });
    }

    pub fn pend(&self, world: &mut World, slot: usize, pending: Pending) {
        if let Some(running) = &mut world.replicas[slot].running {
            running.pending = pending;
        }
    }

    /// Nobody waits any longer for what this replica sent.
    pub fn orphan(&self, world: &mut World, slot: usize) {
        let from = world.process(slot);
        world.wire.iter_mut().filter(|letter| letter.from == from).for_each(|letter| letter.awaited = false);
    }

    /// The address of the current generation, Redis first; what comes from the row is published again.
    pub fn resolve(&self, world: &mut World, slot: usize, stored: Option<&str>, redis: bool) {
        let Some(running) = &world.replicas[slot].running else {
            return;
        };
        let name = running.feed.name();
        let counts = |text: &str| {
            if self.lacks(Safeguard::AddressOfThisGeneration) {
                return route::from_answer(text, &self.last_name(text), &self.allowed).ok();
            }
            route::from_stored(text, &name, &self.allowed)
        };
        let cached = world.route.filter(|_| redis).and_then(|known| counts(self.url(known).as_str()));
        let address = cached.or_else(|| stored.and_then(counts));
        if redis && let Some(url) = &address {
            world.route = Some(self.generation_at(url));
        }
        self.hear(world, slot, Event::Resolved(address));
    }

    fn last_name(&self, text: &str) -> uploader_v4::domain::ids::FlowName {
        let last = text.rsplit_once('/').map_or("", |(_, last)| last);
        uploader_v4::domain::ids::FlowName::from_stored(last.to_owned())
    }

    /// What holder shows.
    pub fn sight(&self, world: &World) -> Sight {
        let moving = world.flows.contains(&Flow::Transferring);
        match world.farm.files() {
            Some(generation) if !moving => Sight::Whole(u64::from(generation.0.unsigned_abs())),
            Some(_) | None => Sight::NotWhole(String::new()),
        }
    }

    /// A write of unknown outcome: the row is read, and it is written again only if the row is as it was.
    pub fn read_again(&self, world: &mut World, slot: usize) {
        let Some(running) = &world.replicas[slot].running else {
            return;
        };
        let (Pending::Unsure(step), feed) = (running.pending.clone(), Arc::clone(&running.feed)) else {
            return;
        };
        let (guard, write) = (guard(world, slot, &feed), self.written(&step, &feed));
        let owned = world.row.owned_by(&guard) || self.lacks(Safeguard::ReadAsksForTheOwner);
        let landed = landed(world, &guard, &write, owned) || self.lacks(Safeguard::UnknownWriteIsRead);
        if landed {
            return self.written_down(world, slot, &write);
        }
        if owned && world.row.generation == guard.generation {
            self.post(world, slot, feed.claim().epoch, Body::Write(guard, write), true);
            return self.pend(world, slot, Pending::Sent(step));
        }
        self.hear(world, slot, Event::Fenced);
    }

    /// A write is known to be done. A stored address goes to Redis as well.
    pub fn written_down(&self, world: &mut World, slot: usize, write: &Write) {
        let event = match write {
            Write::Number(_) => Event::Numbered,
            Write::Record(generation) => {
                world.route = Some(*generation);
                Event::Recorded
            }
            Write::Mark => Event::Marked,
            Write::Complete => Event::Completed,
            Write::Park => Event::Parked,
            Write::Release { .. } => Event::Released,
        };
        self.hear(world, slot, event);
    }
}

fn guard(world: &World, slot: usize, feed: &Feed) -> Guard {
    Guard { owner: world.process(slot), epoch: feed.claim().epoch, generation: feed.generation() }
}

fn written(step: &Step) -> Write {
    match step {
        Step::Number(numbering) => Write::Number(numbering.clone()),
        Step::Mark => Write::Mark,
        Step::Complete => Write::Complete,
        Step::Park(_) => Write::Park,
        Step::Release { settled, fed } => Write::Release { settled: *settled, fed: *fed },
        other => unreachable!("{other:?} writes nothing by itself"),
    }
}

/// Whether the row shows that a write was done.
fn landed(world: &World, guard: &Guard, write: &Write, owned: bool) -> bool {
    let row = &world.row;
    let same: Generation = guard.generation;
    match write {
        Write::Number(numbering) => owned && row.generation == numbering.generation,
        Write::Record(generation) => owned && row.generation == same && row.flow_url == Some(*generation),
        Write::Mark => owned && row.finish_sent,
        Write::Complete => row.epoch == guard.epoch && row.state == SessionState::Done,
        Write::Park => row.epoch == guard.epoch && row.state == SessionState::Failed,
        Write::Release { .. } => true,
    }
}
