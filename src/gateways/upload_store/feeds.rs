//! The feed road's statements: claims, guarded writes, and what feeds need to read.

mod claim;
mod end;
mod guarded;
mod reads;
mod runs;

use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseConnection};
use tokio::sync::Semaphore;

use super::StoreError;
use super::sql::{self, statement};
use crate::domain::feed::{Claim, Evidence, Numbering, Work};
use crate::domain::ids::{Epoch, FlowName, Generation, ReplicaId, SessionId};
use crate::domain::route::FlowUrl;
use crate::domain::status::SessionState;
use crate::gateways::spool::Run;

use runs::RunsDesk;

pub use claim::CLAIM;
pub use end::Ending;
pub use guarded::GUARD;

/// Who a feed's write comes from. It changes nothing unless the row says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// Whose row.
    pub session: SessionId,
    /// The owner.
    pub owner: ReplicaId,
    /// The ownership.
    pub epoch: Epoch,
    /// The generation before the write.
    pub generation: Generation,
}

/// Whether a guarded write found its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It did, and the write is done.
    Done,
    /// The row has another owner, epoch or generation, or has ended.
    Fenced,
}

/// What a claim asks for.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// The claiming replica.
    pub me: ReplicaId,
    /// Sessions that are not wanted: it feeds them already, or lets them rest.
    pub except: &'a [SessionId],
    /// Only these, or any.
    pub only: Option<&'a [SessionId]>,
    /// At most so many.
    pub limit: i64,
    /// An open session below this many bytes that never had a generation is left alone.
    pub start_bytes: i64,
    /// Whether sessions of replicas whose lease has ended may be taken.
    pub from_expired: bool,
}

/// The part of a session's row that tells a feed where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedRow {
    /// Whose row.
    pub session: SessionId,
    /// Who feeds it.
    pub owner: Option<ReplicaId>,
    /// Under which ownership.
    pub epoch: Epoch,
    /// The newest generation.
    pub generation: Generation,
    /// Its address.
    pub flow_url: Option<String>,
    /// A finish was written down.
    pub finish_sent: bool,
    /// Where the session stands.
    pub state: SessionState,
    /// Bytes stored.
    pub committed: i64,
}

impl FeedRow {
    /// Whether the row still belongs to this ownership.
    pub fn owned_by(&self, guard: &Guard) -> bool {
        let live = matches!(self.state, SessionState::Open | SessionState::Sealed);
        live && self.owner == Some(guard.owner) && self.epoch == guard.epoch
    }
}

/// What the feed of a session was told of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Whose row.
    pub session: SessionId,
    /// Under which ownership it is fed.
    pub epoch: Epoch,
    /// Bytes stored.
    pub committed: i64,
    /// All of them are.
    pub sealed: bool,
}

/// Claims sessions and writes for their owners. After an `Unavailable` write nothing is known: read the row.
#[async_trait]
pub trait FeedStore: Send + Sync {
    /// Takes ownership; reads and clears `settled` in the same statement.
    async fn claim(&self, wanted: &Wanted<'_>) -> Result<Vec<Claim>, StoreError>;
    /// The rows that do not say what was told, read without locks; `None` where there is none that this program knows.
    /// `me` is who fed them then.
    async fn news(
        &self,
        me: ReplicaId,
        told: &[Told],
    ) -> Result<Vec<(SessionId, Option<FeedRow>)>, StoreError>;
    /// One row, under its lock: it comes after every write that is still on its way under that lock.
    async fn row_locked(&self, session: SessionId) -> Result<Option<FeedRow>, StoreError>;
    /// Where the spool holds the bytes `[from, to)`.
    async fn runs(&self, session: SessionId, from: i64, to: i64) -> Result<Vec<Run>, StoreError>;
    /// The next generation, and the old name's stray.
    async fn number(&self, guard: Guard, numbering: &Numbering) -> Result<Written, StoreError>;
    /// The current generation's address.
    async fn record(&self, guard: Guard, url: &FlowUrl) -> Result<Written, StoreError>;
    /// A finish is about to be asked for.
    async fn mark_finish(&self, guard: Guard) -> Result<Written, StoreError>;
    /// DISTRIBUTED: session, flow, and the video once all its flows are; EXPIRED if somebody removed the flow.
    async fn complete(&self, guard: Guard, claim: &Claim) -> Result<Written, StoreError>;
    /// FAILED: flow HIDDEN, video BLOCKED, the process a stray.
    async fn park(&self, guard: Guard, claim: &Claim, ending: &Ending) -> Result<Written, StoreError>;
    /// Gives the session up. `fed` counts only if `settled`; then a finish that was marked was surely not sent.
    async fn release(&self, guard: Guard, settled: bool, fed: i64) -> Result<Written, StoreError>;
    /// What speaks for the farm since this generation was created.
    async fn weigh(&self, session: SessionId, work: Work) -> Result<Evidence, StoreError>;
    /// Writes down a process that nobody's row tells of.
    async fn add_stray(&self, session: SessionId, name: &FlowName) -> Result<(), StoreError>;
    /// Removes the run rows of an ended session, in bounded batches.
    async fn drop_runs(&self, session: SessionId) -> Result<(), StoreError>;
    /// Route, spool and runs of a final session are gone.
    async fn set_cleaned(&self, session: SessionId) -> Result<(), StoreError>;
    /// Open, unowned sessions silent for `idle_seconds` lose their process; says how many.
    async fn drop_idle_flows(&self, idle_seconds: f64, limit: i64) -> Result<u64, StoreError>;
}

/// How long a feed may wait for its turn, or for an answer to what it asked together with others. One that is late reads
/// its row again, as after any outage.
const TURN: Duration = Duration::from_secs(60);

/// [`FeedStore`] on PostgreSQL.
///
/// What waits for a connection of the pool takes several KiB, more than a feed has besides; so feeds stand in line in
/// front of it, as many at a time as there are connections. What is asked for all feeds together does not.
pub struct PgFeedStore {
    db: DatabaseConnection,
    turns: Semaphore,
    runs: RunsDesk,
}

impl PgFeedStore {
    /// Uses the pool `db`.
    pub fn new(db: DatabaseConnection) -> Self {
        let connections = db.get_postgres_connection_pool().options().get_max_connections();
        PgFeedStore { runs: RunsDesk::new(db.clone()), turns: Semaphore::new(connections as usize), db }
    }

    /// One feed's conversation with the database, when its turn has come.
    async fn in_turn<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let turn = tokio::time::timeout(TURN, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            let late = format!("no connection was free for a feed within {TURN:?}");
            return Err(StoreError::Unavailable(late));
        };
        sql::within(work).await
    }

    /// One guarded statement and its values: `$1` session, `$2` epoch, `$3` owner, `$4` generation, then its own. Made
    /// when its turn has come: what stands in line stays small.
    async fn guarded(
        &self,
        guard: Guard,
        write: impl FnOnce() -> guarded::Query,
    ) -> Result<Written, StoreError> {
        self.in_turn(async {
            let (query, own) = write();
            let values = guard.values().into_iter().chain(own);
            let changed = self.db.execute_raw(statement(&query, values)).await?.rows_affected();
            Ok(if changed == 0 { Written::Fenced } else { Written::Done })
        })
        .await
    }
}

#[async_trait]
impl FeedStore for PgFeedStore {
    async fn claim(&self, wanted: &Wanted<'_>) -> Result<Vec<Claim>, StoreError> {
        sql::within(claim::claim(&self.db, wanted)).await
    }

    async fn news(
        &self,
        me: ReplicaId,
        told: &[Told],
    ) -> Result<Vec<(SessionId, Option<FeedRow>)>, StoreError> {
        sql::within(reads::news(&self.db, me, told)).await
    }

    async fn row_locked(&self, session: SessionId) -> Result<Option<FeedRow>, StoreError> {
        self.in_turn(reads::row_locked(&self.db, session)).await
    }

    async fn runs(&self, session: SessionId, from: i64, to: i64) -> Result<Vec<Run>, StoreError> {
        self.runs.ask(session, from, to).await
    }

    async fn number(&self, guard: Guard, numbering: &Numbering) -> Result<Written, StoreError> {
        self.guarded(guard, || guarded::number(numbering)).await
    }

    async fn record(&self, guard: Guard, url: &FlowUrl) -> Result<Written, StoreError> {
        self.guarded(guard, || guarded::record(url)).await
    }

    async fn mark_finish(&self, guard: Guard) -> Result<Written, StoreError> {
        self.guarded(guard, guarded::mark_finish).await
    }

    async fn complete(&self, guard: Guard, claim: &Claim) -> Result<Written, StoreError> {
        self.in_turn(end::complete(&self.db, guard, claim)).await
    }

    async fn park(&self, guard: Guard, claim: &Claim, ending: &Ending) -> Result<Written, StoreError> {
        self.in_turn(end::park(&self.db, guard, claim, ending)).await
    }

    async fn release(&self, guard: Guard, settled: bool, fed: i64) -> Result<Written, StoreError> {
        self.guarded(guard, || guarded::release(settled, fed)).await
    }

    async fn weigh(&self, session: SessionId, work: Work) -> Result<Evidence, StoreError> {
        self.in_turn(reads::weigh(&self.db, session, work)).await
    }

    async fn add_stray(&self, session: SessionId, name: &FlowName) -> Result<(), StoreError> {
        let ending = Ending { reason: String::new(), stray: Some(name.clone()), stray_base: None };
        self.in_turn(end::add_stray(&self.db, session, &ending)).await
    }

    async fn drop_runs(&self, session: SessionId) -> Result<(), StoreError> {
        // In batches, each with its own turn.
        while self.in_turn(end::drop_runs(&self.db, session)).await? {}
        Ok(())
    }

    async fn set_cleaned(&self, session: SessionId) -> Result<(), StoreError> {
        self.in_turn(end::set_cleaned(&self.db, session)).await
    }

    async fn drop_idle_flows(&self, idle_seconds: f64, limit: i64) -> Result<u64, StoreError> {
        sql::within(end::drop_idle_flows(&self.db, idle_seconds, limit)).await
    }
}
