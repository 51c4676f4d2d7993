//! What a feed hears.

use crate::domain::route::FlowUrl;

/// How a request to fflow ended when not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Surely not sent.
    NotSent(String),
    /// Answered, but not 2xx.
    Status(u16, String),
    /// Nobody knows whether it was applied.
    Unknown(String),
}

/// What became of a create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It runs there.
    At(FlowUrl),
    /// Surely not sent: the name is still unused.
    NotSent(String),
    /// The name is used up, and a process may exist.
    Failed(String),
}

/// What a look at holder showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// Manifests final, all files there; the fingerprint tells two looks apart.
    Whole(u64),
    /// Something is missing.
    NotWhole(String),
    /// Nothing is known.
    Unreachable(String),
}

/// How a delete ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It was there and is gone: it never ships.
    Gone,
    /// It was not there.
    Unknown,
    /// No answer, or none that tells.
    NoAnswer,
}

/// The kinds of step that fflow can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Work {
    /// Taking a block.
    Push,
    /// Making and shipping the files.
    Finish,
}

/// What speaks for or against the farm since this generation was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// Another session had the same kind of step succeed.
    pub worked: bool,
    /// No other session is being fed at all.
    pub lone: bool,
}

/// What a feed hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The claim is committed.
    Begin,
    /// More bytes are stored.
    Advanced {
        /// Bytes stored.
        committed: i64,
        /// All of them are.
        sealed: bool,
    },
    /// The wait that was asked for is over.
    Time,
    /// Leave as soon as nothing is in doubt; `now` when there is no time for that.
    Leave {
        /// The deadline has come.
        now: bool,
    },
    /// A write found another owner, epoch or generation.
    Fenced,
    /// The address of the current generation, if one counts.
    Resolved(Option<FlowUrl>),
    /// The next generation is written.
    Numbered,
    /// The answer to a create.
    Created(Created),
    /// The address is stored.
    Recorded,
    /// The answer to a push.
    Pushed(Result<(), Trouble>),
    /// The finish is written down.
    Marked,
    /// The answer to a finish.
    Finished(Result<(), Trouble>),
    /// What holder shows.
    Looked(Sight),
    /// The answer to a delete.
    Deleted(Deleted),
    /// The evidence about the farm.
    Weighed(Evidence),
    /// The bytes cannot be read any more; says why.
    Damaged(String),
    /// The database understood what this feed asked of it and refuses; says why.
    Refused(String),
    /// DISTRIBUTED is committed.
    Completed,
    /// FAILED is committed.
    Parked,
    /// Route, spool and runs are gone.
    Cleaned,
    /// The release was sent.
    Released,
}
