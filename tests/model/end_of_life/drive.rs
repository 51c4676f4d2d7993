//! The rest of the way once faults stop and operators rest: one fixed fair order of steps, until no session is alive.

use stateright::Model;

use super::world::{Part, State};
use super::{Action, EndOfLife};

impl EndOfLife {
    /// Whether no session is alive, no transaction open and no feed at work, in the end.
    pub fn ends_well(&self, state: &State) -> bool {
        if state.broken.is_some() {
            return true;
        }
        let well =
            |end: &State| end.open.is_empty() && end.feeds.is_empty() && !end.parts.iter().any(Part::is_live);
        self.endings.reached(state, |here| self.go_on(here), well)
    }

    fn go_on(&self, state: &State) -> Option<State> {
        let calm = State { left: 0, ..state.clone() };
        let mut steps = Vec::new();
        self.steps(&calm, &mut steps);
        // Bytes that can be read are read; a parked session stays parked.
        steps.retain(|step| !matches!(step, Action::Claim { damaged: true, .. }));
        self.janitor(&calm, &mut steps);
        steps.retain(|step| !matches!(step, Action::GiveUp { .. }));
        steps.into_iter().find_map(|step| self.next_state(&calm, step))
    }
}
