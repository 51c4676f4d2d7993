//! What all replicas know about the farm: the fflow replicas seen, when they last worked, and the ffmpeg processes that
//! nobody wants any more.

use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, QueryResult, Value};
use uuid::Uuid;

use super::{StoreError, sql};
use crate::domain::ids::{FlowName, SessionId};

/// An ffmpeg process that may exist and is no longer wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Its name.
    pub name: FlowName,
    /// Whose it was.
    pub session: SessionId,
    /// The replica it runs at; unknown if its create was never answered.
    pub base_url: Option<String>,
    /// How long it has been unwanted.
    pub age: Duration,
}

/// Steps that succeeded at one replica of fflow since the last report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worked {
    /// The replica.
    pub base: String,
    /// The newest session whose block was taken.
    pub push: Option<SessionId>,
    /// The newest session whose files were made.
    pub finish: Option<SessionId>,
}

/// Remembers the farm for all replicas.
#[async_trait]
pub trait FarmStore: Send + Sync {
    /// A replica of fflow answered just now.
    async fn saw_replica(&self, base: &str) -> Result<(), StoreError>;
    /// Steps succeeded just now, one entry for each replica.
    async fn worked(&self, evidence: Vec<Worked>) -> Result<(), StoreError>;
    /// Up to `limit` strays. They are picked by chance: those that cannot be deleted yet do not stand in the way of the
    /// others, and replicas that sweep at the same time seldom ask for the same (which would do no harm). No row stays
    /// locked, since a delete takes longer than a transaction may.
    async fn strays(&self, limit: u32) -> Result<Vec<Stray>, StoreError>;
    /// A stray is gone, or too old to care.
    async fn stray_gone(&self, name: &FlowName) -> Result<(), StoreError>;
    /// The replicas of fflow seen during the last day, the newest first; a bounded number.
    async fn known_replicas(&self) -> Result<Vec<String>, StoreError>;
    /// A process is no longer wanted. An address, once known, stays known.
    async fn add_stray(
        &self,
        name: &FlowName,
        session: SessionId,
        base: Option<&str>,
    ) -> Result<(), StoreError>;
}

const SAW_REPLICA: &str = "INSERT INTO uploader.fflow_replica (base_url, last_seen) VALUES ($1, clock_timestamp()) \
    ON CONFLICT (base_url) DO UPDATE SET last_seen = EXCLUDED.last_seen";

/// The nil id stands for none. Ordered, so that two replicas that report at once lock in the same order.
const WORKED: &str = "INSERT INTO uploader.fflow_replica \
    (base_url, last_seen, last_push_ok, last_push_session, last_finish_ok, last_finish_session) \
    SELECT base, clock_timestamp(), CASE WHEN push IS NOT NULL THEN clock_timestamp() END, push, \
           CASE WHEN finish IS NOT NULL THEN clock_timestamp() END, finish \
    FROM (SELECT base, NULLIF(p, $4) AS push, NULLIF(f, $4) AS finish \
          FROM unnest($1::text[], $2::uuid[], $3::uuid[]) AS told (base, p, f)) AS evidence ORDER BY base \
    ON CONFLICT (base_url) DO UPDATE SET last_seen = EXCLUDED.last_seen, \
      last_push_ok = COALESCE(EXCLUDED.last_push_ok, fflow_replica.last_push_ok), \
      last_push_session = COALESCE(EXCLUDED.last_push_session, fflow_replica.last_push_session), \
      last_finish_ok = COALESCE(EXCLUDED.last_finish_ok, fflow_replica.last_finish_ok), \
      last_finish_session = COALESCE(EXCLUDED.last_finish_session, fflow_replica.last_finish_session)";

const STRAYS: &str = "SELECT name, session_id, base_url, \
    GREATEST(EXTRACT(EPOCH FROM clock_timestamp() - since), 0)::bigint AS age \
    FROM uploader.stray ORDER BY random() LIMIT $1";

const STRAY_GONE: &str = "DELETE FROM uploader.stray WHERE name = $1";

const KNOWN_REPLICAS: &str = "SELECT base_url FROM uploader.fflow_replica \
    WHERE last_seen > clock_timestamp() - interval '1 day' ORDER BY last_seen DESC LIMIT 64";

const ADD_STRAY: &str = "INSERT INTO uploader.stray (name, session_id, base_url, since) \
    VALUES ($1, $2, $3, clock_timestamp()) \
    ON CONFLICT (name) DO UPDATE SET base_url = COALESCE(EXCLUDED.base_url, stray.base_url)";

/// The farm in PostgreSQL.
#[derive(Clone)]
pub struct PgFarmStore {
    db: DatabaseConnection,
}

impl PgFarmStore {
    /// On this pool, whose connections have their timeouts set.
    pub fn new(db: DatabaseConnection) -> Self {
        PgFarmStore { db }
    }

    async fn query(&self, query: &str, values: Vec<Value>) -> Result<Vec<QueryResult>, StoreError> {
        sql::within(async { Ok(self.db.query_all_raw(sql::statement(query, values)).await?) }).await
    }

    async fn execute(&self, query: &str, values: Vec<Value>) -> Result<(), StoreError> {
        sql::within(async {
            self.db.execute_raw(sql::statement(query, values)).await?;
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl FarmStore for PgFarmStore {
    async fn saw_replica(&self, base: &str) -> Result<(), StoreError> {
        self.execute(SAW_REPLICA, vec![base.into()]).await
    }

    async fn worked(&self, evidence: Vec<Worked>) -> Result<(), StoreError> {
        let bases: Vec<String> = evidence.iter().map(|worked| worked.base.clone()).collect();
        let pushes: Vec<Uuid> = evidence.iter().map(|worked| id_or_nil(worked.push)).collect();
        let finishes: Vec<Uuid> = evidence.iter().map(|worked| id_or_nil(worked.finish)).collect();
        self.execute(WORKED, vec![bases.into(), pushes.into(), finishes.into(), Uuid::nil().into()]).await
    }

    async fn strays(&self, limit: u32) -> Result<Vec<Stray>, StoreError> {
        let rows = self.query(STRAYS, vec![i64::from(limit).into()]).await?;
        Ok(rows.iter().map(stray).collect::<Result<_, _>>()?)
    }

    async fn stray_gone(&self, name: &FlowName) -> Result<(), StoreError> {
        self.execute(STRAY_GONE, vec![name.as_str().into()]).await
    }

    async fn known_replicas(&self) -> Result<Vec<String>, StoreError> {
        let rows = self.query(KNOWN_REPLICAS, Vec::new()).await?;
        Ok(rows.iter().map(|row| row.try_get("", "base_url")).collect::<Result<_, _>>()?)
    }

    async fn add_stray(
        &self,
        name: &FlowName,
        session: SessionId,
        base: Option<&str>,
    ) -> Result<(), StoreError> {
        let base = base.map(str::to_owned);
        self.execute(ADD_STRAY, vec![name.as_str().into(), session.0.into(), base.into()]).await
    }
}

fn id_or_nil(session: Option<SessionId>) -> Uuid {
    session.map_or_else(Uuid::nil, |session| session.0)
}

fn stray(row: &QueryResult) -> Result<Stray, DbErr> {
    let age: i64 = row.try_get("", "age")?;
    Ok(Stray {
        name: FlowName::from_stored(row.try_get("", "name")?),
        session: SessionId(row.try_get("", "session_id")?),
        base_url: row.try_get("", "base_url")?,
        age: Duration::from_secs(age.unsigned_abs()),
    })
}
