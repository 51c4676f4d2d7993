//! What feeds read.

use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult};

use super::super::StoreError;
use super::super::rows::{self, get};
use super::super::sql::{statement, uuids};
use super::FeedRow;
use crate::domain::feed::{Evidence, Work};
use crate::domain::ids::{Epoch, Generation, ReplicaId, SessionId};
use crate::gateways::spool::Run;

const COLUMNS: &str = "session_id, owner, epoch, generation, flow_url, finish_sent_at IS NOT NULL AS finish_sent, \
     state, committed";

pub(super) async fn rows(
    db: &DatabaseConnection,
    sessions: &[SessionId],
) -> Result<Vec<FeedRow>, StoreError> {
    let query = format!("SELECT {COLUMNS} FROM uploader.session WHERE session_id = ANY($1)");
    let found = db.query_all_raw(statement(&query, [uuids(sessions)])).await?;
    // A state that this program does not know belongs to no feed of its: the row is left out.
    found.iter().map(feed_row).filter(|row| !matches!(row, Err(StoreError::Refused(_)))).collect()
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

pub(super) async fn runs(
    db: &DatabaseConnection,
    session: SessionId,
    from: i64,
    to: i64,
) -> Result<Vec<Run>, StoreError> {
    // Runs do not overlap: the one that holds `from` is the last that begins at or before it, and the key finds it.
    let query = "SELECT start, length, writer, position, record_end FROM uploader.run \
                 WHERE session_id = $1 AND start < $3 AND start >= coalesce((SELECT max(start) FROM uploader.run \
                 WHERE session_id = $1 AND start <= $2), 0) ORDER BY start";
    let found = db.query_all_raw(statement(query, [session.0.into(), from.into(), to.into()])).await?;
    found.iter().map(rows::run).collect()
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
