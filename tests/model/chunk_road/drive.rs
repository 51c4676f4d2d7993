//! The rest of the way once faults stop: one fixed fair order of steps, to the end of every delivery and of the session.

use stateright::Model;
use uploader_v4::domain::status::SessionState;

use super::faults::Fault;
use super::world::{Stage, State, Whereabouts};
use super::{Action, ChunkRoad};

impl ChunkRoad {
    /// Whether every delivery is answered and acked, nothing is held, and the session is over.
    pub fn ends_well(&self, state: &State) -> bool {
        if state.broken.is_some() {
            return true;
        }
        let well = |end: &State| {
            let settled = |delivery: &super::world::Delivery| {
                delivery.answered && delivery.whereabouts == Whereabouts::Acked
            };
            let idle = end.replicas.iter().all(|replica| replica.held.is_empty());
            idle && end.broker.iter().all(settled) && !is_live(end)
        };
        self.endings.reached(state, |here| self.go_on(here), well)
    }

    /// The next step of a lucky world; none when there is nothing left to do.
    fn go_on(&self, state: &State) -> Option<State> {
        let mut steps = Vec::new();
        self.steps(state, &mut steps);
        steps.sort_by_key(|step| {
            (matches!(step, Action::Deliver { .. }), matches!(step, Action::Look { .. }))
        });
        let last = overdue(state).into_iter().chain(finale(state)).map(Action::Fault);
        steps.into_iter().chain(last).find_map(|step| self.next_state(state, step))
    }
}

fn is_live(state: &State) -> bool {
    matches!(state.own_state(), Some(SessionState::Open | SessionState::Sealed))
}

/// Nothing came for the early chunk that waits first: its time is over.
fn overdue(state: &State) -> Option<Fault> {
    let first = |replica: usize| {
        let held = &state.replicas[replica].held;
        held.iter().position(|held| matches!(held.stage, Stage::Waiting(_))).map(|held| (replica, held))
    };
    let (replica, held) = first(0).or_else(|| first(1))?;
    Some(Fault::Overdue { replica, held })
}

/// No chunk is left: the session is finished by its feed, or by the janitor.
fn finale(state: &State) -> Option<Fault> {
    let sealed = state.own_state() == Some(SessionState::Sealed);
    match (is_live(state), state.database.session.shared.is_some()) {
        (true, true) if sealed => Some(Fault::Complete),
        (true, true) => Some(Fault::Expire),
        (true, false) => Some(Fault::Reap),
        (false, _) => None,
    }
}
