//! What the janitor asks for, and what it is told.

use std::time::Duration;

use actix::prelude::*;
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use crate::domain::ids::VideoId;

/// JanitorScheduler to SessionRegistry: end some of the uploads that nobody uses any more, now.
#[derive(Message, Debug, Clone, Copy, PartialEq, Eq)]
#[rtype(result = "Expiry")]
pub struct ExpireSessions {
    /// Time without activity after which an unfinished video is abandoned.
    pub ttl: Duration,
    /// Most videos in one transaction, and most sessions that others removed.
    pub limit: u32,
    /// The video, by id, after which this round's page begins.
    pub after: Option<VideoId>,
}

/// What one round of expiring did.
#[derive(Debug, Clone, Default, PartialEq, Eq, MessageResponse)]
pub struct Expiry {
    /// Videos all of whose uploads were abandoned and have ended; they are to be deleted next.
    pub emptied: u64,
    /// Videos blocked: one flow plays, the others were abandoned.
    pub blocked: u64,
    /// Sessions ended because somebody else removed their rows.
    pub removed: u64,
    /// Where the next round's page begins; `None` after the last page.
    pub next: Option<VideoId>,
    /// What went wrong last; the next run tries again.
    pub error: Option<String>,
}

/// JanitorScheduler to FflowRouter: delete some of the processes that nobody wants any more. `None` while another round
/// is under way: ask again.
#[derive(Message, Debug, Clone, Copy)]
#[rtype(result = "Option<Swept>")]
pub struct SweepStrays {
    /// No further process is asked for after this.
    pub until: Instant,
}

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Strays that were looked at.
    pub seen: usize,
    /// Of them, those that are gone for good.
    pub gone: usize,
}

/// JanitorScheduler to itself: the pause is over.
#[derive(Message, Debug, Clone, Copy)]
#[rtype(result = "()")]
pub struct Tick;

/// Anybody to JanitorScheduler: clean now and say what was done.
#[derive(Message, Debug, Clone, Copy)]
#[rtype(result = "JanitorReport")]
pub struct RunOnce;

/// What one run of the janitor did.
#[derive(Debug, Clone, Default, PartialEq, Eq, MessageResponse, Serialize)]
pub struct JanitorReport {
    /// Abandoned videos deleted.
    pub videos_deleted: u64,
    /// Videos blocked: one flow plays, the others were abandoned.
    pub videos_blocked: u64,
    /// Sessions ended because somebody else removed their rows.
    pub sessions_removed: u64,
    /// Spool folders that no row knew, now tombstones.
    pub folders_buried: u64,
    /// Spool folders of ended sessions that a late append made again.
    pub folders_removed: u64,
    /// Failed uploads whose stored bytes were removed.
    pub failed_given_up: u64,
    /// Ended sessions whose route, spool and runs are gone now.
    pub sessions_cleaned: u64,
    /// Unwanted ffmpeg processes that are gone now.
    pub strays_gone: u64,
    /// Rows about stored bytes of sessions that are no more.
    pub runs_forgotten: u64,
    /// Tombstones forgotten.
    pub tombstones_forgotten: u64,
    /// Dead replicas forgotten.
    pub replicas_forgotten: u64,
    /// How long the run took, ms.
    #[serde(rename = "duration_ms", serialize_with = "millis")]
    pub duration: Duration,
    /// A part came to the end of its time: more is left for the next run.
    pub more_is_left: bool,
    /// What went wrong last; the next run tries again.
    pub error: Option<String>,
}

fn millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
