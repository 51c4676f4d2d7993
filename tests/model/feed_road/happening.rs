//! Carrying out what happens, one thing at a time.

use uploader_v4::domain::feed::{Event, Evidence, Sight, Step};
use uploader_v4::domain::status::SessionState;

use super::actions::Action;
use super::road::{LATE_MS, Road};
use super::world::{Flow, Pending, TOTAL, World};

impl Road {
    /// It happens.
    pub fn carry_out(&self, world: &mut World, action: Action) {
        world.faults += u8::from(action.is_fault() && !self.is_free(world, action));
        match action {
            Action::Store => (world.row.committed, world.row.state) = (TOTAL, SessionState::Sealed),
            Action::Claim(slot) | Action::ClaimRaced(slot) => {
                let me = world.process(slot);
                let claim = self.claim(world, me);
                self.start(world, slot, claim);
            }
            Action::ClaimUnheard(slot) => {
                let me = world.process(slot);
                self.claim(world, me);
            }
            Action::HandBack(slot) => self.hand_back(world, slot),
            Action::Time(slot) => self.time(world, slot),
            Action::Learn(slot) => {
                let (committed, sealed) = (world.row.committed, world.row.state == SessionState::Sealed);
                self.hear(world, slot, Event::Advanced { committed, sealed });
            }
            Action::Forsake(slot) => self.hear(world, slot, Event::Fenced),
            Action::Answer(slot, choice) => self.answer_on_the_spot(world, slot, choice),
            Action::LookLate(slot) => self.look_late(world, slot),
            Action::ReadAgain(slot) => self.read_again(world, slot),
            Action::Arrive(at, back) => self.arrive(world, at, back),
            Action::Ship(generation, shipping) => self.ship(world, generation, shipping),
            Action::GiveUp(slot) => self.give_up(world, slot),
            Action::NotSent(slot) => self.not_sent(world, slot),
            Action::Refuse(slot) => {
                self.withdraw(world, slot);
                self.refused(world, slot);
            }
            Action::Die(generation, flow) => self.lose_flow(world, generation, flow),
            Action::RedisAway(slot) => self.answer_without(world, slot),
            Action::Redis(route) => world.route = route,
            Action::DropIdle => self.drop_idle(world),
            Action::Sweep(generation) => {
                if matches!(world.flow(generation), Flow::Live | Flow::Encoding) {
                    self.end_flow(world, generation, Flow::Gone);
                }
            }
            Action::Expire => self.expire(world),
            Action::Retry => self.retry(world),
            Action::Crash(slot) | Action::Restart(slot) | Action::Panic(slot) => {
                self.die(world, slot, action)
            }
            Action::Lapse(slot) => world.replicas[slot].lease = false,
            Action::Regain(slot) => self.regain(world, slot),
            Action::Leave(slot) | Action::Hurry(slot) | Action::Exit(slot) => self.leave(world, slot, action),
        }
    }

    fn look_late(&self, world: &mut World, slot: usize) {
        if let Some(running) = &mut world.replicas[slot].running {
            running.now += LATE_MS;
        }
        self.hear(world, slot, Event::Looked(Sight::NotWhole(String::new())));
    }

    fn answer_on_the_spot(&self, world: &mut World, slot: usize, choice: u8) {
        let asked = world.replicas[slot].running.as_ref().map(|running| running.pending.clone());
        let Some(Pending::Asked(step)) = asked else {
            return;
        };
        match step {
            Step::Resolve { stored } => self.resolve(world, slot, stored.as_deref(), true),
            Step::Look => {
                let sight = self.sight(world);
                self.hear(world, slot, Event::Looked(sight));
            }
            Step::Weigh(_) => {
                let evidence = Evidence { worked: choice == 0, lone: choice == 2 };
                self.hear(world, slot, Event::Weighed(evidence));
            }
            Step::CleanUp { .. } => {
                world.route = None;
                self.hear(world, slot, Event::Cleaned);
            }
            other => unreachable!("{other:?} is not answered on the spot"),
        }
    }

    /// Redis, or holder, is out of reach.
    fn answer_without(&self, world: &mut World, slot: usize) {
        let asked = world.replicas[slot].running.as_ref().map(|running| running.pending.clone());
        match asked {
            Some(Pending::Asked(Step::Resolve { stored })) => {
                self.resolve(world, slot, stored.as_deref(), false);
            }
            _ => self.hear(world, slot, Event::Looked(Sight::Unreachable(String::new()))),
        }
    }
}
