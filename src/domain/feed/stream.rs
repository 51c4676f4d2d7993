//! Opening a generation and pushing bytes to it.

use std::time::Duration;

use super::failure::{self, Failure};
use super::{Context, Created, Feed, Numbering, Phase, Step, Trouble, Why, Work, finish, release};
use crate::domain::route::FlowUrl;

/// A row that tells of a finish is watched; a settled one goes on; everything else gets a new generation.
pub(super) fn begin(feed: Feed, context: &Context<'_>) -> (Feed, Step) {
    let known = feed.generation.0 > 0 && (feed.claim.settled || feed.finish_sent.is_some());
    if known {
        let stored = feed.claim.flow_url.clone();
        return feed.then(Phase::Resolving, Step::Resolve { stored });
    }
    gather(feed, context)
}

pub(super) fn resolved(mut feed: Feed, address: Option<FlowUrl>, context: &Context<'_>) -> (Feed, Step) {
    if feed.phase != Phase::Resolving {
        return feed.stay();
    }
    feed.address = address;
    if feed.finish_sent.is_some() {
        return finish::resume(feed, context);
    }
    if feed.address.is_none() {
        return gather(feed, context);
    }
    go_on(feed, context)
}

/// Opens the next generation once there is enough to feed it.
fn gather(feed: Feed, context: &Context<'_>) -> (Feed, Step) {
    if feed.leaving {
        return release(feed);
    }
    if feed.sealed || feed.committed >= context.rules.start_bytes {
        return number(feed, Duration::ZERO, None, None);
    }
    feed.wait(Why::Bytes, context.now.after(context.rules.idle))
}

/// Writes the next generation; the old one's name becomes a stray in the same transaction.
pub(super) fn number(
    mut feed: Feed,
    pause: Duration,
    failing: Option<bool>,
    error: Option<String>,
) -> (Feed, Step) {
    let stray = (feed.generation.0 > 0).then(|| feed.name());
    let stray_base = feed.address.take().map(|url| url.replica().to_owned());
    feed.farthest = feed.farthest.max(feed.fed);
    let numbering = Numbering {
        generation: feed.generation.next(),
        stray,
        stray_base,
        farthest: feed.farthest,
        strikes: feed.strikes,
        failing,
        pause,
        error,
    };
    feed.then(Phase::Numbering { pause }, Step::Number(numbering))
}

pub(super) fn numbered(mut feed: Feed, context: &Context<'_>) -> (Feed, Step) {
    let Phase::Numbering { pause } = feed.phase else {
        return feed.stay();
    };
    feed.generation = feed.generation.next();
    feed.fed = 0;
    feed.finish_sent = None;
    feed.finish_attempts = 0;
    feed.replay_until = if feed.generation.0 > 1 { feed.committed } else { 0 };
    if pause > Duration::ZERO {
        if feed.leaving {
            return release(feed);
        }
        return feed.wait_slowly(Why::Create, context.now, pause);
    }
    // Also when leaving: a generation that is written and has no process is lost to the next owner.
    feed.then(Phase::Creating, Step::Create)
}

/// A create that fails is nobody's strike. Its name is POSTed again only if it surely was not sent.
pub(super) fn created(mut feed: Feed, created: Created, context: &Context<'_>) -> (Feed, Step) {
    if feed.phase != Phase::Creating {
        return feed.stay();
    }
    match created {
        Created::At(url) => feed.then(Phase::Recording(url.clone()), Step::Record(url)),
        Created::NotSent(_) => {
            let pause = failure::backoff(&mut feed, context);
            if feed.leaving { release(feed) } else { feed.wait_slowly(Why::Create, context.now, pause) }
        }
        Created::Failed(reason) => {
            let pause = failure::backoff(&mut feed, context);
            number(feed, pause, None, Some(format!("create: {reason}")))
        }
    }
}

pub(super) fn recorded(mut feed: Feed, context: &Context<'_>) -> (Feed, Step) {
    let Phase::Recording(url) = feed.phase.clone() else {
        return feed.stay();
    };
    feed.address = Some(url);
    go_on(feed, context)
}

/// The generation is open and nothing is in flight: what now?
pub(super) fn go_on(mut feed: Feed, context: &Context<'_>) -> (Feed, Step) {
    if feed.leaving {
        feed.phase = Phase::Waiting(Why::Idle);
        return release(feed);
    }
    let ready = feed.committed - feed.fed;
    if ready <= 0 {
        return drained(feed, context);
    }
    if context.now < feed.next_push {
        let until = feed.next_push;
        return feed.wait(Why::Pace, until);
    }
    if feed.sealed || ready >= context.rules.push_block {
        return push(feed, context);
    }
    let linger = context.rules.linger(feed.claim.session);
    feed.wait(Why::FullerBlock, context.now.after(linger))
}

fn drained(feed: Feed, context: &Context<'_>) -> (Feed, Step) {
    if feed.sealed {
        return feed.then(Phase::Marking, Step::Mark);
    }
    feed.wait(Why::Idle, context.now.after(context.rules.idle))
}

/// One block, as full as can be, and no sooner than the rate allows.
pub(super) fn push(mut feed: Feed, context: &Context<'_>) -> (Feed, Step) {
    let from = feed.fed;
    let to = feed.committed.min(from + context.rules.push_block);
    let cost = (to - from) as u64 * 1000 / context.rules.push_rate.max(1);
    feed.next_push = context.now.after(Duration::from_millis(cost));
    let replay = from < feed.replay_until;
    feed.then(Phase::Pushing { to }, Step::Push { from, to, replay })
}

pub(super) fn pushed(mut feed: Feed, result: Result<(), Trouble>, context: &Context<'_>) -> (Feed, Step) {
    let Phase::Pushing { to } = feed.phase else {
        return feed.stay();
    };
    match result {
        Ok(()) => {
            feed.fed = to;
            go_on(feed, context)
        }
        Err(trouble) => failure::failed(feed, Failure::of(Work::Push, trouble), context),
    }
}

/// More bytes: only a feed that waits for them moves.
pub(super) fn advanced(mut feed: Feed, committed: i64, sealed: bool, context: &Context<'_>) -> (Feed, Step) {
    feed.committed = feed.committed.max(committed);
    feed.sealed |= sealed;
    let Phase::Waiting(why) = &feed.phase else {
        return feed.stay();
    };
    match why {
        Why::Bytes if feed.sealed || feed.committed >= context.rules.start_bytes => gather(feed, context),
        Why::Idle if feed.sealed || feed.committed > feed.fed => go_on(feed, context),
        Why::FullerBlock if feed.sealed || feed.committed - feed.fed >= context.rules.push_block => {
            go_on(feed, context)
        }
        Why::Bytes | Why::Idle | Why::FullerBlock | Why::Pace | Why::Create | Why::Finish | Why::Look(_) => {
            feed.stay()
        }
    }
}
