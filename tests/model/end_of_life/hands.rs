//! Who takes a step at the end of a video: feeds, chunks, the janitor; faults, operators and others.

use uploader_v4::domain::status::{FlowStatus, SessionState, VideoStatus};

use super::world::{At, FeedMemory, Open, Part, State, Write, only};
use super::{Action, EndOfLife, Safeguard};

/// Feeds of one session that are awake at once: the owner and a former one or two.
const FEEDS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
    /// A feed dies with its process.
    Crash { feed: usize },
    /// A commit lands, and nobody is told.
    LandUnheard { transaction: usize },
    /// A commit is lost.
    Lose { transaction: usize },
    /// An operator tries a parked session again.
    Retry { part: usize },
    /// An operator ends one, by force.
    Expire { part: usize },
    /// The video is deleted, by others.
    Remove,
    /// Others write the statuses of ended uploads back as they once read them.
    Revive,
}

impl EndOfLife {
    /// What feeds, chunks and commits may do next.
    pub fn steps(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend((0..state.open.len()).map(|transaction| Action::Land { transaction }));
        for (feed, memory) in state.feeds.iter().enumerate() {
            actions.extend(self.of_feed(state, feed, memory));
        }
        for part in 0..2 {
            if state.is_free(true, only(part)) {
                actions.extend((0..state.parts[part].late.len()).map(|late| Action::Chunk { part, late }));
            }
            if state.is_free(false, only(part)) {
                actions.extend(claims(state, part));
            }
        }
    }

    fn of_feed(&self, state: &State, feed: usize, memory: &FeedMemory) -> Option<Action> {
        let blind = !self.has(Safeguard::LockedBeforeRead) && !memory.damaged && memory.seen.is_none();
        let free = match memory.at {
            At::Ending if blind => return Some(Action::Peek { feed }),
            At::Ending => state.is_free(self.has(Safeguard::VideoIsLocked), only(memory.part)),
            At::Unsure => state.is_free(false, only(memory.part)),
            At::CleaningUp => true,
            At::Written => false,
        };
        free.then_some(Action::Feed { feed })
    }

    /// What the janitor may do next.
    pub fn janitor(&self, state: &State, actions: &mut Vec<Action>) {
        if state.is_free(true, [true, true]) {
            actions.extend(self.write_expiry(state).map(|_| Action::Expire));
            actions.extend(self.may_delete(state).then_some(Action::DeleteVideo));
        }
        for (number, part) in state.parts.iter().enumerate() {
            let free = state.is_free(false, only(number));
            let orphaned =
                part.upload.is_none() && (part.is_live() || part.state() == Some(SessionState::Failed));
            actions.extend((free && orphaned).then_some(Action::Reap { part: number }));
            let parked = part.state() == Some(SessionState::Failed) && !part.given_up && !part.removing;
            actions.extend((free && parked).then_some(Action::GiveUp { part: number }));
            let over = matches!(part.state(), Some(SessionState::Done | SessionState::Expired));
            let goes = part.bytes && (part.removing || over);
            actions.extend(goes.then_some(Action::RemoveBytes { part: number }));
        }
    }

    /// Which faults and interventions may come next.
    pub fn hands(&self, state: &State, actions: &mut Vec<Action>) {
        if state.left == 0 {
            return;
        }
        let mut hands: Vec<Hand> = (0..state.feeds.len()).map(|feed| Hand::Crash { feed }).collect();
        for transaction in 0..state.open.len() {
            hands.extend([Hand::LandUnheard { transaction }, Hand::Lose { transaction }]);
        }
        for part in (0..2).filter(|part| state.is_free(true, only(*part))) {
            hands.extend(self.write_retry(state, part).map(|_| Hand::Retry { part }));
            hands.extend(self.write_by_hand(state, part).map(|_| Hand::Expire { part }));
        }
        if state.is_free(true, [true, true]) && state.video.is_some() {
            hands.push(Hand::Remove);
            let hidden = state.flows().contains(&Some(FlowStatus::Hidden));
            hands.extend(hidden.then_some(Hand::Revive));
        }
        actions.extend(hands.into_iter().map(Action::Hand));
    }

    /// Carries one action out.
    pub fn carry_out(&self, state: &mut State, action: Action) {
        match action {
            Action::Claim { part, replica, damaged } => self.claim(state, part, replica, damaged),
            Action::Peek { feed } => state.feeds[feed].seen = Some(state.flows()),
            Action::Feed { feed } => self.feed(state, feed),
            Action::Chunk { part, late } => self.judge_chunk(state, part, late),
            Action::Expire => {
                let write = self.write_expiry(state);
                open(state, write, [true, true]);
            }
            Action::DeleteVideo => open(state, Some(Write::DeleteVideo), [true, true]),
            Action::Reap { part } => self.reap(state, part),
            Action::GiveUp { part } => {
                let row = &mut state.parts[part];
                row.removing = true;
                row.given_up = self.has(Safeguard::MarkBeforeBytesGo);
            }
            Action::RemoveBytes { part } => remove_bytes(&mut state.parts[part]),
            Action::Land { transaction } => self.landed(state, transaction, At::CleaningUp),
            Action::Hand(hand) => self.hand(state, hand),
        }
    }

    fn hand(&self, state: &mut State, hand: Hand) {
        state.left = state.left.saturating_sub(1);
        match hand {
            Hand::Crash { feed } => {
                state.feeds.remove(feed);
            }
            Hand::LandUnheard { transaction } => self.landed(state, transaction, self.unheard()),
            Hand::Lose { transaction } => {
                let lost = state.open.remove(transaction);
                tell(state, &lost.write, self.unheard());
            }
            Hand::Retry { part } => {
                let write = self.write_retry(state, part);
                open(state, write, only(part));
            }
            Hand::Expire { part } => {
                let write = self.write_by_hand(state, part);
                open(state, write, only(part));
            }
            Hand::Remove => {
                state.video = None;
                state.meddled = true;
                state.parts.iter_mut().for_each(|part| (part.flow, part.upload) = (None, None));
            }
            Hand::Revive => {
                state.meddled = true;
                state.video = Some(VideoStatus::Uploading);
                for part in state.parts.iter_mut().filter(|part| part.flow == Some(FlowStatus::Hidden)) {
                    part.flow = Some(FlowStatus::Uploading);
                }
            }
        }
    }

    fn unheard(&self) -> At {
        if self.has(Safeguard::UnknownIsReadAgain) { At::Unsure } else { At::CleaningUp }
    }

    fn landed(&self, state: &mut State, transaction: usize, then: At) {
        let Open { write, .. } = state.open.remove(transaction);
        self.land(state, &write);
        tell(state, &write, then);
    }

    fn reap(&self, state: &mut State, part: usize) {
        let before = state.session(part);
        self.expire_or_bury(&mut state.parts[part], true, false);
        let after = state.session(part);
        let rule = state.parts[part].history.change(&before, &after);
        state.note(rule);
    }
}

/// The feed that a write belongs to, if it lives, goes on.
fn tell(state: &mut State, write: &Write, then: At) {
    state.feeds.iter_mut().filter(|feed| feed.wrote(write)).for_each(|feed| feed.at = then);
}

fn open(state: &mut State, write: Option<Write>, locks: [bool; 2]) {
    state.open.extend(write.map(|write| Open { locks_video: true, locks, write }));
}

fn remove_bytes(part: &mut Part) {
    part.bytes = false;
    part.removing = false;
    part.given_up |= part.state() == Some(SessionState::Failed);
}

/// Who may claim a session: whoever comes first if nobody feeds it; another replica, if its owner's lease has lapsed.
fn claims(state: &State, part: usize) -> Vec<Action> {
    let row = &state.parts[part];
    let crowd = state.feeds.iter().filter(|feed| feed.part == part).count() >= FEEDS;
    if !row.is_live() || crowd {
        return Vec::new();
    }
    let owner = row.own.as_ref().and_then(|own| own.owner);
    let awake = |feed: &FeedMemory| feed.part == part && Some(feed.owner) == owner && feed.epoch == row.epoch;
    let lapses = state.feeds.iter().find(|feed| awake(feed));
    let replicas: Vec<u8> = match lapses {
        None if state.feeds.is_empty() => vec![0],
        None => vec![0, 1],
        Some(_) if state.left == 0 => Vec::new(),
        Some(feed) => vec![1 - feed.owner.0.as_u128() as u8],
    };
    let whole = row.state() == Some(SessionState::Sealed);
    let ways = if whole { &[false, true][..] } else { &[true][..] };
    let claim = |replica: &u8, damaged: &bool| Action::Claim { part, replica: *replica, damaged: *damaged };
    replicas.iter().flat_map(|replica| ways.iter().map(move |damaged| claim(replica, damaged))).collect()
}
