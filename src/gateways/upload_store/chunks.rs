//! The chunk road's statements: one unlocked look; one statement for chunks that only extend their sessions; one
//! transaction for a batch of any others.

mod extend;

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction};

use super::sql::{self, statement, uuids};
use super::{StoreError, pool, rows, writes};
use crate::domain::ids::{FlowId, SessionId, VideoId};
use crate::domain::session::{Next, Session};
use crate::gateways::spool::{Run, Stored};

pub use extend::{EXTEND, Extension, values as extend_values};

/// What one unlocked read showed.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Every session asked for; unknown ones are there with nothing in them, and so are those that cannot be read.
    pub sessions: HashMap<SessionId, Session>,
    /// Their last runs, if they have any.
    pub last_runs: HashMap<SessionId, Run>,
    /// Bytes that sessions with a spool have reserved; read only when a session without a row was asked for.
    pub reserved: i64,
}

impl Look {
    fn has_newcomers(&self) -> bool {
        self.sessions.values().any(|session| session.own.is_none())
    }
}

/// Judges a stored chunk on locked rows, given the bytes reserved so far.
pub type Judge<'a> = &'a (dyn Fn(&Session, &Stored, i64) -> (Session, Next) + Send + Sync);

/// What became of one stored chunk in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is part of the upload now, for good.
    Committed(Progress),
    /// Somebody holds one of its rows, or its place in the upload changed: look again.
    NotNow,
    /// The locked rows call for another answer.
    Other(Next),
}

/// How far an upload has come, and where its newest bytes are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The rows as they were seen or written.
    pub session: Session,
    /// The last run, if there is one.
    pub run: Option<Run>,
    /// Only supposed: somebody else is taken to have stored all bytes before `committed`. The newest chunks and the last
    /// run are not known then.
    pub supposed: bool,
}

impl Progress {
    /// The same session as it is once others have stored its bytes up to `start`.
    pub fn supposing(&self, start: i64) -> Progress {
        let mut session = self.session.clone();
        session.own.iter_mut().for_each(|own| own.committed = start);
        session.shared.iter_mut().for_each(|shared| shared.uploaded_bytes = start);
        Progress { session, run: None, supposed: true }
    }
}

/// Admits chunks: the only way to change how far an upload has come.
#[async_trait]
pub trait ChunkStore: Send + Sync {
    /// Reads sessions without locks.
    async fn look(&self, sessions: &[SessionId]) -> Result<Look, StoreError>;

    /// Commits a batch of chunks that turn no status, at most one per session, if their sessions are as they were seen;
    /// outcomes in the batch's order. After an error nothing is known of any of them: look again.
    async fn extend(&self, batch: &[Extension]) -> Result<Vec<Outcome>, StoreError>;

    /// Commits a batch, at most one chunk per session, in one transaction; outcomes in the batch's order.
    /// After an error nothing is known of any of them: look again.
    async fn commit(&self, batch: &[Stored], judge: Judge<'_>) -> Result<Vec<Outcome>, StoreError>;

    /// Bytes that all sessions with a spool have reserved.
    async fn reserved(&self) -> Result<i64, StoreError>;
}

/// [`ChunkStore`] on PostgreSQL.
pub struct PgChunkStore {
    db: DatabaseConnection,
}

impl PgChunkStore {
    /// Uses the pool `db`.
    pub fn new(db: DatabaseConnection) -> Self {
        PgChunkStore { db }
    }
}

#[async_trait]
impl ChunkStore for PgChunkStore {
    async fn look(&self, sessions: &[SessionId]) -> Result<Look, StoreError> {
        sql::within(async {
            let mut look = read(&self.db, sessions).await?;
            if look.has_newcomers() {
                look.reserved = reserved(&self.db).await?;
            }
            Ok(look)
        })
        .await
    }

    async fn extend(&self, batch: &[Extension]) -> Result<Vec<Outcome>, StoreError> {
        sql::within(extend::extend(&self.db, batch)).await
    }

    async fn commit(&self, batch: &[Stored], judge: Judge<'_>) -> Result<Vec<Outcome>, StoreError> {
        sql::within(async {
            let transaction = pool::begin(&self.db).await?;
            let locked = lock(&transaction, batch).await?;
            let (outcomes, changes) = judge_all(batch, locked, judge);
            if changes.is_empty() {
                transaction.rollback().await?;
            } else {
                writes::write(&transaction, &changes).await?;
                transaction.commit().await?;
            }
            Ok(outcomes)
        })
        .await
    }

    async fn reserved(&self) -> Result<i64, StoreError> {
        sql::within(reserved(&self.db)).await
    }
}

/// The bytes of all sessions whose spool is not gone.
pub(super) async fn reserved(db: &impl ConnectionTrait) -> Result<i64, StoreError> {
    let query = "SELECT coalesce(sum(total_bytes), 0)::bigint AS reserved FROM uploader.session \
                 WHERE state IN ('OPEN', 'SEALED') OR (cleaned_at IS NULL AND spool_gone_at IS NULL)";
    let row = db.query_one_raw(statement(query, [])).await?;
    row.map_or(Ok(0), |row| rows::get(&row, "reserved"))
}

/// What a batch holds locked, and what the locked rows say.
struct Locked {
    videos: HashSet<VideoId>,
    own: HashSet<SessionId>,
    flows: HashSet<FlowId>,
    shared: HashSet<SessionId>,
    /// The rows, read once they are locked.
    look: Look,
    /// Bytes reserved so far; known only where this transaction may reserve more.
    reserved: Option<i64>,
}

/// Locks all rows of a batch in one statement, in the one order: videos, session, flows, upload_sessions. No lock is
/// waited for, so none can be part of a deadlock. What depends on the locks is read after them.
async fn lock(transaction: &DatabaseTransaction, batch: &[Stored]) -> Result<Locked, StoreError> {
    let all: Vec<SessionId> = batch.iter().map(|stored| stored.facts().session).collect();
    let turning: Vec<SessionId> = batch
        .iter()
        .filter(|stored| stored.admission().first() || stored.admission().last())
        .map(|stored| stored.facts().session)
        .collect();
    let found = transaction.query_all_raw(statement(LOCK, [uuids(&all), uuids(&turning)])).await?;
    let mut locked = Locked::nothing();
    for row in &found {
        let id = rows::get(row, "id")?;
        match rows::get::<i32>(row, "of")? {
            OF_VIDEOS => drop(locked.videos.insert(VideoId(id))),
            OF_SESSIONS => drop(locked.own.insert(SessionId(id))),
            OF_FLOWS => drop(locked.flows.insert(FlowId(id))),
            _ => drop(locked.shared.insert(SessionId(id))),
        }
    }
    locked.look = read(transaction, &all).await?;
    if locked.look.has_newcomers() && try_reserving(transaction).await? {
        locked.reserved = Some(reserved(transaction).await?);
    }
    Ok(locked)
}

const OF_VIDEOS: i32 = 1;
const OF_SESSIONS: i32 = 2;
const OF_FLOWS: i32 = 3;
/// Only chunks that turn a status (`$2`) need the rows of flow and video.
const LOCK: &str = "WITH \
     v AS MATERIALIZED (SELECT id FROM videos WHERE id IN (SELECT f.video_id FROM upload_sessions u \
         JOIN flows f ON f.id = u.flow_id WHERE u.id = ANY($2)) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED), \
     s AS MATERIALIZED (SELECT session_id AS id FROM uploader.session WHERE session_id = ANY($1) \
         ORDER BY session_id FOR NO KEY UPDATE SKIP LOCKED), \
     f AS MATERIALIZED (SELECT id FROM flows WHERE id IN (SELECT flow_id FROM upload_sessions WHERE id = ANY($2)) \
         ORDER BY id FOR NO KEY UPDATE SKIP LOCKED), \
     u AS MATERIALIZED (SELECT id FROM upload_sessions WHERE id = ANY($1) ORDER BY id \
         FOR NO KEY UPDATE SKIP LOCKED) \
     SELECT 1 AS of, id FROM v UNION ALL SELECT 2, id FROM s UNION ALL SELECT 3, id FROM f \
     UNION ALL SELECT 4, id FROM u";

/// Sessions and their last runs.
async fn read(db: &impl ConnectionTrait, sessions: &[SessionId]) -> Result<Look, StoreError> {
    let query = format!(
        "SELECT {}, r.start, r.length, r.writer, r.position, r.record_end \
         FROM unnest($1::uuid[]) AS k(id) {} \
         LEFT JOIN LATERAL (SELECT * FROM uploader.run WHERE session_id = k.id ORDER BY start DESC LIMIT 1) r ON true",
        rows::SESSION_COLUMNS,
        rows::SESSION_JOINS
    );
    let found = db.query_all_raw(statement(&query, [uuids(sessions)])).await?;
    let mut look = Look { sessions: rows::sessions(&found)?, ..Look::default() };
    for row in &found {
        if rows::get::<Option<i64>>(row, "start")?.is_some() {
            look.last_runs.insert(SessionId(rows::get(row, "id")?), rows::run(row)?);
        }
    }
    Ok(look)
}

/// Gives the right to reserve to one transaction at a time: none sees what another is about to reserve, and two would
/// give the same room away. Nobody waits for it; whoever does not get it tries again with a later batch.
async fn try_reserving(transaction: &DatabaseTransaction) -> Result<bool, StoreError> {
    let query = format!("SELECT pg_try_advisory_xact_lock({RESERVING}) AS mine");
    let row = transaction.query_one_raw(statement(&query, [])).await?;
    row.map_or(Ok(false), |row| rows::get(&row, "mine"))
}

/// Identifies the right within a database: "reserves" in ASCII.
const RESERVING: i64 = 0x7265_7365_7276_6573;

fn judge_all(batch: &[Stored], mut locked: Locked, judge: Judge<'_>) -> (Vec<Outcome>, Vec<writes::Change>) {
    let mut changes = Vec::with_capacity(batch.len());
    let outcomes = batch
        .iter()
        .map(|stored| {
            let before = locked.look.sessions.remove(&stored.facts().session).unwrap_or_default();
            let (outcome, change) = judge_one(stored, before, &locked, judge);
            if let Some(change) = change {
                locked.reserved = locked.reserved.map(|reserved| reserved + change.reserves());
                changes.push(change);
            }
            outcome
        })
        .collect();
    (outcomes, changes)
}

fn judge_one(
    stored: &Stored,
    before: Session,
    locked: &Locked,
    judge: Judge<'_>,
) -> (Outcome, Option<writes::Change>) {
    let id = stored.facts().session;
    let unlocked = (before.own.is_some() && !locked.own.contains(&id))
        || (before.shared.is_some() && !locked.shared.contains(&id));
    if unlocked {
        return (Outcome::NotNow, None);
    }
    let (after, next) = judge(&before, stored, locked.reserved.unwrap_or(0));
    let Next::Accept(admission) = &next else {
        return (Outcome::Other(next), None);
    };
    if admission.first() && locked.reserved.is_none() {
        return (Outcome::NotNow, None);
    }
    let turns = admission.first() || admission.last();
    let Some(shared) = after.shared.filter(|rows| !turns || locked.turn(rows.video, rows.flow)) else {
        return (Outcome::NotNow, None);
    };
    let run = Run::holding(locked.look.last_runs.get(&id), &stored.facts(), stored.place());
    match writes::Change::new(id, &before, &after, shared, run) {
        Some(change) => {
            (Outcome::Committed(Progress { session: after, run: Some(run), supposed: false }), Some(change))
        }
        None => (Outcome::NotNow, None),
    }
}

impl Locked {
    fn nothing() -> Self {
        Locked {
            videos: HashSet::new(),
            own: HashSet::new(),
            flows: HashSet::new(),
            shared: HashSet::new(),
            look: Look::default(),
            reserved: None,
        }
    }

    fn turn(&self, video: VideoId, flow: FlowId) -> bool {
        self.videos.contains(&video) && self.flows.contains(&flow)
    }
}
