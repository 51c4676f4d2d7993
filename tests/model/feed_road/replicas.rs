//! The lives of replicas and their requests: dying, pausing, leaving, and no longer waiting.

use std::hash::{DefaultHasher, Hash, Hasher};

use uploader_v4::domain::feed::{Event, Step, Trouble};

use super::actions::Action;
use super::network::trouble;
use super::road::Road;
use super::safeguards::Safeguard;
use super::world::{Body, Flow, Guard, Letter, Pending, Verb, World, Write};

impl Road {
    /// A finish that arrived at a dead process is never answered: giving it up is no fault.
    pub fn is_free(&self, world: &World, action: Action) -> bool {
        let Action::GiveUp(slot) = action else {
            return false;
        };
        self.awaited(world, slot).is_some_and(|at| {
            let letter = &world.wire[at];
            let Body::Call { to, .. } = letter.body else { return false };
            letter.arrived && world.flow(to) == Flow::Zombie
        })
    }

    fn awaited(&self, world: &World, slot: usize) -> Option<usize> {
        let me = world.process(slot);
        world.wire.iter().position(|letter| letter.awaited && letter.from == me)
    }

    /// The wait of a feed is over.
    pub fn time(&self, world: &mut World, slot: usize) {
        if let Some(running) = &mut world.replicas[slot].running
            && let Pending::Time(until) = running.pending
        {
            running.now = running.now.max(until);
        }
        self.hear(world, slot, Event::Time);
    }

    /// The answer does not come in time.
    pub fn give_up(&self, world: &mut World, slot: usize) {
        let Some(at) = self.awaited(world, slot) else {
            return;
        };
        match world.wire[at].body {
            Body::Write(..) => self.unsure(world, slot),
            Body::Call { to, verb } => {
                world.farm.failed(to);
                if world.wire[at].arrived {
                    world.wire.remove(at);
                }
                self.hear(world, slot, trouble(verb, Trouble::Unknown(String::new())));
            }
        }
    }

    /// The request was surely not sent.
    pub fn not_sent(&self, world: &mut World, slot: usize) {
        if let Some(at) = self.awaited(world, slot)
            && let Letter { body: Body::Call { to, verb }, arrived: false, .. } = world.wire[at]
        {
            world.wire.remove(at);
            world.farm.failed(to);
            self.hear(world, slot, trouble(verb, Trouble::NotSent(String::new())));
        }
    }

    /// A release ends its feed whatever came of it.
    pub fn refused(&self, world: &mut World, slot: usize) {
        let pending = world.replicas[slot].running.as_ref().map(|running| &running.pending);
        let event = match pending {
            Some(Pending::Sent(Step::Release { .. })) => Event::Released,
            _ => Event::Refused(String::new()),
        };
        self.hear(world, slot, event);
    }

    /// What was refused does not arrive.
    pub fn withdraw(&self, world: &mut World, slot: usize) {
        if let Some(at) = self.awaited(world, slot) {
            world.wire.remove(at);
        }
    }

    /// A replica or a feed dies, or a replica is started again.
    pub fn die(&self, world: &mut World, slot: usize, action: Action) {
        self.orphan(world, slot);
        let replica = &mut world.replicas[slot];
        replica.running = None;
        if let Action::Crash(_) = action {
            replica.alive = false;
            (replica.lease, replica.leaving, replica.hurried) = (true, false, false);
        }
        if let Action::Restart(_) = action {
            replica.alive = true;
            replica.life += 1;
        }
    }

    /// The heartbeat is back: rows are compared before anything else is said.
    pub fn regain(&self, world: &mut World, slot: usize) {
        world.replicas[slot].lease = true;
        let Some(running) = &world.replicas[slot].running else {
            return;
        };
        let taken = world.row.epoch > running.feed.claim().epoch;
        if taken && !self.lacks(Safeguard::PausedFeedsCompare) {
            return self.hear(world, slot, Event::Fenced);
        }
        self.resume(world, slot);
    }

    /// The stages of leaving.
    pub fn leave(&self, world: &mut World, slot: usize, action: Action) {
        let replica = &mut world.replicas[slot];
        match action {
            Action::Leave(_) => {
                replica.leaving = true;
                self.hear(world, slot, Event::Leave { now: false });
            }
            Action::Hurry(_) => {
                replica.hurried = true;
                self.hear(world, slot, Event::Leave { now: true });
            }
            _ => self.die(world, slot, Action::Crash(slot)),
        }
    }

    /// The claim comes back to a replica that leaves: the session is given back as it was.
    pub fn hand_back(&self, world: &mut World, slot: usize) {
        let owner = world.process(slot);
        let claim = self.claim(world, owner);
        let guard = Guard { owner, epoch: claim.epoch, generation: claim.generation };
        let release = Write::Release { settled: claim.settled, fed: claim.fed };
        self.post(world, slot, claim.epoch, Body::Write(guard, release), false);
    }

    /// Drops what can have no effect any more, and gives what is left one order.
    pub fn forget(&self, world: &mut World) {
        if self.without.is_none() {
            let mut wire = std::mem::take(&mut world.wire);
            wire.retain(|letter| letter.awaited || self.matters(world, letter));
            world.wire = wire;
        }
        if world.wire.len() > 1 {
            world.wire.sort_by_cached_key(order);
            world.wire.dedup_by(|one, other| one == other && idempotent(&one.body));
        }
    }

    fn matters(&self, world: &World, letter: &Letter) -> bool {
        match &letter.body {
            Body::Write(guard, _) => guard.epoch == world.row.epoch && world.row.owned_by(guard),
            Body::Call { to, verb } => match (verb, world.flow(*to)) {
                (Verb::Create, _) => true,
                (_, Flow::Absent | Flow::Live) => true,
                (Verb::Finish, Flow::Zombie) => false,
                (Verb::Delete, flow) => flow == Flow::Encoding,
                (_, Flow::Encoding | Flow::Transferring | Flow::Gone | Flow::Zombie) => false,
            },
        }
    }
}

/// Any fixed order serves.
fn order(letter: &Letter) -> u64 {
    let mut hasher = DefaultHasher::new();
    letter.hash(&mut hasher);
    hasher.finish()
}

fn idempotent(body: &Body) -> bool {
    matches!(body, Body::Write(_, Write::Mark | Write::Record(_)))
}

/// Whether a step is a request to fflow.
pub fn speaks(step: &Step) -> bool {
    matches!(step, Step::Create | Step::Push { .. } | Step::Finish | Step::Delete)
}
