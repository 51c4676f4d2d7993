//! How a session's bytes reach ffmpeg: the state of one feed, its events, and the one step that follows each.
//!
//! A feed has one thing going at a time: it has *asked* for a step and hears its answer, or it *waits*. Storing comes
//! before speaking: a generation is written before its process is created, a finish before it is asked for. When the
//! outcome of anything but a finish is unknown, the generation is thrown away and the next one replays from byte 0.

mod activity;
mod event;
mod failure;
mod finish;
mod rules;
mod step;
mod stream;

use std::time::Duration;

pub use activity::Activity;
pub use event::{Created, Deleted, Event, Evidence, Sight, Trouble, Work};
pub use rules::{Claim, Rules};
pub use step::{Numbering, Step};

use super::ids::{FlowName, Generation, Timestamp};
use super::route::FlowUrl;

/// A moment that began before this process knew of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Since {
    at: Timestamp,
    ago: Duration,
}

impl Since {
    fn lasts(self, now: Timestamp) -> Duration {
        self.ago + self.at.until(now)
    }
}

/// What was asked for, or waited for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    Starting,
    Resolving,
    Numbering { pause: Duration },
    Creating,
    Recording(FlowUrl),
    Pushing { to: i64 },
    Marking,
    Finishing,
    Looking(finish::Watch),
    Deleting { blame: bool },
    Weighing(failure::Failure),
    Completing,
    Parking,
    Cleaning,
    Releasing,
    Waiting(Why),
    Ended,
}

/// What a wait is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Why {
    Bytes,
    Idle,
    FullerBlock,
    Pace,
    Create,
    Finish,
    Look(finish::Watch),
}

/// One feed. Its fields change only here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Feed {
    claim: Claim,
    address: Option<FlowUrl>,
    committed: i64,
    sealed: bool,
    generation: Generation,
    fed: i64,
    farthest: i64,
    strikes: i32,
    /// Failures in a row without progress.
    attempts: u32,
    finish_attempts: u32,
    finish_sent: Option<Since>,
    failing: Option<Since>,
    /// Bytes below it were fed to another generation before.
    replay_until: i64,
    next_push: Timestamp,
    leaving: bool,
    phase: Phase,
}

impl Feed {
    /// The feed of a claim, before its first event.
    pub fn new(claim: Claim, now: Timestamp) -> Self {
        let since = |ago: Option<Duration>| ago.map(|ago| Since { at: now, ago });
        Feed {
            address: None,
            committed: claim.committed,
            sealed: claim.sealed,
            generation: claim.generation,
            fed: if claim.settled { claim.fed } else { 0 },
            farthest: claim.farthest,
            strikes: claim.strikes,
            attempts: 0,
            finish_attempts: 0,
            finish_sent: since(claim.finish_sent),
            failing: since(claim.failing),
            replay_until: 0,
            next_push: now,
            leaving: false,
            phase: Phase::Starting,
            claim,
        }
    }

    /// What was claimed.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// The current generation.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Its name.
    pub fn name(&self) -> FlowName {
        self.generation.name(self.claim.session)
    }

    /// Its address, once known.
    pub fn address(&self) -> Option<&FlowUrl> {
        self.address.as_ref()
    }

    /// Bytes it got.
    pub fn fed(&self) -> i64 {
        self.fed
    }

    /// Where the files go on holder.
    pub fn saving_path(&self) -> String {
        format!("/{}/{}", self.claim.video, self.claim.flow)
    }

    /// Bytes stored, as far as it knows.
    pub fn committed(&self) -> i64 {
        self.committed
    }

    /// Whether it is over.
    pub fn ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    fn then(mut self, phase: Phase, step: Step) -> (Feed, Step) {
        self.phase = phase;
        (self, step)
    }

    fn wait(self, why: Why, until: Timestamp) -> (Feed, Step) {
        self.then(Phase::Waiting(why), Step::Wait { until, slow: false })
    }

    /// Waits of more than 5 s hold no slot.
    fn wait_slowly(self, why: Why, now: Timestamp, span: Duration) -> (Feed, Step) {
        let slow = span > Duration::from_secs(5) || matches!(why, Why::Look(_));
        self.then(Phase::Waiting(why), Step::Wait { until: now.after(span), slow })
    }

    fn stay(self) -> (Feed, Step) {
        (self, Step::Stay)
    }
}

/// One state, one event, one new state, one next step. `chance` in 0..1 spreads waits.
pub fn decide(feed: Feed, event: Event, now: Timestamp, chance: f64, rules: &Rules) -> (Feed, Step) {
    let context = Context { now, chance, rules };
    match event {
        Event::Begin => stream::begin(feed, &context),
        Event::Advanced { committed, sealed } => stream::advanced(feed, committed, sealed, &context),
        Event::Time => time(feed, &context),
        Event::Leave { now } => leave(feed, now),
        Event::Fenced => fenced(feed),
        Event::Resolved(address) => stream::resolved(feed, address, &context),
        Event::Numbered => stream::numbered(feed, &context),
        Event::Created(created) => stream::created(feed, created, &context),
        Event::Recorded => stream::recorded(feed, &context),
        Event::Pushed(result) => stream::pushed(feed, result, &context),
        Event::Marked => finish::marked(feed, &context),
        Event::Finished(result) => finish::finished(feed, result, &context),
        Event::Looked(sight) => finish::looked(feed, sight, &context),
        Event::Deleted(deleted) => finish::deleted(feed, deleted, &context),
        Event::Weighed(evidence) => failure::weighed(feed, evidence, &context),
        Event::Damaged(reason) => feed.then(Phase::Parking, Step::Park(reason)),
        Event::Refused(_) => refused(feed),
        Event::Completed => feed.then(Phase::Cleaning, Step::CleanUp { keep_bytes: false }),
        Event::Parked => feed.then(Phase::Cleaning, Step::CleanUp { keep_bytes: true }),
        Event::Cleaned | Event::Released => feed.then(Phase::Ended, Step::Stop { stray: None }),
    }
}

struct Context<'a> {
    now: Timestamp,
    chance: f64,
    rules: &'a Rules,
}

fn time(feed: Feed, context: &Context<'_>) -> (Feed, Step) {
    let Phase::Waiting(why) = feed.phase.clone() else {
        return feed.stay();
    };
    match why {
        Why::Bytes | Why::Idle => release(feed),
        Why::FullerBlock => stream::push(feed, context),
        Why::Pace => stream::go_on(feed, context),
        Why::Create => feed.then(Phase::Creating, Step::Create),
        Why::Finish => feed.then(Phase::Finishing, Step::Finish),
        Why::Look(watch) => finish::look(feed, watch, context),
    }
}

/// What is asked for is heard first; a wait, or a finish that its row already tells of, ends at once.
fn leave(mut feed: Feed, now: bool) -> (Feed, Step) {
    feed.leaving = true;
    let at_once =
        matches!(feed.phase, Phase::Waiting(_) | Phase::Finishing | Phase::Looking(_) | Phase::Starting);
    let last_act = matches!(feed.phase, Phase::Releasing | Phase::Ended);
    if (at_once || now) && !last_act { release(feed) } else { feed.stay() }
}

/// Trying again would be refused again: whoever claims it next may have better luck, later.
fn refused(feed: Feed) -> (Feed, Step) {
    let last_act = matches!(feed.phase, Phase::Releasing | Phase::Ended);
    if last_act { feed.stay() } else { release(feed) }
}

/// `settled` only with an address stored and no request of unknown outcome.
fn release(feed: Feed) -> (Feed, Step) {
    let streaming = matches!(feed.phase, Phase::Waiting(Why::Idle | Why::FullerBlock | Why::Pace));
    let finish_unsent = matches!(feed.phase, Phase::Marking | Phase::Waiting(Why::Finish));
    let nothing_in_doubt = finish_unsent || (streaming && feed.finish_sent.is_none());
    let settled = nothing_in_doubt && feed.address.is_some();
    let fed = feed.fed;
    feed.then(Phase::Releasing, Step::Release { settled, fed })
}

/// Somebody else owns it: a process that only this feed knows of becomes a stray.
fn fenced(feed: Feed) -> (Feed, Step) {
    let stray = matches!(feed.phase, Phase::Recording(_)).then(|| feed.name());
    feed.then(Phase::Ended, Step::Stop { stray })
}

#[cfg(test)]
mod tests;
