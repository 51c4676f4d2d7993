//! Sessions that are left alone for a while: the database refused what their feeds wrote or read.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::ids::{SessionId, Timestamp};
use crate::domain::retry::Backoff;

/// Sessions remembered at most; the one that has rested longest makes room.
const MOST: usize = 4096;
/// The longest rest, in first ones.
const LONGEST: u32 = 10;

/// Who rests, and until when.
pub(super) struct Resting {
    backoff: Backoff,
    rests: HashMap<SessionId, Rest>,
}

struct Rest {
    until: Timestamp,
    times: u32,
}

impl Resting {
    /// Nobody; the first rest lasts for `first`, each further one twice as long, up to ten times.
    pub(super) fn new(first: Duration) -> Self {
        let backoff = Backoff { min: first, max: first.saturating_mul(LONGEST) };
        Resting { backoff, rests: HashMap::new() }
    }

    /// Refused once more.
    pub(super) fn add(&mut self, session: SessionId, now: Timestamp, chance: f64) {
        self.forget(now);
        let times = self.rests.get(&session).map_or(0, |rest| rest.times);
        let until = now.after(self.backoff.wait(times, chance));
        self.rests.insert(session, Rest { until, times: times.saturating_add(1) });
    }

    /// Those that rest now.
    pub(super) fn sessions(&self, now: Timestamp) -> impl Iterator<Item = SessionId> {
        self.rests.iter().filter(move |(_, rest)| now < rest.until).map(|(session, _)| *session)
    }

    /// One that was not refused again for the longest rest begins anew.
    fn forget(&mut self, now: Timestamp) {
        let longest = self.backoff.max;
        self.rests.retain(|_, rest| now < rest.until.after(longest));
        if self.rests.len() >= MOST {
            let first = self.rests.iter().min_by_key(|(_, rest)| rest.until).map(|(session, _)| *session);
            first.map(|session| self.rests.remove(&session));
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const FIRST: Duration = Duration::from_secs(30);

    fn session(number: u128) -> SessionId {
        SessionId(Uuid::from_u128(number))
    }

    fn rests(resting: &Resting, now: Timestamp) -> bool {
        resting.sessions(now).any(|known| known == session(1))
    }

    #[test]
    fn rests_double_to_their_bound_and_begin_anew_after_a_quiet_time() {
        let mut resting = Resting::new(FIRST);
        let mut now = Timestamp(0);
        for span in [30, 60, 120, 240, 300, 300] {
            resting.add(session(1), now, 1.0);
            let end = now.after(Duration::from_secs(span));
            assert!(rests(&resting, Timestamp(end.0 - 1)) && !rests(&resting, end), "{span}");
            now = end;
        }
        now = now.after(FIRST * LONGEST);
        resting.add(session(1), now, 1.0);
        assert!(!rests(&resting, now.after(FIRST)));
    }

    #[test]
    fn memory_is_bounded_and_the_one_that_rested_longest_makes_room() {
        let mut resting = Resting::new(FIRST);
        for number in 1..=MOST as u128 + 10 {
            resting.add(session(number), Timestamp(number as u64), 1.0);
        }
        let now = Timestamp(MOST as u64 + 10);
        assert_eq!(resting.sessions(now).count(), MOST);
        assert!(!rests(&resting, now));
    }
}
