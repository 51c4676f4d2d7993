//! Sessions as this replica saw or committed them a moment ago: hints that save a look, never the truth.
//!
//! A hint may only say *store it*, and what is stored is compared with the locked rows, or judged again on them. A
//! refusal, a wait or a repeat is never taken from here. What is stored in vain by a hint is a chunk of a session that
//! somebody ends in the middle of its upload, or one that comes early or again to a replica of several: a hint lives so
//! short that whoever is abandoned has committed nothing for longer.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::ids::{SessionId, Timestamp};
use crate::domain::status::SessionState;
use crate::gateways::upload_store::chunks::Progress;

/// A hint lives no longer than one to two of these: a client that sends one chunk after another is faster.
const LIFE: Duration = Duration::from_secs(10);
/// Sessions in the young half; both together hold at most twice as many, about 1 KB each.
const HALF: usize = 4096;

/// The newest hints: the young half becomes the old one, and that is forgotten.
pub(super) struct Known {
    life: Duration,
    young: HashMap<SessionId, Hint>,
    old: HashMap<SessionId, Hint>,
    turned: Timestamp,
}

struct Hint {
    seen: Progress,
    /// Others stored bytes of it between two chunks that were stored here.
    shared: bool,
}

impl Known {
    /// No hints yet; uploads are abandoned after a silence of `video_ttl`.
    pub(super) fn new(video_ttl: Duration) -> Self {
        let life = LIFE.min(video_ttl / 4);
        Known { life, young: HashMap::new(), old: HashMap::new(), turned: Timestamp::default() }
    }

    /// The session as it was here a moment ago.
    pub(super) fn get(&self, id: SessionId) -> Option<&Progress> {
        self.hint(id).map(|hint| &hint.seen)
    }

    /// The session as it is if others, who share it, have stored its bytes up to `start`: `window` bytes at most.
    pub(super) fn supposed(&self, id: SessionId, start: i64, window: i64) -> Option<Progress> {
        let hint = self.hint(id).filter(|hint| hint.shared)?;
        let missing = start.saturating_sub(committed(&hint.seen));
        (1..=window).contains(&missing).then(|| hint.seen.supposing(start))
    }

    /// A session was committed here.
    pub(super) fn put(&mut self, id: SessionId, seen: Progress, now: Timestamp) {
        let shared = self.hint(id).is_some_and(|hint| hint.shared);
        self.insert(id, Hint { seen, shared }, now);
    }

    /// A look showed a session.
    pub(super) fn saw(&mut self, id: SessionId, seen: Progress, now: Timestamp) {
        let moved = |hint: &Hint| hint.shared || committed(&hint.seen) < committed(&seen);
        let shared = self.hint(id).is_some_and(moved);
        self.insert(id, Hint { seen, shared }, now);
    }

    fn hint(&self, id: SessionId) -> Option<&Hint> {
        self.young.get(&id).or_else(|| self.old.get(&id))
    }

    /// One that takes no more chunks is forgotten.
    fn insert(&mut self, id: SessionId, hint: Hint, now: Timestamp) {
        let open = hint.seen.session.own.as_ref().is_some_and(|own| own.state == SessionState::Open);
        if !open {
            return self.forget(id);
        }
        if self.young.len() >= HALF {
            self.turn(now);
        }
        self.young.insert(id, hint);
    }

    /// A hint was wrong, or may be.
    pub(super) fn forget(&mut self, id: SessionId) {
        self.young.remove(&id);
        self.old.remove(&id);
    }

    /// Time passes; called more often than hints are forgotten.
    pub(super) fn age(&mut self, now: Timestamp) {
        let since = self.turned.until(now);
        if since >= self.life {
            self.turn(now);
        }
        // Nobody was here to age them: a process that was frozen.
        if since >= 2 * self.life {
            self.old.clear();
        }
    }

    fn turn(&mut self, now: Timestamp) {
        self.old = std::mem::take(&mut self.young);
        self.turned = now;
    }
}

fn committed(seen: &Progress) -> i64 {
    seen.session.own.as_ref().map_or(0, |own| own.committed)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::recent::Recent;
    use crate::domain::session::{OwnRow, Session};

    fn session(state: SessionState) -> Progress {
        seen(state, 1)
    }

    fn at(committed: i64) -> Progress {
        seen(SessionState::Open, committed)
    }

    fn seen(state: SessionState, committed: i64) -> Progress {
        let own = OwnRow { state, committed, recent: Recent::default(), last_error: None, owner: None };
        Progress { session: Session { own: Some(own), ..Session::default() }, ..Progress::default() }
    }

    fn id(number: u128) -> SessionId {
        SessionId(Uuid::from_u128(number))
    }

    #[test]
    fn only_open_sessions_are_remembered_and_a_sealed_one_is_forgotten() {
        let mut known = Known::new(LIFE * 4);
        known.put(id(1), session(SessionState::Open), Timestamp(1));
        assert!(known.get(id(1)).is_some());
        known.put(id(1), session(SessionState::Sealed), Timestamp(2));
        assert!(known.get(id(1)).is_none());
    }

    #[test]
    fn only_of_a_session_that_others_were_seen_to_extend_more_of_it_is_supposed() {
        let (mut known, now) = (Known::new(LIFE * 4), Timestamp(1));
        let supposed = |known: &Known, start| known.supposed(id(1), start, 20).map(|seen| committed(&seen));
        known.put(id(1), at(10), now);
        known.saw(id(1), at(10), now);
        assert_eq!(supposed(&known, 30), None, "nobody else stored any");
        known.saw(id(1), at(20), now);
        known.put(id(1), at(30), now);
        assert_eq!(supposed(&known, 40), Some(40));
        assert_eq!(supposed(&known, 20), None, "it is further than that");
        assert_eq!(supposed(&known, 51), None, "beyond the window");
        known.forget(id(1));
        known.saw(id(1), at(40), now);
        assert_eq!(supposed(&known, 50), None, "it was wrong once");
    }

    #[test]
    fn the_newest_are_remembered_and_memory_is_bounded() {
        let mut known = Known::new(LIFE * 4);
        let many = 5 * HALF as u128;
        (0..many).for_each(|number| known.put(id(number), session(SessionState::Open), Timestamp(1)));
        assert!(known.young.len() + known.old.len() <= 2 * HALF);
        assert!((many - HALF as u128..many).all(|number| known.get(id(number)).is_some()));
        assert!(known.get(id(0)).is_none());
    }

    #[test]
    fn a_hint_is_gone_before_its_upload_is_abandoned() {
        let ttl = Duration::from_secs(3);
        let mut known = Known::new(ttl);
        known.age(Timestamp(1).after(ttl));
        known.put(id(1), session(SessionState::Open), Timestamp(1).after(ttl));
        [1.25, 1.5].into_iter().for_each(|lives| known.age(Timestamp(1).after(ttl.mul_f64(lives))));
        assert!(known.get(id(1)).is_none());
    }

    #[test]
    fn what_is_not_committed_again_is_soon_forgotten() {
        let mut known = Known::new(LIFE * 4);
        let at = |lives: u32| Timestamp(1).after(LIFE * lives);
        known.age(at(1));
        known.put(id(1), session(SessionState::Open), at(1));
        known.age(at(2));
        assert!(known.get(id(1)).is_some());
        known.age(at(3));
        assert!(known.get(id(1)).is_none());
    }
}
