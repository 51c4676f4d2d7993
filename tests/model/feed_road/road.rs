//! The feed road as a state machine: the real `feed::decide` between a row, a farm and a network that may do anything.

use std::time::Duration;

use stateright::{Model, Property};
use uploader_v4::domain::feed::Rules;
use uploader_v4::domain::ids::{FlowName, Generation, SessionId};
use uploader_v4::domain::retry::Backoff;
use uploader_v4::domain::route::{self, AllowList, FlowUrl};
use uuid::Uuid;

use super::actions::Action;
use super::calm;
use super::safeguards::Safeguard;
use super::world::World;
use crate::explore::Endings;

const BASE: &str = "http://fflow.test:4050/r1/";
/// More than any bounded run numbers.
const GENERATIONS: i32 = 24;
/// What a finish gets, and a grace.
const HOUR: Duration = Duration::from_secs(3600);
/// Later than every wait that began before.
pub const LATE_MS: u64 = 2 * 3600 * 1000;
pub const MAX_STRIKES: i32 = 2;

/// What may never be seen.
pub const SAFE: &str = "no rule is broken";
/// What must still be possible from wherever faults led.
pub const LIVE: &str = "once faults stop, every upload ends and nothing is left behind";

/// The model: how many faults, and what is taken out.
pub struct Road {
    pub faults: u8,
    pub without: Option<Safeguard>,
    begin: World,
    pub rules: Rules,
    pub allowed: AllowList,
    pub session: SessionId,
    names: Vec<FlowName>,
    urls: Vec<FlowUrl>,
    pub endings: Endings,
}

impl Road {
    pub fn new(faults: u8, without: Option<Safeguard>) -> Self {
        let session = SessionId(Uuid::from_u128(1));
        let allowed = AllowList::new([BASE]);
        let names: Vec<FlowName> = (0..GENERATIONS).map(|at| Generation(at).name(session)).collect();
        let urls = names.iter().map(|name| route::from_answer(BASE, name, &allowed).unwrap()).collect();
        let (begin, rules, endings) = (World::new(), rules(), Endings::default());
        Road { faults, without, begin, rules, allowed, session, names, urls, endings }
    }

    /// The model from a moment on to which `story` led; what went wrong in it does not count as a fault.
    pub fn after(story: &[Action], faults: u8, without: Option<Safeguard>) -> Self {
        let mut road = Road::new(faults, without);
        let mut world = road.begin.clone();
        for action in story {
            let mut offered = Vec::new();
            road.offer(&world, &mut offered);
            assert!(offered.contains(action), "{action:?} cannot happen here: {offered:?}");
            road.carry_out(&mut world, *action);
            road.forget(&mut world);
            world.faults = 0;
        }
        road.begin = world;
        road
    }

    /// Whether this safeguard is taken out.
    pub fn lacks(&self, safeguard: Safeguard) -> bool {
        self.without == Some(safeguard)
    }

    pub fn url(&self, generation: Generation) -> &FlowUrl {
        &self.urls[usize::try_from(generation.0).unwrap()]
    }

    /// Whose address it is; the first generation has that of none.
    pub fn generation_at(&self, url: &FlowUrl) -> Generation {
        let at = self.urls.iter().rposition(|known| known == url).unwrap();
        Generation(i32::try_from(at).unwrap())
    }

    /// Whose name it is; the first generation has the name of none.
    pub fn generation_named(&self, name: &FlowName) -> Generation {
        let at = self.names.iter().rposition(|known| known == name).unwrap();
        Generation(i32::try_from(at).unwrap())
    }
}

/// Time is abstract: what is waited for may come at once, and a deadline only when the model says so.
fn rules() -> Rules {
    Rules {
        start_bytes: 1,
        push_block: 1,
        push_linger: Duration::ZERO,
        push_rate: u64::MAX,
        idle: Duration::ZERO,
        backoff: Backoff { min: Duration::ZERO, max: Duration::ZERO },
        max_strikes: MAX_STRIKES,
        strike_waits: vec![Duration::ZERO],
        strike_span: Duration::ZERO,
        holder: true,
        holder_poll: Duration::ZERO,
        finish_base: HOUR,
        finish_rate: u64::MAX,
        finish_grace: HOUR,
    }
}

impl Model for Road {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.begin.clone()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_none() {
            self.offer(world, actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        self.carry_out(&mut next, action);
        self.forget(&mut next);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(SAFE, |_, world: &World| world.broken.is_none()),
            Property::always(LIVE, |road: &Road, world: &World| {
                world.broken.is_some() || calm::ends(road, world)
            }),
            Property::sometimes("DONE", |_, world: &World| world.row.state.as_str() == "DONE"),
            Property::sometimes("FAILED", |_, world: &World| world.row.state.as_str() == "FAILED"),
            Property::sometimes("EXPIRED", |_, world: &World| world.row.state.as_str() == "EXPIRED"),
        ]
    }
}
