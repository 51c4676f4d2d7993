//! What arrives: at the row, at fflow, and what comes of it for whoever waits for the answer.

use uploader_v4::domain::feed::{Created, Deleted, Event, Trouble};
use uploader_v4::domain::ids::{Epoch, Generation};

use super::road::Road;
use super::world::{Body, Flow, Letter, Pending, Verb, World};

/// How an answer comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Back {
    /// As it was given.
    Heard,
    /// It is lost on the way.
    Lost,
    /// fflow fails: it answers an error, and its process is gone.
    Broken,
}

/// How a finish ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shipping {
    /// One step further: the files travel, or are there.
    Goes,
    /// It reports success, and no file is there.
    ShipsNothing,
    /// FTP refuses: an error, and the process is gone.
    Fails,
}

impl Road {
    /// The letter arrives.
    pub fn arrive(&self, world: &mut World, at: usize, back: Back) {
        let letter = world.wire.remove(at);
        match letter.body.clone() {
            Body::Write(guard, write) => {
                let done = self.write(world, &guard, &write);
                if !letter.awaited {
                    return;
                }
                match (back, done) {
                    (Back::Heard, true) => self.written_down(world, letter.from.slot, &write),
                    (Back::Heard, false) => self.fenced(world, &letter),
                    (Back::Lost | Back::Broken, _) => self.unsure(world, letter.from.slot),
                }
            }
            Body::Call { to, verb } => self.call(world, letter, to, verb, back),
        }
    }

    /// A release ends its feed whatever came of it.
    fn fenced(&self, world: &mut World, letter: &Letter) {
        let release = matches!(&letter.body, Body::Write(_, super::world::Write::Release { .. }));
        let event = if release { Event::Released } else { Event::Fenced };
        self.hear(world, letter.from.slot, event);
    }

    /// The sender of a write gives up waiting for its answer.
    pub fn unsure(&self, world: &mut World, slot: usize) {
        self.orphan(world, slot);
        let pending = world.replicas[slot].running.as_ref().map(|running| running.pending.clone());
        match pending {
            Some(Pending::Sent(uploader_v4::domain::feed::Step::Release { .. })) => {
                self.hear(world, slot, Event::Released);
            }
            Some(Pending::Sent(step)) => self.pend(world, slot, Pending::Unsure(step)),
            Some(Pending::Time(_) | Pending::Lease(_) | Pending::Asked(_) | Pending::Unsure(_)) | None => {}
        }
    }

    fn call(&self, world: &mut World, letter: Letter, to: Generation, verb: Verb, back: Back) {
        if back == Back::Broken {
            self.lose_flow(world, to, Flow::Gone);
            let answer = trouble(verb, Trouble::Status(500, String::new()));
            return self.answer(world, &letter, answer);
        }
        let Some(answer) = self.serve(world, &letter, to, verb) else {
            let slot = letter.from.slot;
            let awaited = letter.awaited && back == Back::Heard;
            if awaited {
                world.wire.push(Letter { arrived: true, ..letter });
            } else if letter.awaited {
                world.farm.failed(to);
                self.hear(world, slot, trouble(verb, Trouble::Unknown(String::new())));
            }
            return;
        };
        if back == Back::Lost {
            world.farm.failed(to);
            return self.answer(world, &letter, trouble(verb, Trouble::Unknown(String::new())));
        }
        self.answer(world, &letter, answer);
    }

    fn answer(&self, world: &mut World, letter: &Letter, event: Event) {
        if letter.awaited {
            self.hear(world, letter.from.slot, event);
        }
    }

    /// What fflow does; no answer yet from a finish that works, or never one from a process that died.
    fn serve(&self, world: &mut World, letter: &Letter, to: Generation, verb: Verb) -> Option<Event> {
        let unknown = || trouble(verb, Trouble::Status(404, String::new()));
        match (verb, world.flow(to)) {
            (Verb::Create, flow) => {
                let created = world.farm.created(to);
                world.require(created);
                if flow == Flow::Absent {
                    world.set_flow(to, Flow::Live);
                }
                Some(Event::Created(Created::At(self.url(to).clone())))
            }
            (Verb::Push { from, to: until }, Flow::Live) => {
                self.take(world, to, letter.epoch, from, until);
                Some(Event::Pushed(Ok(())))
            }
            (Verb::Push { .. }, Flow::Zombie) => Some(Event::Pushed(Ok(()))),
            (Verb::Finish, Flow::Live) => {
                let begun = world.farm.finish_begun(to);
                world.require(begun);
                world.set_flow(to, Flow::Encoding);
                None
            }
            (Verb::Finish, Flow::Zombie) => None,
            (Verb::Delete, Flow::Live | Flow::Encoding) => {
                if world.flow(to) == Flow::Encoding {
                    world.farm.failed(to);
                }
                self.end_flow(world, to, Flow::Gone);
                Some(Event::Deleted(Deleted::Gone))
            }
            (Verb::Delete, Flow::Zombie) => Some(Event::Deleted(Deleted::NoAnswer)),
            (_, Flow::Absent | Flow::Encoding | Flow::Transferring | Flow::Gone) => Some(unknown()),
        }
    }

    fn take(&self, world: &mut World, to: Generation, epoch: Epoch, from: i64, until: i64) {
        let pushed = world.farm.pushed(to, epoch, from, until);
        world.require(pushed);
    }

    /// fflow loses a process.
    pub fn lose_flow(&self, world: &mut World, generation: Generation, flow: Flow) {
        world.farm.failed(generation);
        self.end_flow(world, generation, flow);
    }

    /// A process ends; its finish, if one was at work, is answered with an error.
    pub fn end_flow(&self, world: &mut World, generation: Generation, flow: Flow) {
        world.set_flow(generation, flow);
        world.farm.gone(generation);
        if flow == Flow::Gone {
            self.answer_finish(world, generation, Err(Trouble::Status(500, String::new())));
        }
    }

    /// A finish that is at work gets further.
    pub fn ship(&self, world: &mut World, generation: Generation, shipping: Shipping) {
        match (shipping, world.flow(generation)) {
            (Shipping::Goes, Flow::Encoding) => world.set_flow(generation, Flow::Transferring),
            (Shipping::Goes, _) => {
                world.farm.shipped(generation);
                world.set_flow(generation, Flow::Gone);
                self.answer_finish(world, generation, Ok(()));
            }
            (Shipping::ShipsNothing, _) => {
                world.farm.failed(generation);
                world.farm.gone(generation);
                world.set_flow(generation, Flow::Gone);
                self.answer_finish(world, generation, Ok(()));
            }
            (Shipping::Fails, _) => self.lose_flow(world, generation, Flow::Gone),
        }
    }

    fn answer_finish(&self, world: &mut World, generation: Generation, result: Result<(), Trouble>) {
        let asked = |letter: &Letter| {
            letter.arrived && letter.body == Body::Call { to: generation, verb: Verb::Finish }
        };
        while let Some(at) = world.wire.iter().position(asked) {
            let letter = world.wire.remove(at);
            self.answer(world, &letter, Event::Finished(result.clone()));
        }
    }
}

/// A request that did not go well, as its sender hears of it.
pub fn trouble(verb: Verb, trouble: Trouble) -> Event {
    match (verb, trouble) {
        (Verb::Create, Trouble::NotSent(why)) => Event::Created(Created::NotSent(why)),
        (Verb::Create, Trouble::Status(_, why) | Trouble::Unknown(why)) => {
            Event::Created(Created::Failed(why))
        }
        (Verb::Push { .. }, trouble) => Event::Pushed(Err(trouble)),
        (Verb::Finish, trouble) => Event::Finished(Err(trouble)),
        (Verb::Delete, Trouble::Status(404, _)) => Event::Deleted(Deleted::Unknown),
        (Verb::Delete, _) => Event::Deleted(Deleted::NoAnswer),
    }
}
