//! Every message that crosses an actor's border, in the order of the roads.

mod cleaning;

use std::collections::HashSet;

use actix::prelude::*;

pub use self::cleaning::{ExpireSessions, Expiry, JanitorReport, RunOnce, SweepStrays, Swept, Tick};
use crate::domain::chunk::{Chunk, RawDelivery};
use crate::domain::ids::{Epoch, FlowName, Generation, ReplicaId, SessionId};
use crate::domain::route::FlowUrl;
use crate::domain::run::Run;
use crate::domain::trace::TraceParent;
use crate::ticket::{Settlement, Ticket};

/// AmqpConsumer to ChunkValidator: is this a chunk?
#[derive(Message)]
#[rtype(result = "()")]
pub struct ValidateChunk {
    /// As it came off the wire.
    pub delivery: RawDelivery,
    /// The duty to answer it.
    pub ticket: Ticket,
}

/// ChunkValidator to SessionRegistry: does it fit its session? If so, keep it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AdmitChunk {
    /// Its headers and body agree.
    pub chunk: Chunk,
    /// The duty to answer it.
    pub ticket: Ticket,
}

impl Message for Settlement {
    type Result = ();
}

/// SessionRegistry to FflowForwarder: a session has more bytes than before.
#[derive(Message, Debug, Clone, Copy, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct SessionAdvanced {
    /// Which one.
    pub session: SessionId,
    /// Bytes stored without a gap from 0.
    pub committed: i64,
    /// All of them are.
    pub sealed: bool,
    /// Where its newest bytes are.
    pub run: Option<Run>,
    /// Who fed it when it advanced.
    pub owner: Option<ReplicaId>,
    /// The chunk's span.
    pub trace: Option<TraceParent>,
}

/// FflowForwarder to SessionFeed: the stored bytes reach this far now.
#[derive(Message, Debug, Clone, Copy, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct Advance {
    /// Bytes stored without a gap from 0.
    pub committed: i64,
    /// All of them are.
    pub sealed: bool,
    /// Where the newest of them are, if this replica stored them.
    pub run: Option<Run>,
    /// The span of the chunk that brought them, if this replica stored it.
    pub trace: Option<TraceParent>,
}

/// FflowForwarder to SessionFeed: the row has another owner, or is gone; stop without a word to fflow.
#[derive(Message, Debug, Clone, Copy, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct Forsake;

/// FflowForwarder to SessionFeed: finish what is in flight, hand the session back and stop.
#[derive(Message, Debug, Clone, Copy, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct ReleaseFeed;

/// SessionFeed to FflowForwarder: this feed has stopped; its epoch is over.
#[derive(Message, Debug, Clone, Copy, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct FeedEnded {
    /// Whose feed.
    pub session: SessionId,
    /// Of which epoch.
    pub epoch: Epoch,
    /// The database refused something: claiming it again at once would end in the same way.
    pub rest: bool,
}

/// SessionFeed to FflowForwarder: this feed waits for something slow and needs no slot, or works again.
#[derive(Message, Debug, Clone, Copy, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct FeedWaits {
    /// Whose feed.
    pub session: SessionId,
    /// Whether it waits.
    pub waiting: bool,
}

/// The FflowForwarder, as a feed sees it.
#[derive(Clone)]
pub struct ForwarderDesk {
    /// The last word of a feed.
    pub ended: Recipient<FeedEnded>,
    /// Whether it needs a slot.
    pub waits: Recipient<FeedWaits>,
}

/// A SessionFeed, as the forwarder sees it. Dropping it ends the feed.
pub struct FeedHandle {
    /// More bytes.
    pub advance: Recipient<Advance>,
    /// No longer ours.
    pub forsake: Recipient<Forsake>,
    /// Leave.
    pub release: Recipient<ReleaseFeed>,
}

impl FeedHandle {
    /// The handle of a feed. It keeps the feed alive.
    pub fn of<A>(feed: &Addr<A>) -> Self
    where
        A: Actor<Context = Context<A>> + Handler<Advance> + Handler<Forsake> + Handler<ReleaseFeed>,
    {
        FeedHandle {
            advance: feed.clone().recipient(),
            forsake: feed.clone().recipient(),
            release: feed.clone().recipient(),
        }
    }
}

/// What became of a request for a new flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// It runs there.
    At(FlowUrl),
    /// The request surely never reached fflow: the name is still unused.
    NotSent(String),
    /// fflow answered with an address outside the allow-list; the name is used.
    RefusedAddress(String),
    /// Anything else; the name is used and a process may exist.
    Failed(String),
}

/// SessionFeed to FflowRouter: start an ffmpeg process under this name.
#[derive(Message, Debug, Clone)]
#[rtype(result = "Opened")]
pub struct OpenFlow {
    /// Whose it is.
    pub session: SessionId,
    /// Used once.
    pub name: FlowName,
    /// The feed's span.
    pub trace: Option<TraceParent>,
}

impl<A, M> actix::dev::MessageResponse<A, M> for Opened
where
    A: Actor,
    M: Message<Result = Opened>,
{
    fn handle(self, _: &mut A::Context, tx: Option<actix::dev::OneshotSender<Opened>>) {
        if let Some(tx) = tx {
            // The asker may have stopped meanwhile; its process is then a stray by its row.
            let _ = tx.send(self);
        }
    }
}

/// SessionFeed to FflowRouter: where does this flow run? Redis is asked first, `stored` second.
#[derive(Message, Debug, Clone)]
#[rtype(result = "Option<FlowUrl>")]
pub struct ResolveFlow {
    /// Whose it is.
    pub session: SessionId,
    /// The current generation.
    pub generation: Generation,
    /// What the session's row says.
    pub stored: Option<String>,
}

/// SessionFeed to FflowRouter: remember where this flow runs, for all replicas.
#[derive(Message, Debug, Clone)]
#[rtype(result = "()")]
pub struct PublishRoute {
    /// Whose it is.
    pub session: SessionId,
    /// Checked against the allow-list.
    pub url: FlowUrl,
}

/// SessionFeed or JanitorScheduler to FflowRouter: forget the route of a session that has ended.
/// Answers whether the route is surely gone.
#[derive(Message, Debug, Clone)]
#[rtype(result = "bool")]
pub struct DropFlow {
    /// Whose it was.
    pub session: SessionId,
}

/// SessionFeed to FflowRouter: a step at this replica of fflow succeeded; evidence that the farm works.
#[derive(Message, Debug, Clone)]
#[rtype(result = "()")]
pub struct FlowWorked {
    /// Whose step.
    pub session: SessionId,
    /// Where.
    pub url: FlowUrl,
    /// A push or a finish.
    pub step: WorkedStep,
}

/// The kinds of step that count as evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkedStep {
    /// A block was taken.
    Push,
    /// Files were made and shipped.
    Finish,
}

/// app to AmqpConsumer, SessionRegistry or FflowForwarder: begin to leave. Answered when nothing is held any more
/// or the actor's share of the shutdown deadline is over; says how many tickets or feeds were given up.
#[derive(Message, Debug, Clone, Copy)]
#[rtype(result = "usize")]
pub struct Drain;

/// supervision to every actor of a line that is given up: drop everything and do nothing any more. The actor ends when
/// its last address is dropped.
#[derive(Message, Debug, Clone, Copy)]
#[rtype(result = "()")]
pub struct Retire;

/// supervision to every actor: are you there?
#[derive(Message, Debug, Clone, Copy)]
#[rtype(result = "()")]
pub struct Ping;

/// FflowForwarder to itself: which sessions it feeds, for a sweep. Kept as a type so that tests can look.
#[derive(Message, Debug, Clone, Copy)]
#[rtype(result = "FedSessions")]
pub struct ListFeeds;

/// The sessions that a replica feeds at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, MessageResponse)]
pub struct FedSessions(pub HashSet<SessionId>);
