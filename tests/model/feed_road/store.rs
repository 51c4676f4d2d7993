//! What the session's row does: claims, guarded writes, and those of other hands.

use std::time::Duration;

use uploader_v4::domain::feed::{Claim, Numbering};
use uploader_v4::domain::ids::{FlowId, Generation, VideoId};
use uploader_v4::domain::invariants::{self, Violation};
use uploader_v4::domain::status::SessionState;
use uuid::Uuid;

use super::road::{MAX_STRIKES, Road};
use super::safeguards::Safeguard;
use super::world::{Guard, Process, TOTAL, World, Write};

impl Road {
    /// Whether the claim's statement would give the session to `me`. `expired` tells whether it finds the owner's
    /// heartbeat expired.
    pub fn claimable(&self, world: &World, me: Process, expired: impl Fn(Process) -> bool) -> bool {
        let row = &world.row;
        let sealed = row.state == SessionState::Sealed;
        let work = row.committed > row.fed || sealed;
        let begun = sealed || row.generation > Generation(0) || row.committed >= self.rules.start_bytes;
        let free = match row.owner {
            None => true,
            Some(owner) if owner == me => !self.lacks(Safeguard::MineWithoutFeed),
            Some(owner) => expired(owner) && !self.lacks(Safeguard::DeadOwnersAreReplaced),
        };
        row.live() && work && begun && free
    }

    /// The claim's statement; what it returns.
    pub fn claim(&self, world: &mut World, me: Process) -> Claim {
        let row = &mut world.row;
        let (settled, owner_died) = (row.settled, row.owner.is_some_and(|owner| owner != me));
        row.owner = Some(me);
        row.epoch.0 += 1;
        row.settled &= self.lacks(Safeguard::ClaimClearsSettled);
        let claim = Claim {
            session: self.session,
            flow: FlowId(Uuid::from_u128(2)),
            video: VideoId(Uuid::from_u128(3)),
            total: TOTAL,
            committed: row.committed,
            sealed: row.state == SessionState::Sealed,
            epoch: row.epoch,
            generation: row.generation,
            flow_url: row.flow_url.map(|generation| self.url(generation).as_str().to_owned()),
            fed: row.fed,
            settled,
            farthest: row.farthest,
            strikes: row.strikes,
            finish_sent: (row.finish_sent && !self.lacks(Safeguard::WatchFirst)).then_some(Duration::ZERO),
            failing: row.failing.then_some(Duration::ZERO),
            owner_died,
        };
        if settled {
            world.farm.handed_over(claim.generation, claim.epoch);
        }
        claim
    }

    fn guard_holds(&self, world: &World, guard: &Guard) -> bool {
        let row = &world.row;
        (self.lacks(Safeguard::GuardEpoch) || row.epoch == guard.epoch)
            && (self.lacks(Safeguard::GuardOwner) || row.owner == Some(guard.owner))
            && (self.lacks(Safeguard::GuardGeneration) || row.generation == guard.generation)
            && (self.lacks(Safeguard::GuardState) || row.live())
    }

    /// A guarded write arrives; whether it found its row.
    pub fn write(&self, world: &mut World, guard: &Guard, write: &Write) -> bool {
        if !self.guard_holds(world, guard) {
            return false;
        }
        match write {
            Write::Number(numbering) => self.number(world, guard, numbering),
            Write::Record(generation) => world.row.flow_url = Some(*generation),
            Write::Mark => world.row.finish_sent = true,
            Write::Complete => {
                let distributed = world.farm.distributed();
                world.require(distributed);
                end(world, SessionState::Done);
                world.row.fed = world.row.committed;
            }
            Write::Park => {
                end(world, SessionState::Failed);
                (world.row.settled, world.row.flow_url, world.row.fed) = (false, None, 0);
                if guard.generation > Generation(0) && !self.lacks(Safeguard::ParkLeavesStray) {
                    world.add_stray(guard.generation);
                }
            }
            Write::Release { settled, fed } => self.release(world, *settled, *fed),
        }
        true
    }

    fn number(&self, world: &mut World, guard: &Guard, numbering: &Numbering) {
        if numbering.strikes > world.row.strikes {
            let struck = world.farm.struck(guard.generation);
            world.require(struck);
        }
        let bounded = (0..MAX_STRIKES).contains(&numbering.strikes);
        world.require(bounded.then_some(()).ok_or("strikes without bound"));
        let row = &mut world.row;
        row.generation = numbering.generation;
        if !self.lacks(Safeguard::NumberClearsAddress) {
            row.flow_url = None;
        }
        if !self.lacks(Safeguard::NumberClearsFed) {
            row.fed = 0;
        }
        row.settled = false;
        row.finish_sent &= self.lacks(Safeguard::NumberClearsFinish);
        (row.farthest, row.strikes) = (numbering.farthest, numbering.strikes);
        row.failing = numbering.failing.unwrap_or(row.failing);
        world.farm.numbered(numbering.generation, guard.epoch);
        let stray = numbering.stray.as_ref().filter(|_| !self.lacks(Safeguard::NumberLeavesStray));
        if let Some(name) = stray {
            world.add_stray(self.generation_named(name));
        }
    }

    fn release(&self, world: &mut World, settled: bool, fed: i64) {
        let row = &mut world.row;
        row.owner = None;
        row.settled = settled;
        row.fed = if settled { fed } else { 0 };
        row.finish_sent &= !settled || self.lacks(Safeguard::SettledTakesFinishBack);
    }

    /// The janitor, an operator or a deleted user ends the session.
    pub fn expire(&self, world: &mut World) {
        if world.row.generation > Generation(0) && !self.lacks(Safeguard::ExpiryLeavesStray) {
            world.add_stray(world.row.generation);
        }
        let owner = world.row.owner;
        end(world, SessionState::Expired);
        if self.lacks(Safeguard::ExpiryClearsOwner) {
            world.row.owner = owner;
        }
        if !self.lacks(Safeguard::ExpiryRaisesEpoch) {
            world.row.epoch.0 += 1;
        }
        (world.row.settled, world.row.flow_url) = (false, None);
        world.route = None;
    }

    /// An operator has a failed session tried again.
    pub fn retry(&self, world: &mut World) {
        let row = &mut world.row;
        row.state = SessionState::Sealed;
        row.epoch.0 += 1;
        (row.settled, row.flow_url, row.fed) = (false, None, 0);
        (row.strikes, row.farthest, row.failing, row.finish_sent) = (0, 0, false, false);
    }

    /// An idle session loses its process.
    pub fn drop_idle(&self, world: &mut World) {
        world.row.settled = self.lacks(Safeguard::IdleDropUnsettles);
        world.row.flow_url = None;
        world.add_stray(world.row.generation);
    }
}

/// The one way into another state; final ones stay.
fn end(world: &mut World, state: SessionState) {
    let sound: Result<(), Violation> = invariants::transition_is_sound(world.row.state, state);
    world.require(sound);
    world.row.state = state;
    world.row.owner = None;
}
