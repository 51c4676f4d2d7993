//! What breaks: whole replicas and whole neighbours, one after another, as chance has it.

use std::rc::Rc;
use std::time::Duration;

use uploader_v4::testkit::memory_spool::Health;

use super::replica::Replica;
use super::world::{FARM, World};

/// Longest wait for a replica that was told to leave.
const LEAVE_WITHIN: Duration = Duration::from_secs(30);
/// RabbitMQ gives up a connection whose client is silent for this long.
const HEARTBEATS: Duration = Duration::from_secs(15);

/// Breaks things for as long as the storm lasts, and mends each after a while.
pub async fn rage(world: &Rc<World>, storm: Duration) {
    let end = tokio::time::Instant::now() + storm;
    while tokio::time::Instant::now() < end && world.chance.violation().is_none() {
        tokio::time::sleep(world.chance.millis(100, 4_000)).await;
        match world.chance.below(15) {
            0..=2 => crash(world).await,
            3 | 4 => freeze(world),
            5 => terminate(world),
            6 => {
                world.say("Redis is emptied");
                world.routes.empty();
            }
            7 => for_a_while(world, "Redis is away", 8_000, |world, on| world.routes.set_away(on)),
            8 => {
                world.say("the broker cuts all connections");
                world.broker.cut();
            }
            9 => for_a_while(world, "PostgreSQL is away", 18_000, |world, on| world.store.set_away(on)),
            10 => kill_fflow(world),
            11 => kill_ffmpeg(world),
            12 => spool(world),
            13 => for_a_while(world, "the broker is under alarm", 40_000, |world, on| world.broker.block(on)),
            _ => hold_row(world),
        }
    }
}

fn for_a_while(world: &Rc<World>, what: &'static str, most: u64, switch: impl Fn(&World, bool) + 'static) {
    world.say(what);
    switch(world, true);
    let (span, world) = (world.chance.millis(200, most), world.clone());
    tokio::task::spawn_local(async move {
        tokio::time::sleep(span).await;
        world.say(&format!("no longer: {what}"));
        switch(&world, false);
    });
}

/// Takes a replica out, if there is one.
fn take(world: &World) -> Option<(usize, Replica)> {
    let place = world.chance.below(world.replicas.borrow().len());
    let replica = world.replicas.borrow_mut().get_mut(place).and_then(Option::take);
    replica.map(|replica| (place, replica))
}

async fn crash(world: &Rc<World>) {
    let Some((place, replica)) = take(world) else { return };
    world.say(&format!("{} is killed", replica.name));
    drop(replica);
    begin_later(world, place);
}

fn begin_later(world: &Rc<World>, place: usize) {
    let (span, world) = (world.chance.millis(1, 5_000), world.clone());
    tokio::task::spawn_local(async move {
        tokio::time::sleep(span).await;
        world.begin(place);
    });
}

fn freeze(world: &Rc<World>) {
    let Some((place, replica)) = take(world) else { return };
    let (span, world) = (world.chance.millis(500, 40_000), world.clone());
    world.say(&format!("{} is frozen for {span:?}", replica.name));
    tokio::task::spawn_local(async move {
        replica.freeze(true);
        tokio::time::sleep(span.min(HEARTBEATS)).await;
        if span > HEARTBEATS {
            replica.broker.cut_this();
            tokio::time::sleep(span - HEARTBEATS).await;
        }
        world.say(&format!("{} wakes", replica.name));
        replica.freeze(false);
        world.replicas.borrow_mut()[place] = Some(replica);
    });
}

fn terminate(world: &Rc<World>) {
    let Some((place, replica)) = take(world) else { return };
    world.say(&format!("{} is told to leave", replica.name));
    let world = world.clone();
    tokio::task::spawn_local(async move {
        replica.terminate();
        let end = tokio::time::Instant::now() + LEAVE_WITHIN;
        while replica.exit().is_none() && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        match replica.exit() {
            Some(Ok(())) => world.say(&format!("{} has left", replica.name)),
            ended => world.chance.violated(format!("{} did not leave: {ended:?}", replica.name)),
        }
        begin_later(&world, place);
    });
}

fn kill_fflow(world: &World) {
    let number = world.chance.below(FARM) + 1;
    world.say(&format!("fflow replica {number} is killed"));
    for (name, flow) in world.fflow.flows() {
        if flow.replica == number && flow.is_live() {
            world.chance.trouble(&name);
        }
    }
    world.fflow.kill_replica(number);
}

fn kill_ffmpeg(world: &World) {
    let live: Vec<String> =
        world.fflow.flows().into_iter().filter(|(_, flow)| flow.is_live()).map(|(name, _)| name).collect();
    let Some(name) = live.get(world.chance.below(live.len())) else { return };
    world.say(&format!("the ffmpeg of {name} dies"));
    world.chance.trouble(name);
    world.fflow.kill_ffmpeg(name);
}

fn spool(world: &Rc<World>) {
    let (what, health) = match world.chance.one_in(2) {
        true => ("the spool is full", Health::Full),
        false => ("the spool is away", Health::Away),
    };
    let switch = move |world: &World, on| world.spool.set_health(if on { health } else { Health::Sound });
    for_a_while(world, what, 8_000, switch);
}

/// Another transaction holds a session's row for a while.
fn hold_row(world: &Rc<World>) {
    let session = world.uploads[world.chance.below(world.uploads.len())].session;
    let switch = move |world: &World, on| world.store.alter(session, |row| row.locked = on);
    for_a_while(world, "a row is held", 5_000, switch);
}
