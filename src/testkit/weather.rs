//! What calls on doubles meet, as whoever made their world decides: waits, faults, panics.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

/// How one call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lot {
    /// As it should.
    #[default]
    Fair,
    /// Nothing was done, and the caller hears of a lost connection.
    Before,
    /// It was done, and the caller hears of a lost connection.
    After,
    /// The caller hears of a lost connection, and it is done this much later, whatever became of the caller. Where a
    /// double cannot do that it is [`Lot::Before`].
    Late(Duration),
    /// The neighbour understood and refuses: this status, for those that speak HTTP.
    Refused(u16),
    /// It was surely not sent.
    NotSent,
    /// A bug.
    Panic,
}

/// What one call meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meeting {
    /// On its way there.
    pub before: Duration,
    /// What becomes of it.
    pub lot: Lot,
    /// On its way back.
    pub after: Duration,
}

/// Decides what calls meet.
pub trait Weather: Send + Sync {
    /// A call such as `store.commit` begins; `of` is the session or process it is about, if it is about one.
    fn meet(&self, call: &'static str, of: &str) -> Meeting;
}

/// Always fair, unless somebody makes the weather.
#[derive(Clone, Default)]
pub struct Sky(Option<Arc<dyn Weather>>);

impl std::fmt::Debug for Sky {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sky")
    }
}

impl Sky {
    /// Under this weather.
    pub fn of(weather: Arc<dyn Weather>) -> Self {
        Sky(Some(weather))
    }

    /// What a call meets; a panic happens here.
    pub(super) fn meet(&self, call: &'static str, of: &str) -> Meeting {
        let meeting = self.0.as_ref().map_or_else(Meeting::default, |weather| weather.meet(call, of));
        assert!(meeting.lot != Lot::Panic, "{call} panics, as the weather wants it");
        meeting
    }

    /// The call's way there.
    pub(super) async fn go(&self, call: &'static str, of: &str) -> Meeting {
        let meeting = self.meet(call, of);
        pass(meeting.before).await;
        meeting
    }
}

/// Time passes, if any does.
pub(super) async fn pass(span: Duration) {
    if !span.is_zero() {
        tokio::time::sleep(span).await;
    }
}

/// Something that may change: those who wait look again in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Changes(Notify);

impl Changes {
    /// It changed.
    pub(super) fn tell(&self) {
        self.0.notify_waiters();
    }

    /// Waits until `look` finds what it looks for.
    pub(super) async fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        loop {
            let changed = self.0.notified();
            if let Some(found) = look() {
                return found;
            }
            changed.await;
        }
    }
}
