//! What one feed did so far, and what it may therefore not do next.

use super::{Violation, require};
use crate::domain::feed::{Created, Event, Feed, Numbering, Step, Trouble};
use crate::domain::ids::Generation;

/// Follows one feed from its claim to its end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FeedHistory {
    committed: i64,
    sealed: bool,
    /// A step whose answer has not been heard, or a wait.
    outstanding: Outstanding,
    /// The generation that was POSTed, unless the POST surely was not sent.
    posted: Option<Generation>,
    /// A request to the current generation ended without a known good outcome, or a finish was asked for.
    doubtful: bool,
    released: bool,
    completed: bool,
    ended: bool,
    strikes: i32,
    /// The last thing heard was that others succeeded meanwhile.
    evidence: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Outstanding {
    Nothing,
    Answer,
    /// A mark that a settled release takes back, whether or not it was written.
    Write,
    Time,
}

impl FeedHistory {
    /// The history of a feed that has heard nothing yet.
    pub fn new(feed: &Feed) -> Self {
        let claim = feed.claim();
        FeedHistory {
            committed: claim.committed,
            sealed: claim.sealed,
            outstanding: Outstanding::Nothing,
            posted: None,
            doubtful: !claim.settled || claim.finish_sent.is_some(),
            released: false,
            completed: false,
            ended: false,
            strikes: claim.strikes,
            evidence: false,
        }
    }

    /// Checks one decision: `before` heard `event`, became `after` and asked for `step`.
    pub fn observe(
        &mut self,
        before: &Feed,
        event: &Event,
        after: &Feed,
        step: &Step,
    ) -> Result<(), Violation> {
        self.hear(event);
        self.generations_grow_by_one(before, event, after)?;
        self.permits(after, step)?;
        self.note(step);
        let alone = self.outstanding == Outstanding::Nothing && !self.ended;
        require(!alone, || format!("nothing is going on after {event:?} in {after:?}"))?;
        require(after.ended() == self.ended, || format!("its end is told wrongly: {after:?}"))
    }

    fn hear(&mut self, event: &Event) {
        self.evidence = matches!(event, Event::Weighed(evidence) if evidence.worked);
        match event {
            Event::Advanced { committed, sealed } => {
                self.committed = self.committed.max(*committed);
                self.sealed |= sealed;
            }
            Event::Leave { .. } => {}
            Event::Time if self.outstanding != Outstanding::Time => {}
            Event::Numbered => self.renew(),
            Event::Created(Created::NotSent(_)) => {
                self.posted = None;
                self.outstanding = Outstanding::Nothing;
            }
            Event::Finished(Err(Trouble::NotSent(_))) => {
                self.doubtful = false;
                self.outstanding = Outstanding::Nothing;
            }
            Event::Pushed(Err(_)) | Event::Finished(_) => {
                self.doubtful = true;
                self.outstanding = Outstanding::Nothing;
            }
            Event::Completed => {
                self.completed = true;
                self.outstanding = Outstanding::Nothing;
            }
            Event::Begin
            | Event::Time
            | Event::Fenced
            | Event::Resolved(_)
            | Event::Created(Created::At(_) | Created::Failed(_))
            | Event::Recorded
            | Event::Marked
            | Event::Pushed(Ok(()))
            | Event::Looked(_)
            | Event::Deleted(_)
            | Event::Weighed(_)
            | Event::Damaged(_)
            | Event::Refused(_)
            | Event::Parked
            | Event::Cleaned
            | Event::Released => self.outstanding = Outstanding::Nothing,
        }
    }

    /// Nothing was asked of the new generation yet.
    fn renew(&mut self) {
        self.doubtful = false;
        self.outstanding = Outstanding::Nothing;
    }

    fn generations_grow_by_one(&self, before: &Feed, event: &Event, after: &Feed) -> Result<(), Violation> {
        let grown = after.generation() == before.generation().next() && *event == Event::Numbered;
        require(grown || after.generation() == before.generation(), || {
            format!("generation {:?} became {:?} by {event:?}", before.generation(), after.generation())
        })
    }

    fn permits(&mut self, feed: &Feed, step: &Step) -> Result<(), Violation> {
        let closing = matches!(step, Step::Stay | Step::Stop { .. });
        require(closing || !self.ended, || format!("{step:?} after the end"))?;
        require(closing || !self.released, || format!("{step:?} after the last act of the epoch"))?;
        match step {
            Step::Push { from, to, .. } => self.push_is_sound(feed, *from, *to),
            Step::Create => self.create_is_sound(feed),
            Step::Mark | Step::Finish => self.finish_is_sound(feed),
            Step::Number(numbering) => self.numbering_is_sound(feed, numbering),
            Step::Release { settled: true, fed } => self.settling_is_sound(feed, *fed),
            Step::CleanUp { keep_bytes: false } => {
                require(self.completed, || "bytes are removed before they are distributed".to_owned())
            }
            Step::Release { settled: false, .. }
            | Step::CleanUp { keep_bytes: true }
            | Step::Stay
            | Step::Wait { .. }
            | Step::Resolve { .. }
            | Step::Record(_)
            | Step::Look
            | Step::Delete
            | Step::Weigh(_)
            | Step::Complete
            | Step::Park(_)
            | Step::Stop { .. } => Ok(()),
        }
    }

    /// Strikes are counted one by one, and only where others succeeded.
    fn numbering_is_sound(&mut self, feed: &Feed, numbering: &Numbering) -> Result<(), Violation> {
        let next = numbering.generation == feed.generation().next();
        require(next, || format!("{:?} numbered after {:?}", numbering.generation, feed.generation()))?;
        let before = std::mem::replace(&mut self.strikes, numbering.strikes);
        let deserved = numbering.strikes <= before + i32::from(self.evidence);
        require(deserved, || format!("strikes {before} became {} without evidence", numbering.strikes))
    }

    fn push_is_sound(&self, feed: &Feed, from: i64, to: i64) -> Result<(), Violation> {
        require(from == feed.fed(), || format!("push from {from}, fed {}", feed.fed()))?;
        require(from < to && to <= self.committed, || {
            format!("push of {from}..{to} with {} committed", self.committed)
        })?;
        require(feed.address().is_some(), || "push without an address".to_owned())?;
        require(!self.doubtful, || "push to a generation in doubt".to_owned())
    }

    fn create_is_sound(&mut self, feed: &Feed) -> Result<(), Violation> {
        let generation = feed.generation();
        let numbered_here = generation > feed.claim().generation;
        require(numbered_here, || format!("{generation:?} is created, but was not numbered here"))?;
        let again = self.posted.replace(generation) == Some(generation);
        require(!again, || format!("the name of {generation:?} is used twice"))
    }

    fn finish_is_sound(&self, feed: &Feed) -> Result<(), Violation> {
        let total = feed.claim().total;
        require(self.sealed && feed.fed() == total, || format!("finish with {} of {total} fed", feed.fed()))
    }

    fn settling_is_sound(&self, feed: &Feed, fed: i64) -> Result<(), Violation> {
        require(feed.address().is_some(), || "settled without an address".to_owned())?;
        require(fed == feed.fed(), || format!("settled at {fed}, fed {}", feed.fed()))?;
        let quiet = self.outstanding != Outstanding::Answer && !self.doubtful;
        require(quiet, || "settled with something in doubt".to_owned())
    }

    fn note(&mut self, step: &Step) {
        match step {
            Step::Stay => {}
            Step::Wait { .. } => self.outstanding = Outstanding::Time,
            Step::Stop { .. } => {
                self.ended = true;
                self.outstanding = Outstanding::Nothing;
            }
            Step::Release { .. } => {
                self.released = true;
                self.outstanding = Outstanding::Answer;
            }
            Step::Mark => self.outstanding = Outstanding::Write,
            Step::Finish => {
                self.doubtful = true;
                self.outstanding = Outstanding::Answer;
            }
            Step::Resolve { .. }
            | Step::Number(_)
            | Step::Create
            | Step::Record(_)
            | Step::Push { .. }
            | Step::Look
            | Step::Delete
            | Step::Weigh(_)
            | Step::Complete
            | Step::Park(_)
            | Step::CleanUp { .. } => self.outstanding = Outstanding::Answer,
        }
    }
}
