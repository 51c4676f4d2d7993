//! What a run of the janitor would do, read in one transaction that cannot write.

use std::time::Duration;

use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseConnection, DatabaseTransaction, IsolationLevel, QueryResult, Value,
};
use serde::Serialize;
use uuid::Uuid;

use super::super::rows::get;
use super::super::sql::{self, statement, uuids};
use super::super::{StoreError, pool};
use super::Folders;
use super::ends::{ORPHANED, REMOVED};
use super::judged::{JUDGED, THEIRS, UNFINISHED};
use crate::domain::ids::SessionId;

/// By what times things are judged, and how many of each are listed.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Time without activity after which a video is abandoned.
    pub video_ttl: Duration,
    /// How long ended sessions are remembered.
    pub tombstone_ttl: Duration,
    /// Most entries of each list.
    pub limit: u32,
}

/// How many there are, and the first of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed<T> {
    /// All of them.
    pub count: u64,
    /// The first, as many as were asked for.
    pub first: Vec<T>,
}

/// A video that would end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DoomedVideo {
    /// Which.
    pub video_id: Uuid,
    /// Its status now.
    pub status: String,
    /// Whether one of its flows plays: it would be BLOCKED, the others HIDDEN. Otherwise it would be deleted.
    pub blocked: bool,
    /// Time since its newest activity.
    pub idle_ms: u64,
    /// Its files.
    pub flows: u64,
    /// Those of them that ever got a chunk.
    pub sessions: u64,
}

/// A session of which something would be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DoomedSession {
    /// Which.
    pub session_id: Uuid,
    /// Where it stands.
    pub state: String,
    /// Why it ended, or would end.
    pub reason: Option<String>,
    /// Time since it ended, or since its newest activity if it has not.
    pub age_ms: u64,
}

/// An ffmpeg process that nobody wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OldStray {
    /// Its name.
    pub name: String,
    /// The replica it runs at; unknown if its create was never answered.
    pub base_url: Option<String>,
    /// How long it has been unwanted.
    pub age_ms: u64,
}

/// A replica of this service that is long dead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadReplica {
    /// Which.
    pub replica_id: Uuid,
    /// Its name.
    pub name: String,
    /// Time since its lease ended.
    pub lapsed_ms: u64,
}

/// What the database says a run would do. Sessions that the run itself ends are cleaned by it too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// Videos deleted or blocked.
    pub videos: Listed<DoomedVideo>,
    /// Sessions ended because somebody else removed their rows.
    pub removed_by_others: Listed<DoomedSession>,
    /// Failed sessions whose bytes would go.
    pub failed: Listed<DoomedSession>,
    /// Ended sessions whose route, spool or runs are there still.
    pub uncleaned: Listed<DoomedSession>,
    /// Tombstones past their time.
    pub tombstones: Listed<DoomedSession>,
    /// ffmpeg processes that would be deleted.
    pub strays: Listed<OldStray>,
    /// Dead replicas that would be forgotten.
    pub replicas: Listed<DeadReplica>,
    /// Why no upload counts as abandoned now, whatever its age.
    pub nothing_abandoned: Option<String>,
}

const VIDEOS: &str = "SELECT id, status, plays, sessions, flows, count(*) OVER () AS total, \
     (extract(epoch FROM clock_timestamp() - used) * 1000)::bigint AS age FROM judged ORDER BY id LIMIT $2";

const AGE: &str =
    "(extract(epoch FROM clock_timestamp() - coalesce(ended_at, last_activity)) * 1000)::bigint AS age";

const STRAYS: &str = "SELECT name, base_url, count(*) OVER () AS total, \
     (extract(epoch FROM clock_timestamp() - since) * 1000)::bigint AS age FROM uploader.stray ORDER BY name LIMIT $1";

const REPLICAS: &str = "SELECT replica_id, name, count(*) OVER () AS total, \
     (extract(epoch FROM clock_timestamp() - lease_until) * 1000)::bigint AS age FROM uploader.replica \
     WHERE lease_until < clock_timestamp() - interval '1 hour' ORDER BY lease_until LIMIT $1";

/// The farm must have been taking chunks without a gap, and still be.
const GAP: &str = "SELECT (SELECT (extract(epoch FROM clock_timestamp() - consuming_since) * 1000)::bigint \
       FROM uploader.service LIMIT 1) AS age, \
     EXISTS (SELECT 1 FROM uploader.replica WHERE consuming AND lease_until > clock_timestamp()) AS alive";

/// Reads what the janitor would do, and writes nothing.
pub struct PgPreview {
    db: DatabaseConnection,
}

impl PgPreview {
    /// Uses the pool `db`.
    pub fn new(db: DatabaseConnection) -> Self {
        PgPreview { db }
    }

    /// Everything at one moment.
    ///
    /// # Errors
    /// [`StoreError`], also when a list takes longer than `statement_timeout`.
    pub async fn look(&self, terms: Terms) -> Result<Preview, StoreError> {
        let (level, access) = (IsolationLevel::RepeatableRead, AccessMode::ReadOnly);
        let transaction = pool::begin_with(&self.db, Some(level), Some(access)).await?;
        let preview = Look { transaction: &transaction, terms }.all().await?;
        transaction.rollback().await?;
        Ok(preview)
    }

    /// Which of these folders of the spool a run would take: without rows, or made again by a late append.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn judge_folders(&self, folders: &[SessionId]) -> Result<Folders, StoreError> {
        let query = "SELECT k.id, s.session_id IS NULL AS unknown FROM unnest($1::uuid[]) AS k(id) \
             LEFT JOIN uploader.session s ON s.session_id = k.id \
             WHERE (s.session_id IS NULL AND NOT EXISTS (SELECT 1 FROM upload_sessions u WHERE u.id = k.id)) \
             OR (s.state IN ('DONE', 'EXPIRED') AND s.cleaned_at IS NOT NULL) \
             OR (s.state = 'FAILED' AND s.spool_gone_at IS NOT NULL) ORDER BY k.id";
        let read = async { Ok(self.db.query_all_raw(statement(query, [uuids(folders)])).await?) };
        let mut judged = Folders::default();
        for row in sql::within(read).await? {
            let list = if get(&row, "unknown")? { &mut judged.buried } else { &mut judged.late };
            list.push(SessionId(get(&row, "id")?));
        }
        Ok(judged)
    }
}

struct Look<'a> {
    transaction: &'a DatabaseTransaction,
    terms: Terms,
}

impl Look<'_> {
    async fn all(&self) -> Result<Preview, StoreError> {
        let (video_ttl, tombstone_ttl) =
            (self.terms.video_ttl.as_secs_f64(), self.terms.tombstone_ttl.as_secs_f64());
        let failed = "state = 'FAILED' AND spool_gone_at IS NULL \
             AND ended_at < clock_timestamp() - make_interval(secs => $2)";
        let due = "state IN ('DONE', 'EXPIRED') AND ended_at < clock_timestamp() - make_interval(secs => $2)";
        let uncleaned = "state IN ('DONE', 'EXPIRED') AND cleaned_at IS NULL";
        let mut removed = self.sessions(ORPHANED, None).await?;
        removed.first.iter_mut().for_each(|session| session.reason = Some(REMOVED.to_owned()));
        Ok(Preview {
            videos: self.videos().await?,
            removed_by_others: removed,
            failed: self.sessions(failed, Some(video_ttl)).await?,
            uncleaned: self.sessions(uncleaned, None).await?,
            tombstones: self.sessions(due, Some(tombstone_ttl)).await?,
            strays: self.listed(STRAYS, [self.limit()], stray).await?,
            replicas: self.listed(REPLICAS, [self.limit()], replica).await?,
            nothing_abandoned: self.gap().await?,
        })
    }

    fn limit(&self) -> Value {
        i64::from(self.terms.limit).into()
    }

    async fn videos(&self) -> Result<Listed<DoomedVideo>, StoreError> {
        let query = format!(
            "WITH page AS (SELECT id, status, created_at FROM videos WHERE {UNFINISHED} \
             AND created_at < clock_timestamp() - make_interval(secs => $1)), {THEIRS}, {JUDGED} {VIDEOS}"
        );
        let values = [self.terms.video_ttl.as_secs_f64().into(), self.limit()];
        self.listed(&query, values, video).await
    }

    async fn sessions(
        &self,
        condition: &str,
        seconds: Option<f64>,
    ) -> Result<Listed<DoomedSession>, StoreError> {
        let query = format!(
            "SELECT session_id, state, last_error, count(*) OVER () AS total, {AGE} FROM uploader.session \
             WHERE {condition} ORDER BY session_id LIMIT $1"
        );
        let values = std::iter::once(self.limit()).chain(seconds.map(Value::from));
        self.listed(&query, values, session).await
    }

    async fn listed<T>(
        &self,
        query: &str,
        values: impl IntoIterator<Item = Value>,
        read: impl Fn(&QueryResult) -> Result<T, StoreError>,
    ) -> Result<Listed<T>, StoreError> {
        let rows = async { Ok(self.transaction.query_all_raw(statement(query, values)).await?) };
        let rows = sql::within(rows).await?;
        let count = rows.first().map_or(Ok(0), |row| get::<i64>(row, "total"))?;
        Ok(Listed { count: count.unsigned_abs(), first: rows.iter().map(read).collect::<Result<_, _>>()? })
    }

    async fn gap(&self) -> Result<Option<String>, StoreError> {
        let rows = async { Ok(self.transaction.query_one_raw(statement(GAP, [])).await?) };
        let Some(row) = sql::within(rows).await? else {
            return Ok(None);
        };
        let since: Option<i64> = get(&row, "age")?;
        if !get::<bool>(&row, "alive")? {
            return Ok(Some("no replica is taking chunks".to_owned()));
        }
        let (taken, ttl) = (since.unwrap_or(0).unsigned_abs() / 1000, self.terms.video_ttl.as_secs());
        let short = taken < ttl;
        Ok(short.then(|| {
            format!("replicas have been taking chunks without a gap for {taken} s, not for {ttl} s")
        }))
    }
}

fn age(row: &QueryResult) -> Result<u64, StoreError> {
    Ok(get::<Option<i64>>(row, "age")?.unwrap_or(0).max(0).unsigned_abs())
}

fn video(row: &QueryResult) -> Result<DoomedVideo, StoreError> {
    Ok(DoomedVideo {
        video_id: get(row, "id")?,
        status: get(row, "status")?,
        blocked: get(row, "plays")?,
        idle_ms: age(row)?,
        flows: get::<i64>(row, "flows")?.unsigned_abs(),
        sessions: get::<i64>(row, "sessions")?.unsigned_abs(),
    })
}

fn session(row: &QueryResult) -> Result<DoomedSession, StoreError> {
    Ok(DoomedSession {
        session_id: get(row, "session_id")?,
        state: get(row, "state")?,
        reason: get(row, "last_error")?,
        age_ms: age(row)?,
    })
}

fn stray(row: &QueryResult) -> Result<OldStray, StoreError> {
    Ok(OldStray { name: get(row, "name")?, base_url: get(row, "base_url")?, age_ms: age(row)? })
}

fn replica(row: &QueryResult) -> Result<DeadReplica, StoreError> {
    Ok(DeadReplica { replica_id: get(row, "replica_id")?, name: get(row, "name")?, lapsed_ms: age(row)? })
}
