//! What the janitor asks for, and what it is told.

use std::time::Duration;

use actix::prelude::*;

/// JanitorScheduler to SessionRegistry: end some of the uploads that nobody uses any more, now.
#[derive(Message, Debug, Clone, Copy, PartialEq, Eq)]
#[rtype(result = "Expiry")]
pub struct ExpireSessions {
    /// Time without activity after which an unfinished video is abandoned.
    pub ttl: Duration,
    /// Most videos, and most sessions that others removed.
    pub limit: u32,
}

/// What one round of expiring did.
#[derive(Debug, Clone, Default, PartialEq, Eq, MessageResponse)]
pub struct Expiry {
    /// Videos deleted, all of their uploads abandoned.
    pub deleted: u64,
    /// Videos blocked: one flow plays, the others were abandoned.
    pub blocked: u64,
    /// Sessions ended because somebody else removed their rows.
    pub removed: u64,
    /// What went wrong last; the next round tries again.
    pub error: Option<String>,
}

/// JanitorScheduler to FflowRouter: delete some of the processes that nobody wants any more.
#[derive(Message, Debug, Clone, Copy)]
#[rtype(result = "Swept")]
pub struct SweepStrays;

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, MessageResponse)]
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
#[derive(Debug, Clone, Default, PartialEq, Eq, MessageResponse)]
pub struct JanitorReport {
    /// Videos and sessions ended.
    pub expiry: Expiry,
    /// Spool folders that no row knew, now tombstones.
    pub buried: usize,
    /// Failed uploads whose stored bytes were removed.
    pub given_up: usize,
    /// Ended sessions whose route, spool and runs are gone now.
    pub cleaned: usize,
    /// Unwanted ffmpeg processes that are gone now.
    pub strays: usize,
    /// Tombstones forgotten.
    pub tombstones: u64,
    /// Dead replicas forgotten.
    pub replicas: u64,
    /// How long the run took.
    pub duration: Duration,
    /// What went wrong last; the next run tries again.
    pub error: Option<String>,
}
