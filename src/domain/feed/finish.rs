//! Finishing: once asked for, a finish is never asked for twice and never thrown away while it may be at work.

use std::time::Duration;

use super::failure::{self, Failure};
use super::{Context, Deleted, Feed, Phase, Sight, Since, Step, Trouble, Why, Work, release, stream};
use crate::domain::ids::Timestamp;

/// How often a finish that surely was not sent is sent again.
const FINISH_ATTEMPTS: u32 = 6;

/// Why holder is being looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Watch {
    reason: Reason,
    /// What the last look saw, if it was whole.
    seen: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reason {
    /// fflow said that it is done.
    Done,
    /// The finish may be at work; after `until` the process is deleted. `blame` if fflow surely had its time.
    Unknown { until: Timestamp, blame: bool },
    /// The process was not there to delete; it may have shipped a moment ago.
    Deleted { until: Timestamp },
}

impl Watch {
    fn new(reason: Reason) -> Self {
        Watch { reason, seen: None }
    }
}

pub(super) fn marked(mut feed: Feed, context: &Context<'_>) -> (Feed, Step) {
    if feed.phase != Phase::Marking {
        return feed.stay();
    }
    feed.finish_sent = Some(Since { at: context.now, ago: Duration::ZERO });
    if feed.leaving {
        // Marked but surely not sent: a settled release takes the mark back.
        return release(feed);
    }
    feed.then(Phase::Finishing, Step::Finish)
}

pub(super) fn finished(mut feed: Feed, result: Result<(), Trouble>, context: &Context<'_>) -> (Feed, Step) {
    if feed.phase != Phase::Finishing {
        return feed.stay();
    }
    match result {
        Ok(()) if context.rules.holder => look(feed, Watch::new(Reason::Done), context),
        Ok(()) => feed.then(Phase::Completing, Step::Complete),
        Err(Trouble::NotSent(_)) if feed.finish_attempts < FINISH_ATTEMPTS => {
            feed.finish_attempts += 1;
            let pause = failure::backoff(&mut feed, context);
            feed.wait_slowly(Why::Finish, context.now, pause)
        }
        Err(Trouble::Unknown(_)) | Err(Trouble::Status(408 | 502 | 503 | 504, _)) => {
            let until = context.now.after(deadline(feed.claim.total, context));
            look(feed, Watch::new(Reason::Unknown { until, blame: true }), context)
        }
        Err(trouble @ (Trouble::NotSent(_) | Trouble::Status(..))) => {
            failure::failed(feed, Failure::of(Work::Finish, trouble), context)
        }
    }
}

fn deadline(total: i64, context: &Context<'_>) -> Duration {
    let by_size = total.max(0) as u64 / context.rules.finish_rate.max(1);
    context.rules.finish_base + Duration::from_secs(by_size)
}

/// A claimed row tells of a finish: watch it. Only who sends a finish knows that it was sent; its former owner may have
/// died, panicked or left before that, so nobody is to blame if nothing comes of it.
pub(super) fn resume(mut feed: Feed, context: &Context<'_>) -> (Feed, Step) {
    let sent_for = feed.finish_sent.map_or(Duration::ZERO, |since| since.lasts(context.now));
    feed.fed = feed.claim.total;
    let left = if feed.claim.owner_died {
        context.rules.finish_grace
    } else {
        deadline(feed.claim.total, context).saturating_sub(sent_for)
    };
    let reason = Reason::Unknown { until: context.now.after(left), blame: false };
    look(feed, Watch::new(reason), context)
}

/// Looks once more, or ends the watch when its time is over. Without a holder address there is only the time.
pub(super) fn look(feed: Feed, watch: Watch, context: &Context<'_>) -> (Feed, Step) {
    if feed.leaving {
        return release(feed);
    }
    match watch.reason {
        Reason::Done => feed.then(Phase::Looking(watch), Step::Look),
        Reason::Unknown { until, .. } | Reason::Deleted { until } if !context.rules.holder => {
            if context.now < until {
                let span = context.now.until(until);
                return feed.wait_slowly(Why::Look(watch), context.now, span);
            }
            over(feed, watch, context)
        }
        Reason::Unknown { .. } | Reason::Deleted { .. } => feed.then(Phase::Looking(watch), Step::Look),
    }
}

pub(super) fn looked(feed: Feed, sight: Sight, context: &Context<'_>) -> (Feed, Step) {
    let Phase::Looking(watch) = feed.phase.clone() else {
        return feed.stay();
    };
    match (sight, watch.reason) {
        (Sight::Whole(print), _) if watch.seen == Some(print) => feed.then(Phase::Completing, Step::Complete),
        (Sight::Whole(print), _) => look_again(feed, Watch { seen: Some(print), ..watch }, context),
        (Sight::NotWhole(reason), Reason::Done) => {
            let failure = Failure::finish(format!("finish: fflow reported success, but {reason}"));
            failure::failed(feed, failure, context)
        }
        (Sight::Unreachable(_), Reason::Done) => look_again(feed, Watch { seen: None, ..watch }, context),
        (
            Sight::NotWhole(_) | Sight::Unreachable(_),
            Reason::Unknown { until, .. } | Reason::Deleted { until },
        ) => {
            let watch = Watch { seen: None, ..watch };
            if context.now < until { look_again(feed, watch, context) } else { over(feed, watch, context) }
        }
    }
}

fn look_again(feed: Feed, watch: Watch, context: &Context<'_>) -> (Feed, Step) {
    if feed.leaving {
        return release(feed);
    }
    feed.wait_slowly(Why::Look(watch), context.now, context.rules.holder_poll)
}

/// The watch is over and nothing whole was seen.
fn over(feed: Feed, watch: Watch, context: &Context<'_>) -> (Feed, Step) {
    match watch.reason {
        Reason::Unknown { blame, .. } if feed.address.is_some() => {
            feed.then(Phase::Deleting { blame }, Step::Delete)
        }
        Reason::Unknown { .. } | Reason::Done => after_delete(feed, context),
        Reason::Deleted { .. } => {
            let reason = "finish: the process is gone and its files never came".to_owned();
            stream::number(feed, Duration::ZERO, None, Some(reason))
        }
    }
}

pub(super) fn deleted(mut feed: Feed, deleted: Deleted, context: &Context<'_>) -> (Feed, Step) {
    let Phase::Deleting { blame } = feed.phase else {
        return feed.stay();
    };
    match deleted {
        Deleted::Gone if blame => {
            let reason = "finish: not done within its deadline, deleted".to_owned();
            failure::failed(feed, Failure::finish(reason), context)
        }
        Deleted::Gone => {
            // Not at once: a feed that leaves begins nothing after it.
            let pause = failure::backoff(&mut feed, context);
            stream::number(feed, pause, None, None)
        }
        Deleted::Unknown if !context.rules.holder => feed.then(Phase::Completing, Step::Complete),
        Deleted::Unknown | Deleted::NoAnswer => after_delete(feed, context),
    }
}

/// It may have shipped a moment ago, or be out of reach and ship later: two must not ship to one path at a time.
fn after_delete(feed: Feed, context: &Context<'_>) -> (Feed, Step) {
    let until = context.now.after(context.rules.finish_grace);
    look(feed, Watch::new(Reason::Deleted { until }), context)
}
