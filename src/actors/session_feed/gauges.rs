//! What the metrics are told of one feed; when the feed ends, in whatever way, its share of the gauges goes with it.

use std::collections::VecDeque;

use crate::clock;
use crate::domain::feed::{Feed, Numbering};
use crate::domain::ids::Timestamp;
use crate::metrics;

/// Stored and not yet fed marks that are timed; beyond it the newest ones share a mark.
const MARKS: usize = 256;

/// One feed's share of the gauges.
#[derive(Default)]
pub(super) struct Gauges {
    state: Option<&'static str>,
    backlog: i64,
    /// Offsets up to which bytes were stored, and when this feed learned of it.
    stored: VecDeque<(i64, Timestamp)>,
    known: i64,
}

impl Gauges {
    /// Compares what was told last with how the feed stands now.
    pub(super) fn tell(&mut self, feed: &Feed) {
        let state = (!feed.ended()).then(|| feed.activity().word());
        metrics::feed_moved(self.state, state);
        self.state = state;
        let backlog = if feed.ended() { 0 } else { feed.committed() - feed.fed() };
        metrics::feed_backlog(backlog - self.backlog);
        self.backlog = backlog;
        self.time(feed.committed(), feed.fed());
    }

    fn time(&mut self, committed: i64, fed: i64) {
        let now = clock::now();
        if committed > self.known {
            self.known = committed;
            let full = self.stored.len() >= MARKS;
            match self.stored.back_mut().filter(|_| full) {
                Some(newest) => newest.0 = committed,
                None => self.stored.push_back((committed, now)),
            }
        }
        while let Some((_, since)) = self.stored.pop_front_if(|(offset, _)| *offset <= fed) {
            metrics::fed(since.until(now));
        }
    }
}

/// Why a generation is begun, as it is counted.
pub(super) fn cause(numbering: &Numbering) -> &'static str {
    match (&numbering.stray, &numbering.error) {
        (None, _) => "first",
        (Some(_), None) => "unsettled",
        (Some(_), Some(_)) => "failed",
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        metrics::feed_moved(self.state, None);
        metrics::feed_backlog(-self.backlog);
    }
}
