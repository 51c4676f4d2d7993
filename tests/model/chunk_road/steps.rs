//! The steps of a delivery on the chunk road, as the actors take them.

use uploader_v4::domain::session::Next;

use super::judge::{judge, terms};
use super::store::{ensure, waits_for};
use super::world::{Answer, Held, Record, Stage, State, Whereabouts};
use super::{Action, ChunkRoad, Safeguard};

impl ChunkRoad {
    /// What may happen next without a fault.
    pub fn steps(&self, state: &State, actions: &mut Vec<Action>) {
        for (delivery, queued) in state.broker.iter().enumerate() {
            let twin = state.broker[..delivery].contains(queued);
            if queued.whereabouts == Whereabouts::Queued && !twin {
                // Two replicas that are alike are one choice.
                let alike = state.replicas[0] == state.replicas[1];
                let replicas = if alike { 0..1 } else { 0..2 };
                actions.extend(replicas.map(|replica| Action::Deliver { delivery, replica }));
            }
        }
        for (replica, memory) in state.replicas.iter().enumerate() {
            let busy = memory.held.iter().any(|held| held.stage.is_busy());
            for (held, what) in memory.held.iter().enumerate() {
                actions.extend(match &what.stage {
                    Stage::Waiting(_) if busy => None,
                    Stage::Waiting(_) => Some(Action::Look { replica, held, overdue: false }),
                    Stage::Admitted(_) => Some(Action::Append { replica, held }),
                    Stage::Stored(..) => Some(Action::Begin { replica, held }),
                    Stage::Committing(_) => None,
                    Stage::Answering(_) => Some(Action::Publish { replica, held }),
                    Stage::Replied(_) => Some(Action::Ack { replica, held }),
                });
            }
        }
        actions.extend((0..state.database.open.len()).map(|transaction| Action::Land { transaction }));
    }

    /// Carries one action out.
    pub fn carry_out(&self, state: &mut State, action: Action) {
        match action {
            Action::Deliver { delivery, replica } => {
                state.broker[delivery].whereabouts = Whereabouts::Out;
                let held = Held { delivery, stale: false, stage: Stage::Waiting(None) };
                state.replicas[replica].held.push(held);
            }
            Action::Look { replica, held, overdue } => self.look(state, replica, held, overdue),
            Action::Append { replica, held } => self.store(state, replica, held),
            Action::Begin { replica, held } => {
                self.begin(state, replica, held);
                self.drop_unwanted(state);
            }
            Action::Land { transaction } => {
                let place = self.land(state, transaction);
                self.tell(state, |stage| {
                    let waited = waits_for(stage, place);
                    waited.then_some(Stage::Answering(Answer::Ack))
                });
            }
            Action::Publish { replica, held } => self.publish(state, replica, held),
            Action::Ack { replica, held } => self.ack(state, replica, held),
            Action::Fault(fault) => self.strike(state, fault),
        }
    }

    fn look(&self, state: &mut State, replica: usize, at: usize, overdue: bool) {
        let held = &state.replicas[replica].held[at];
        let Stage::Waiting(place) = held.stage else { return };
        let chunk = state.piece(held).facts();
        let terms = terms(overdue, state.database.room);
        let (after, next, sound) = judge(self.without, &state.database.session, &chunk, &terms);
        state.note(sound);
        let stage = match next {
            Next::Repeat => Stage::Answering(Answer::Ack),
            Next::Refuse(refusal) => {
                let rule = state.history.refuse(&chunk, &refusal);
                state.note(rule);
                Stage::Answering(Answer::of(refusal))
            }
            Next::StepAside => return,
            Next::Accept(_) => match place {
                Some(place) => Stage::Stored(place, self.believed(after)),
                None if !self.has(Safeguard::SpoolBeforeCommit) => {
                    Stage::Stored(state.place_to_be(replica), self.believed(after))
                }
                None => Stage::Admitted(self.believed(after)),
            },
        };
        state.replicas[replica].held[at].stage = stage;
        self.drop_unwanted(state);
    }

    /// The bytes become durable.
    fn store(&self, state: &mut State, replica: usize, at: usize) {
        let piece = state.piece(&state.replicas[replica].held[at]);
        let Stage::Admitted(looked) = state.replicas[replica].held[at].stage.clone() else { return };
        let place = state.append(replica, Record::Whole(piece));
        state.replicas[replica].held[at].stage = if self.has(Safeguard::CommitBeforeReply) {
            Stage::Stored(place, looked)
        } else {
            Stage::Answering(Answer::Ack)
        };
    }

    /// The reply is published and confirmed.
    fn publish(&self, state: &mut State, replica: usize, at: usize) {
        let held = state.replicas[replica].held[at].clone();
        let Stage::Answering(answer) = held.stage.clone() else { return };
        if !self.has(Safeguard::ReplyBeforeAck) && state.broker[held.delivery].whereabouts == Whereabouts::Out
        {
            state.broker[held.delivery].whereabouts = Whereabouts::Acked;
            return;
        }
        self.answer(state, &held, &answer);
        state.broker[held.delivery].answered = true;
        if self.has(Safeguard::ReplyBeforeAck) {
            state.replicas[replica].held[at].stage = Stage::Replied(answer);
        } else {
            state.replicas[replica].held.remove(at);
        }
    }

    fn answer(&self, state: &mut State, held: &Held, answer: &Answer) {
        let (chunk, stored) = (state.piece(held).facts(), state.readable());
        match answer {
            Answer::Ack => {
                let rule = state.history.accept(&chunk, &stored);
                state.note(rule);
            }
            Answer::Nack { reason, .. } => {
                let lucky = format!("a chunk of a proper file is refused without a fault: {reason}");
                state.note(ensure(!state.undisturbed, &lucky));
            }
        }
    }

    fn ack(&self, state: &mut State, replica: usize, at: usize) {
        let held = state.replicas[replica].held.remove(at);
        state.broker[held.delivery].whereabouts = Whereabouts::Acked;
    }

    /// Whoever `change` has something for is told; what nobody waits for any more is dropped.
    pub fn tell(&self, state: &mut State, change: impl Fn(&Stage) -> Option<Stage>) {
        for held in state.replicas.iter_mut().flat_map(|replica| &mut replica.held) {
            if let Some(stage) = change(&held.stage) {
                held.stage = stage;
            }
        }
        self.drop_unwanted(state);
    }

    /// An answer that belongs to a link which is gone goes nowhere.
    pub fn drop_unwanted(&self, state: &mut State) {
        let answering =
            |held: &Held| held.stale && matches!(held.stage, Stage::Answering(_) | Stage::Replied(_));
        for replica in 0..state.replicas.len() {
            while let Some(at) = state.replicas[replica].held.iter().position(answering) {
                state.replicas[replica].held.remove(at);
                self.confuse(state, replica);
            }
        }
    }

    /// For a mutant that tells deliveries by their tag alone: on the new link another delivery has that tag.
    fn confuse(&self, state: &mut State, replica: usize) {
        if self.has(Safeguard::LinksTellDeliveriesApart) {
            return;
        }
        let current = state.replicas[replica].held.iter().position(|held| !held.stale);
        if let Some(at) = current {
            let mixed_up = state.replicas[replica].held.remove(at);
            state.broker[mixed_up.delivery].whereabouts = Whereabouts::Acked;
        }
    }
}
