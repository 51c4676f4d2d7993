//! What feeds read.

use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult};

use super::super::StoreError;
use super::super::rows::{self, get};
use super::super::sql::{bigint_array, bool_array, statement, uuid_array};
use super::{FeedRow, Told};
use crate::domain::feed::{Evidence, Work};
use crate::domain::ids::{Epoch, Generation, ReplicaId, SessionId};

const COLUMNS: &str = "session_id, owner, epoch, generation, flow_url, finish_sent_at IS NOT NULL AS finish_sent, \
     state, committed";

/// PostgreSQL compares, so that of thousands of sessions to which nothing happens nothing is sent.
pub(super) async fn news(
    db: &DatabaseConnection,
    me: ReplicaId,
    told: &[Told],
) -> Result<Vec<(SessionId, Option<FeedRow>)>, StoreError> {
    let query = format!(
        "SELECT t.id, {COLUMNS} FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bool[]) \
         AS t(id, told_epoch, told_committed, told_sealed) LEFT JOIN uploader.session ON session_id = t.id \
         WHERE (owner, epoch, committed, state) IS DISTINCT FROM \
         ($1, told_epoch, told_committed, CASE WHEN told_sealed THEN 'SEALED' ELSE 'OPEN' END)"
    );
    let values = [
        me.0.into(),
        uuid_array(told.iter().map(|told| told.session.0)),
        bigint_array(told.iter().map(|told| told.epoch.0)),
        bigint_array(told.iter().map(|told| told.committed)),
        bool_array(told.iter().map(|told| told.sealed)),
    ];
    db.query_all_raw(statement(&query, values)).await?.iter().map(news_of).collect()
}

fn news_of(row: &QueryResult) -> Result<(SessionId, Option<FeedRow>), StoreError> {
    let session = SessionId(get(row, "id")?);
    if get::<Option<uuid::Uuid>>(row, "session_id")?.is_none() {
        return Ok((session, None));
    }
    match feed_row(row) {
        Ok(row) => Ok((session, Some(row))),
        // A state that this program does not know belongs to no feed of its.
        Err(StoreError::Refused(_)) => Ok((session, None)),
        Err(error) => Err(error),
    }
}

/// A row that a locking read has to wait for is read in its newest version, unlike rows that are read beside it.
pub(super) async fn row_locked(
    db: &DatabaseConnection,
    session: SessionId,
) -> Result<Option<FeedRow>, StoreError> {
    let query = format!("SELECT {COLUMNS} FROM uploader.session WHERE session_id = $1 FOR NO KEY UPDATE");
    let found = db.query_one_raw(statement(&query, [session.0.into()])).await?;
    found.as_ref().map(feed_row).transpose()
}

fn feed_row(row: &QueryResult) -> Result<FeedRow, StoreError> {
    Ok(FeedRow {
        session: SessionId(get(row, "session_id")?),
        owner: get::<Option<uuid::Uuid>>(row, "owner")?.map(ReplicaId),
        epoch: Epoch(get(row, "epoch")?),
        generation: Generation(get(row, "generation")?),
        flow_url: get(row, "flow_url")?,
        finish_sent: get(row, "finish_sent")?,
        state: rows::state_of(&get::<String>(row, "state")?)?,
        committed: get(row, "committed")?,
    })
}

pub(super) async fn weigh(
    db: &DatabaseConnection,
    session: SessionId,
    work: Work,
) -> Result<Evidence, StoreError> {
    let kind = match work {
        Work::Push => "push",
        Work::Finish => "finish",
    };
    let query = format!(
        "SELECT EXISTS (SELECT 1 FROM uploader.fflow_replica r WHERE r.last_{kind}_ok > s.generation_at \
         AND r.last_{kind}_session <> s.session_id) AS worked, \
         NOT EXISTS (SELECT 1 FROM uploader.session o WHERE o.session_id <> s.session_id AND o.ended_at IS NULL \
         AND o.generation > 0 AND o.owner IS NOT NULL) AS lone \
         FROM uploader.session s WHERE s.session_id = $1"
    );
    let row = db.query_one_raw(statement(&query, [session.0.into()])).await?;
    // Without a row there is nothing to blame: the next guarded write finds out.
    row.map_or(Ok(Evidence { worked: false, lone: false }), |row| {
        Ok(Evidence { worked: get(&row, "worked")?, lone: get(&row, "lone")? })
    })
}
