//! What a feed does, as it is counted.

use super::{Feed, Phase, Why};

/// What a feed does, in words that an operator counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It finds or makes its ffmpeg process.
    Opening,
    /// Bytes are on their way to it, or about to be.
    Pushing,
    /// All that is stored is fed: it waits for more.
    Waiting,
    /// The process writes and ships its files, or holder is watched for them.
    Finishing,
    /// A failure is weighed, or waited out.
    Recovering,
    /// It commits its end, or hands the upload over.
    Ending,
}

impl Activity {
    /// The word that it is counted under.
    pub fn word(self) -> &'static str {
        match self {
            Activity::Opening => "opening",
            Activity::Pushing => "pushing",
            Activity::Waiting => "waiting",
            Activity::Finishing => "finishing",
            Activity::Recovering => "recovering",
            Activity::Ending => "ending",
        }
    }
}

impl Feed {
    /// What it does.
    pub fn activity(&self) -> Activity {
        match &self.phase {
            Phase::Starting | Phase::Resolving | Phase::Creating | Phase::Recording(_) => Activity::Opening,
            Phase::Numbering { pause } if pause.is_zero() => Activity::Opening,
            Phase::Pushing { .. } | Phase::Waiting(Why::FullerBlock | Why::Pace) => Activity::Pushing,
            Phase::Waiting(Why::Bytes | Why::Idle) => Activity::Waiting,
            Phase::Marking | Phase::Finishing | Phase::Looking(_) | Phase::Deleting { .. } => {
                Activity::Finishing
            }
            Phase::Waiting(Why::Finish | Why::Look(_)) => Activity::Finishing,
            Phase::Numbering { .. } | Phase::Weighing(_) | Phase::Waiting(Why::Create) => {
                Activity::Recovering
            }
            Phase::Completing | Phase::Parking | Phase::Cleaning | Phase::Releasing | Phase::Ended => {
                Activity::Ending
            }
        }
    }
}
