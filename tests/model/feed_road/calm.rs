//! What happens once faults stop: one fixed order of things, from any state, must bring the upload to an end.

use uploader_v4::domain::feed::{Sight, Step};
use uploader_v4::domain::status::SessionState;

use super::actions::Action;
use super::network::{Back, Shipping};
use super::replicas::speaks;
use super::road::Road;
use super::world::{Flow, Pending, World};

/// Whether the calm leads from here to an end that leaves nothing behind.
pub fn ends(road: &Road, world: &World) -> bool {
    let step = |world: &World| {
        let action = next(road, world).filter(|_| world.broken.is_none())?;
        let mut after = world.clone();
        road.carry_out(&mut after, action);
        road.forget(&mut after);
        Some(after)
    };
    road.endings.reached(world, step, at_rest)
}

/// The session has ended, and no process runs on. A broken world is another property's.
fn at_rest(world: &World) -> bool {
    let ended = matches!(world.row.state, SessionState::Done | SessionState::Failed | SessionState::Expired);
    let left = world.flows.iter().any(|flow| matches!(flow, Flow::Live | Flow::Encoding));
    world.broken.is_some() || (ended && !left)
}

/// The next thing without faults; `None` when nothing is left to do.
pub fn next(road: &Road, world: &World) -> Option<Action> {
    let wire =
        || world.wire.iter().position(|letter| !letter.arrived).map(|at| Action::Arrive(at, Back::Heard));
    lives(world)
        .or_else(wire)
        .or_else(|| shipping(world))
        .or_else(|| (world.row.state == SessionState::Open).then_some(Action::Store))
        .or_else(|| (0..world.replicas.len()).find_map(|slot| feed(road, world, slot)))
        .or_else(|| (0..world.replicas.len()).find_map(|slot| claim(road, world, slot)))
        .or_else(|| sweep(world))
}

/// Whoever is dead is started, whoever leaves leaves, whoever was silent is heard.
fn lives(world: &World) -> Option<Action> {
    world.replicas.iter().enumerate().find_map(|(slot, replica)| {
        if !replica.alive {
            return Some(Action::Restart(slot));
        }
        if !replica.lease {
            return Some(Action::Regain(slot));
        }
        (replica.leaving && replica.running.is_none()).then_some(Action::Exit(slot))
    })
}

fn shipping(world: &World) -> Option<Action> {
    let at_work = |flow| matches!(flow, Flow::Encoding | Flow::Transferring);
    let generation = world.generations().find(|generation| at_work(world.flow(*generation)))?;
    Some(Action::Ship(generation, Shipping::Goes))
}

fn feed(road: &Road, world: &World, slot: usize) -> Option<Action> {
    let running = world.replicas[slot].running.as_ref()?;
    if world.row.epoch > running.feed.claim().epoch {
        return Some(Action::Forsake(slot));
    }
    if world.row.committed > running.feed.committed() {
        return Some(Action::Learn(slot));
    }
    match &running.pending {
        Pending::Time(_) => Some(Action::Time(slot)),
        Pending::Asked(Step::Look) => Some(match road.sight(world) {
            Sight::NotWhole(_) => Action::LookLate(slot),
            Sight::Whole(_) | Sight::Unreachable(_) => Action::Answer(slot, 0),
        }),
        Pending::Asked(_) => Some(Action::Answer(slot, 0)),
        Pending::Unsure(_) => Some(Action::ReadAgain(slot)),
        // A finish that a dead process will never answer.
        Pending::Sent(step) if speaks(step) => Some(Action::GiveUp(slot)),
        Pending::Sent(_) | Pending::Lease(_) => None,
    }
}

fn claim(road: &Road, world: &World, slot: usize) -> Option<Action> {
    let mut offered = Vec::new();
    road.offer(world, &mut offered);
    offered.into_iter().find(|action| *action == Action::Claim(slot))
}

fn sweep(world: &World) -> Option<Action> {
    let runs = |generation| matches!(world.flow(generation), Flow::Live | Flow::Encoding);
    world.generations().find(|at| runs(*at) && world.is_stray(*at)).map(Action::Sweep)
}
