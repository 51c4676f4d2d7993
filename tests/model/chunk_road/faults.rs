//! What may go wrong on the chunk road, and what others may do to its session meanwhile.

use uploader_v4::domain::recent::Recent;
use uploader_v4::domain::session::{OwnRow, Session};
use uploader_v4::domain::status::{FlowStatus, SessionState, VideoStatus};

use super::store::waits_for;
use super::world::{Answer, Record, Replica, Stage, State, Whereabouts};
use super::{Action, ChunkRoad, Safeguard};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process is gone with its memory; a new one takes its place.
    Crash { replica: usize },
    /// Its link to the broker is gone: what it holds is delivered again, and it works on.
    Cut { replica: usize },
    /// An append fails half-way.
    Tear { replica: usize, held: usize },
    /// A commit lands, and nobody is told.
    LandUnheard { transaction: usize },
    /// A commit is lost, or its transaction is ended by the server.
    Lose { transaction: usize },
    /// An early chunk has waited for as long as it may.
    Overdue { replica: usize, held: usize },
    /// Dependencies were away until a chunk's deadline.
    GiveUp { replica: usize, held: usize },
    /// Its feed completes the session.
    Complete,
    /// Its feed parks it.
    Park,
    /// The janitor ends it, and its rows with it.
    Expire,
    /// The janitor ends it, and its video plays another flow.
    ExpireBlocked,
    /// Others delete its rows.
    Remove,
    /// The janitor notices.
    Reap,
    /// Others block its video.
    Block,
    /// Others hide its flow.
    Hide,
    /// Others write the statuses of an ended upload back as they once read them.
    Revive,
    /// Another uploader takes its next byte.
    Foreign,
    /// Other sessions reserve what was left of the quota.
    Fill,
}

fn live(state: &State) -> bool {
    matches!(state.own_state(), Some(SessionState::Open | SessionState::Sealed))
}

/// The faults of one chunk in a replica.
fn of_held(replica: usize, held: usize, memory: &Replica) -> Vec<Fault> {
    match &memory.held[held].stage {
        Stage::Waiting(_) => {
            let mut faults = vec![Fault::GiveUp { replica, held }];
            let busy = memory.held.iter().any(|held| held.stage.is_busy());
            faults.extend((!busy).then_some(Fault::Overdue { replica, held }));
            faults
        }
        Stage::Admitted(_) => vec![Fault::Tear { replica, held }],
        Stage::Stored(..) | Stage::Committing(_) | Stage::Answering(_) | Stage::Replied(_) => Vec::new(),
    }
}

impl ChunkRoad {
    /// Which faults may come next.
    pub fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        let mut faults = Vec::new();
        if state.own().is_some() && state.database.session.shared.is_none() && live(state) {
            faults.push(Fault::Reap);
        }
        if state.faults_left > 0 {
            for (replica, memory) in state.replicas.iter().enumerate() {
                if !memory.held.is_empty() {
                    faults.extend([Fault::Crash { replica }, Fault::Cut { replica }]);
                }
                faults.extend((0..memory.held.len()).flat_map(|held| of_held(replica, held, memory)));
            }
            for transaction in 0..state.database.open.len() {
                faults.extend([Fault::LandUnheard { transaction }, Fault::Lose { transaction }]);
            }
            if state.database.open.is_empty() {
                faults.extend(others(state));
            }
        }
        actions.extend(faults.into_iter().map(Action::Fault));
    }

    /// Lets one fault happen.
    pub fn strike(&self, state: &mut State, fault: Fault) {
        state.undisturbed = false;
        if !matches!(fault, Fault::Reap) {
            state.faults_left = state.faults_left.saturating_sub(1);
        }
        match fault {
            Fault::Crash { replica } => {
                requeue(state, replica);
                state.replicas[replica] = Replica::default();
            }
            Fault::Cut { replica } => {
                requeue(state, replica);
                state.replicas[replica].held.iter_mut().for_each(|held| held.stale = true);
                self.drop_unwanted(state);
            }
            Fault::Tear { replica, held } => self.tear(state, replica, held),
            Fault::LandUnheard { transaction } => {
                let place = self.land(state, transaction);
                self.unheard(state, place);
            }
            Fault::Lose { transaction } => {
                let place = state.database.open.remove(transaction).place;
                self.unheard(state, place);
            }
            Fault::Overdue { replica, held } => {
                self.carry_out(state, Action::Look { replica, held, overdue: true });
            }
            Fault::GiveUp { replica, held } => {
                let answer = Answer::Nack { retryable: true, reason: "temporarily unavailable".to_owned() };
                state.replicas[replica].held[held].stage = Stage::Answering(answer);
                self.drop_unwanted(state);
            }
            Fault::Foreign => {
                state.database.foreign = true;
                state.database.session.shared.iter_mut().for_each(|rows| rows.uploaded_bytes += 1);
            }
            Fault::Fill => state.database.room = false,
            Fault::Complete
            | Fault::Park
            | Fault::Expire
            | Fault::ExpireBlocked
            | Fault::Remove
            | Fault::Reap
            | Fault::Block
            | Fault::Hide
            | Fault::Revive => self.intervene(state, fault),
        }
    }

    fn tear(&self, state: &mut State, replica: usize, held: usize) {
        let before = state.place_to_be(replica);
        state.append(replica, Record::Torn);
        if self.has(Safeguard::FailedFileIsLeft) {
            state.replicas[replica].file = None;
            state.replicas[replica].held[held].stage = Stage::Waiting(None);
        } else {
            // It writes on where it believes the file to end.
            let piece = state.piece(&state.replicas[replica].held[held]);
            state.append(replica, Record::Whole(piece));
            state.replicas[replica].held[held].stage = Stage::Stored(before, None);
        }
    }

    /// Nothing is known of a commit: the row is to be read again.
    fn unheard(&self, state: &mut State, place: uploader_v4::domain::run::RecordPlace) {
        let reads = self.has(Safeguard::UnknownIsReadAgain);
        self.tell(state, |stage| {
            let then = if reads { Stage::Waiting(Some(place)) } else { Stage::Answering(Answer::Ack) };
            waits_for(stage, place).then_some(then)
        });
    }

    fn intervene(&self, state: &mut State, fault: Fault) {
        let before = state.database.session.clone();
        if matches!(fault, Fault::Expire | Fault::ExpireBlocked) {
            state.history.end();
        }
        let session = &mut state.database.session;
        match fault {
            Fault::Complete => {
                end(session, SessionState::Done);
                session.shared = None;
            }
            Fault::Park => {
                end(session, SessionState::Failed);
                withdraw(session);
            }
            Fault::Expire => {
                self.bury(session);
                session.shared = None;
            }
            Fault::ExpireBlocked => {
                self.bury(session);
                withdraw(session);
            }
            Fault::Remove => session.shared = None,
            Fault::Reap => end(session, SessionState::Expired),
            Fault::Block => {
                session.shared.iter_mut().for_each(|rows| rows.video_status = VideoStatus::Blocked)
            }
            Fault::Hide => session.shared.iter_mut().for_each(|rows| rows.flow_status = FlowStatus::Hidden),
            _ => session.shared.iter_mut().for_each(|rows| {
                rows.video_status = VideoStatus::Uploading;
                rows.flow_status = FlowStatus::Uploading;
            }),
        }
        let after = state.database.session.clone();
        let rule = state.history.change(&before, &after);
        state.note(rule);
    }

    /// EXPIRED, whether or not there was a row.
    fn bury(&self, session: &mut Session) {
        if session.own.is_none() && self.has(Safeguard::EveryUploadGetsATombstone) {
            session.own = Some(OwnRow {
                state: SessionState::Open,
                committed: 0,
                recent: Recent::default(),
                last_error: None,
                owner: None,
            });
        }
        end(session, SessionState::Expired);
        if !self.has(Safeguard::TombstoneKeepsRecent) {
            session.own.iter_mut().for_each(|own| own.recent = Recent::default());
        }
    }
}

/// What others may do now; all of it needs the rows that a transaction locks.
fn others(state: &State) -> Vec<Fault> {
    let mut faults = Vec::new();
    let shared = state.database.session.shared;
    let sealed = state.own_state() == Some(SessionState::Sealed);
    let ended = matches!(state.own_state(), Some(SessionState::Expired | SessionState::Failed))
        || shared.is_some_and(|rows| rows.flow_status == FlowStatus::Hidden);
    if sealed && shared.is_some() {
        faults.push(Fault::Complete);
    }
    if live(state) && shared.is_some() {
        faults.push(Fault::Park);
    }
    if let Some(rows) = shared {
        faults.push(Fault::Remove);
        if !sealed && !ended {
            faults.extend([Fault::Expire, Fault::ExpireBlocked]);
        }
        if ended {
            faults.push(Fault::Revive);
        } else {
            faults.extend([Fault::Block, Fault::Hide]);
        }
        if !ended && rows.uploaded_bytes < rows.total_bytes {
            faults.push(Fault::Foreign);
        }
        if state.database.room {
            faults.push(Fault::Fill);
        }
    }
    faults
}

fn end(session: &mut Session, state: SessionState) {
    session.own.iter_mut().for_each(|own| (own.state, own.owner) = (state, None));
}

fn withdraw(session: &mut Session) {
    session.shared.iter_mut().for_each(|rows| {
        rows.video_status = VideoStatus::Blocked;
        rows.flow_status = FlowStatus::Hidden;
    });
}

/// What a link held and had not acked is delivered again.
fn requeue(state: &mut State, replica: usize) {
    for held in state.replicas[replica].held.iter().filter(|held| !held.stale) {
        let delivery = &mut state.broker[held.delivery];
        if delivery.whereabouts == Whereabouts::Out {
            delivery.whereabouts = Whereabouts::Queued;
        }
    }
}
