//! What a feed asks for.

use std::time::Duration;

use super::Work;
use crate::domain::ids::{FlowName, Generation, Timestamp};
use crate::domain::route::FlowUrl;

/// What a new generation writes, absolute values all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Numbering {
    /// The generation to be.
    pub generation: Generation,
    /// The old one's name, if there was one: its process may still exist.
    pub stray: Option<FlowName>,
    /// Where the old one lived, if known: its replica's base.
    pub stray_base: Option<String>,
    /// `farthest`
    pub farthest: i64,
    /// `strikes`
    pub strikes: i32,
    /// Whether failures without progress go on; `None` leaves it as it is.
    pub failing: Option<bool>,
    /// How long nobody else may try.
    pub pause: Duration,
    /// Why the old one ended, if it failed.
    pub error: Option<String>,
}

/// The next step. The feed hears its answer as an [`Event`] before it asks for another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Nothing new: what was asked for goes on.
    Stay,
    /// Hear [`Event::Time`] at that moment, unless something else comes first.
    Wait {
        /// When.
        until: Timestamp,
        /// It waits for something slow and needs no slot.
        slow: bool,
    },
    /// Find the address of the current generation; `stored` is what the row says.
    Resolve {
        /// The row's address, unchecked.
        stored: Option<String>,
    },
    /// Write the next generation and the old one's stray, before anything is created.
    Number(Numbering),
    /// Create the current generation's process.
    Create,
    /// Store its address, in PostgreSQL and then in Redis.
    Record(FlowUrl),
    /// Push the bytes `[from, to)`.
    Push {
        /// Offset of the first byte.
        from: i64,
        /// Offset after the last byte.
        to: i64,
        /// These bytes were fed before, to another generation.
        replay: bool,
    },
    /// Write down that a finish is about to be asked for.
    Mark,
    /// Ask for it.
    Finish,
    /// Look at holder.
    Look,
    /// Delete the current generation's process.
    Delete,
    /// Ask what speaks for the farm.
    Weigh(Work),
    /// Commit DISTRIBUTED.
    Complete,
    /// Commit FAILED with this reason.
    Park(String),
    /// Remove the route of the ended session, and its spool and runs too unless they are kept for a retry.
    CleanUp {
        /// Whether its bytes are kept.
        keep_bytes: bool,
    },
    /// Hand the session back: the last act of the epoch.
    Release {
        /// Nothing is in doubt: the next owner goes on where this one stopped.
        settled: bool,
        /// Bytes the current generation got.
        fed: i64,
    },
    /// It is over; a name that was created but never stored becomes a stray.
    Stop {
        /// That name.
        stray: Option<FlowName>,
    },
}
