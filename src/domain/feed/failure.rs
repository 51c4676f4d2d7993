//! What a failure of fflow means: a strike, an outage, or the end of the session.

use std::time::Duration;

use super::{Context, Evidence, Feed, Phase, Step, Trouble, Work, stream};

/// How often a generation may vanish between two requests, without progress, before that counts as its own doing.
const VANISHED_TOO_OFTEN: u32 = 3;

/// A generation that fflow failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Failure {
    work: Work,
    reason: String,
    /// It was gone before the request came: whoever killed it, this session had nothing in flight.
    vanished: bool,
}

impl Failure {
    pub(super) fn of(work: Work, trouble: Trouble) -> Self {
        let verb = match work {
            Work::Push => "push",
            Work::Finish => "finish",
        };
        let (reason, vanished) = match trouble {
            Trouble::NotSent(why) => (format!("{verb}: fflow not reached: {why}"), true),
            Trouble::Status(404, why) => {
                (format!("{verb}: fflow no longer knows the flow (404): {why}"), true)
            }
            Trouble::Status(status, why) => (format!("{verb}: fflow answered {status}: {why}"), false),
            Trouble::Unknown(why) => (format!("{verb}: no answer from fflow: {why}"), false),
        };
        Failure { work, reason, vanished }
    }

    pub(super) fn finish(reason: String) -> Self {
        Failure { work: Work::Finish, reason, vanished: false }
    }
}

/// Progress clears everything; otherwise the evidence decides, unless nobody can be blamed.
pub(super) fn failed(mut feed: Feed, failure: Failure, context: &Context<'_>) -> (Feed, Step) {
    let farther = failure.work == Work::Push && feed.fed > feed.farthest;
    if farther {
        feed.strikes = 0;
        feed.attempts = 0;
        feed.failing = None;
        let pause = backoff(&mut feed, context);
        return stream::number(feed, pause, Some(false), Some(failure.reason));
    }
    let excused = failure.vanished && feed.attempts < VANISHED_TOO_OFTEN;
    if excused {
        return try_again(feed, failure.reason, context);
    }
    let work = failure.work;
    feed.then(Phase::Weighing(failure), Step::Weigh(work))
}

/// A strike needs evidence that the farm works; a lone session has none, and gets time instead.
pub(super) fn weighed(mut feed: Feed, evidence: Evidence, context: &Context<'_>) -> (Feed, Step) {
    let Phase::Weighing(failure) = feed.phase.clone() else {
        return feed.stay();
    };
    if evidence.worked {
        return strike(feed, failure.reason, context);
    }
    let spans = feed.failing.map_or(Duration::ZERO, |since| since.lasts(context.now));
    if evidence.lone && spans >= context.rules.strike_span {
        let reason = format!("failed for {} s without progress; last: {}", spans.as_secs(), failure.reason);
        return feed.then(Phase::Parking, Step::Park(reason));
    }
    feed.phase = Phase::Starting;
    try_again(feed, failure.reason, context)
}

fn strike(mut feed: Feed, reason: String, context: &Context<'_>) -> (Feed, Step) {
    feed.strikes += 1;
    feed.attempts += 1;
    if feed.strikes >= context.rules.max_strikes {
        let reason = format!("fflow failed it {} times while others succeeded; last: {reason}", feed.strikes);
        return feed.then(Phase::Parking, Step::Park(reason));
    }
    note_failing(&mut feed, context);
    let waits = &context.rules.strike_waits;
    let nth = (feed.strikes as usize - 1).min(waits.len().saturating_sub(1));
    let pause = waits.get(nth).copied().unwrap_or(context.rules.backoff.max);
    stream::number(feed, pause, Some(true), Some(reason))
}

/// Nobody's strike: the next generation after a backoff.
fn try_again(mut feed: Feed, reason: String, context: &Context<'_>) -> (Feed, Step) {
    note_failing(&mut feed, context);
    let pause = backoff(&mut feed, context);
    stream::number(feed, pause, Some(true), Some(reason))
}

fn note_failing(feed: &mut Feed, context: &Context<'_>) {
    feed.failing.get_or_insert(super::Since { at: context.now, ago: Duration::ZERO });
}

/// The next wait after a failure.
pub(super) fn backoff(feed: &mut Feed, context: &Context<'_>) -> Duration {
    let wait = context.rules.backoff.wait(feed.attempts, context.chance);
    feed.attempts = feed.attempts.saturating_add(1);
    wait
}
