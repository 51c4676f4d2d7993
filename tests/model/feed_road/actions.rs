//! What may happen next: the work of the road, which is free, and faults, which are counted.

use uploader_v4::domain::feed::{Sight, Step};
use uploader_v4::domain::ids::Generation;
use uploader_v4::domain::status::SessionState;

use super::network::{Back, Shipping};
use super::road::Road;
use super::world::{Body, Flow, Pending, Replica, TOTAL, Verb, World};

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The chunk road stores the rest of the file.
    Store,
    /// A replica claims the session and its feed begins.
    Claim(usize),
    /// The wait of a feed is over.
    Time(usize),
    /// A feed hears that more is stored.
    Learn(usize),
    /// A feed whose row has another owner is forsaken.
    Forsake(usize),
    /// What a feed asked for on the spot is answered; the number chooses among the answers.
    Answer(usize, u8),
    /// A look at holder shows nothing whole, and the time of the watch is over.
    LookLate(usize),
    /// A write of unknown outcome is read again.
    ReadAgain(usize),
    /// What is on its way arrives.
    Arrive(usize, Back),
    /// A finish gets further.
    Ship(Generation, Shipping),
    /// The sender waits no longer; its request may arrive all the same.
    GiveUp(usize),
    /// fflow was surely not reached.
    NotSent(usize),
    /// The database refuses what a feed asks of it.
    Refuse(usize),
    /// A process at fflow dies.
    Die(Generation, Flow),
    /// A replica dies.
    Crash(usize),
    /// A dead one is started again.
    Restart(usize),
    /// A feed panics.
    Panic(usize),
    /// A replica is not heard for longer than its lease.
    Lapse(usize),
    /// It is heard again, and compares its rows.
    Regain(usize),
    /// SIGTERM.
    Leave(usize),
    /// It has no time left.
    Hurry(usize),
    /// It has left.
    Exit(usize),
    /// A claim is committed, but its answer is lost, or its sender dead.
    ClaimUnheard(usize),
    /// A claim finds a living owner's heartbeat expired: it was sent before that came.
    ClaimRaced(usize),
    /// A claim that was on its way at SIGTERM is handed back.
    HandBack(usize),
    /// Redis is away while a route is looked up.
    RedisAway(usize),
    /// Redis is emptied, or a late write leaves an older route there.
    Redis(Option<Generation>),
    /// An idle session loses its process.
    DropIdle,
    /// A stray is deleted.
    Sweep(Generation),
    /// The session expires, or its user is deleted.
    Expire,
    /// An operator has a failed session tried again.
    Retry,
}

impl Action {
    /// Whether it counts as a fault.
    pub fn is_fault(self) -> bool {
        use Action::*;
        match self {
            Store | Claim(_) | Time(_) | Learn(_) | Forsake(_) | Answer(..) | LookLate(_) | ReadAgain(_)
            | Restart(_) | Regain(_) | Hurry(_) | Exit(_) | DropIdle | Sweep(_) => false,
            Arrive(_, back) => back != Back::Heard,
            Ship(_, shipping) => shipping != Shipping::Goes,
            GiveUp(_) | NotSent(_) | Refuse(_) | Die(..) | Crash(_) | Panic(_) | Lapse(_) | Leave(_)
            | ClaimUnheard(_) | ClaimRaced(_) | HandBack(_) | RedisAway(_) | Redis(_) | Expire | Retry => {
                true
            }
        }
    }
}

impl Road {
    /// Everything that may happen.
    pub fn offer(&self, world: &World, actions: &mut Vec<Action>) {
        let from = actions.len();
        self.offer_world(world, actions);
        // While the replicas are alike, what one of them may do stands for both.
        let alike =
            world.replicas[0] == world.replicas[1] && world.row.owner.is_none() && world.wire.is_empty();
        let slots = if alike { 1 } else { world.replicas.len() };
        (0..slots).for_each(|slot| self.offer_replica(world, slot, actions));
        (0..world.wire.len()).for_each(|at| offer_letter(world, at, actions));
        if world.faults >= self.faults {
            let kept: Vec<Action> = actions.drain(from..).filter(|action| !action.is_fault()).collect();
            actions.extend(kept);
        }
    }

    fn offer_world(&self, world: &World, actions: &mut Vec<Action>) {
        let row = &world.row;
        if row.state == SessionState::Open && row.committed < TOTAL {
            actions.push(Action::Store);
        }
        if row.state == SessionState::Open && row.owner.is_none() && row.settled {
            actions.push(Action::DropIdle);
        }
        if row.state == SessionState::Failed && row.committed == TOTAL {
            actions.push(Action::Retry);
        }
        if row.live() {
            actions.push(Action::Expire);
        }
        for generation in world.generations() {
            offer_flow(world, generation, actions);
        }
        if world.route.is_some() {
            actions.push(Action::Redis(None));
        }
    }

    fn offer_replica(&self, world: &World, slot: usize, actions: &mut Vec<Action>) {
        let replica = &world.replicas[slot];
        let me = world.process(slot);
        if self.claimable(world, me, |_| true) {
            actions.push(Action::ClaimUnheard(slot));
        }
        if !replica.alive {
            return actions.push(Action::Restart(slot));
        }
        actions.push(Action::Crash(slot));
        let may_claim = replica.running.is_none() && replica.lease;
        if may_claim && !replica.leaving && self.claimable(world, me, |owner| silent(world, owner)) {
            actions.push(Action::Claim(slot));
        } else if may_claim && !replica.leaving && self.claimable(world, me, |_| true) {
            actions.push(Action::ClaimRaced(slot));
        } else if may_claim && self.claimable(world, me, |owner| silent(world, owner)) {
            actions.push(Action::HandBack(slot));
        }
        offer_life(replica, slot, actions);
        if let Some(running) = &replica.running {
            actions.push(Action::Panic(slot));
            if world.row.committed > running.feed.committed() {
                actions.push(Action::Learn(slot));
            }
            if world.row.epoch > running.feed.claim().epoch {
                actions.push(Action::Forsake(slot));
            }
            self.offer_feed(world, slot, &running.pending, actions);
        }
    }

    fn offer_feed(&self, world: &World, slot: usize, pending: &Pending, actions: &mut Vec<Action>) {
        match pending {
            Pending::Time(_) => {
                if self.grace_may_end(world, Action::Time(slot)) {
                    actions.push(Action::Time(slot));
                }
            }
            Pending::Lease(_) => {}
            Pending::Asked(step) => {
                let answers = if matches!(step, Step::Weigh(_)) { 3 } else { 1 };
                actions.extend((0..answers).map(|choice| Action::Answer(slot, choice)));
                match step {
                    Step::Look => {
                        // The second answer is a holder out of reach.
                        actions.push(Action::RedisAway(slot));
                        if matches!(self.sight(world), Sight::NotWhole(_))
                            && self.grace_may_end(world, Action::LookLate(slot))
                        {
                            actions.push(Action::LookLate(slot));
                        }
                    }
                    Step::Resolve { .. } => actions.push(Action::RedisAway(slot)),
                    _ => {}
                }
            }
            Pending::Sent(step) => {
                let call = matches!(step, Step::Create | Step::Push { .. } | Step::Finish | Step::Delete);
                actions.push(Action::GiveUp(slot));
                actions.push(if call { Action::NotSent(slot) } else { Action::Refuse(slot) });
            }
            Pending::Unsure(_) => actions.extend([Action::ReadAgain(slot), Action::Refuse(slot)]),
        }
    }

    /// The model's one assumption about time: the grace after a delete that was not confirmed does not end while a finish
    /// is still on its way to that process or at work in it.
    fn grace_may_end(&self, world: &World, action: Action) -> bool {
        if !world.finish_under_way() {
            return true;
        }
        let mut next = world.clone();
        self.carry_out(&mut next, action);
        let begun = |world: &World| world.wire.iter().filter(|letter| numbers(&letter.body)).count();
        begun(&next) <= begun(world)
    }
}

fn numbers(body: &Body) -> bool {
    matches!(body, Body::Write(_, super::world::Write::Number(_)))
}

/// Whether others find its heartbeat expired, or no row of it.
fn silent(world: &World, owner: super::world::Process) -> bool {
    let replica = &world.replicas[owner.slot];
    !replica.alive || replica.life != owner.life || !replica.lease
}

fn offer_life(replica: &Replica, slot: usize, actions: &mut Vec<Action>) {
    actions.push(if replica.lease { Action::Lapse(slot) } else { Action::Regain(slot) });
    if !replica.leaving {
        actions.push(Action::Leave(slot));
    } else if replica.running.is_none() {
        actions.push(Action::Exit(slot));
    } else if !replica.hurried {
        actions.push(Action::Hurry(slot));
    }
}

fn offer_flow(world: &World, generation: Generation, actions: &mut Vec<Action>) {
    let flow = world.flow(generation);
    match flow {
        Flow::Absent | Flow::Zombie | Flow::Gone => {}
        Flow::Live => {
            actions.extend([Action::Die(generation, Flow::Zombie), Action::Die(generation, Flow::Gone)]);
        }
        Flow::Encoding => {
            actions.extend([Action::Die(generation, Flow::Zombie), Action::Die(generation, Flow::Gone)]);
            let endings = [Shipping::Goes, Shipping::ShipsNothing, Shipping::Fails];
            actions.extend(endings.map(|shipping| Action::Ship(generation, shipping)));
        }
        Flow::Transferring => {
            let endings = [Shipping::Goes, Shipping::Fails];
            actions.extend(endings.map(|shipping| Action::Ship(generation, shipping)));
        }
    }
    if matches!(flow, Flow::Live | Flow::Encoding) && world.is_stray(generation) {
        actions.push(Action::Sweep(generation));
    }
    if world.route != Some(generation) {
        actions.push(Action::Redis(Some(generation)));
    }
}

fn offer_letter(world: &World, at: usize, actions: &mut Vec<Action>) {
    let letter = &world.wire[at];
    if letter.arrived {
        return;
    }
    actions.push(Action::Arrive(at, Back::Heard));
    if letter.awaited {
        actions.push(Action::Arrive(at, Back::Lost));
    }
    let breaks = match letter.body {
        Body::Write(..) => false,
        Body::Call { verb: Verb::Create | Verb::Push { .. } | Verb::Finish, .. } => letter.awaited,
        Body::Call { verb: Verb::Delete, .. } => false,
    };
    if breaks {
        actions.push(Action::Arrive(at, Back::Broken));
    }
}
