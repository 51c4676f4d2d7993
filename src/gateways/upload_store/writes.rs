//! What a batch of chunks writes: one `unnest` statement per table.

use std::collections::BTreeSet;

use sea_orm::{ConnectionTrait, DatabaseTransaction, Value};

use super::rows::{self, flow_status_text};
use super::sql::{bigint_array, bytes_array, statement, text_array, uuid_array, write_exactly};
use super::{StoreError, sql};
use crate::domain::ids::SessionId;
use crate::domain::session::{OwnRow, Session, SharedRows};
use crate::domain::status::VideoStatus;
use crate::gateways::spool::Run;

/// One session's part of a batch.
pub(super) struct Change {
    id: SessionId,
    own: OwnRow,
    shared: SharedRows,
    run: Run,
    begins: bool,
    flow_turns: bool,
    video_turns: bool,
}

impl Change {
    /// From the rows before and after; `None` when there is nothing to write.
    pub(super) fn new(
        id: SessionId,
        before: &Session,
        after: &Session,
        shared: SharedRows,
        run: Run,
    ) -> Option<Self> {
        let was = before.shared?;
        Some(Change {
            id,
            own: after.own.clone()?,
            shared,
            run,
            begins: before.own.is_none(),
            flow_turns: was.flow_status != shared.flow_status,
            video_turns: was.video_status != shared.video_status,
        })
    }

    /// Bytes of the quota that this change takes.
    pub(super) fn reserves(&self) -> i64 {
        if self.begins { self.shared.total_bytes } else { 0 }
    }
}

/// Writes all changes of a batch; every row is locked, so the order within a statement does not matter.
pub(super) async fn write(transaction: &DatabaseTransaction, changes: &[Change]) -> Result<(), StoreError> {
    videos(transaction, changes).await?;
    flows(transaction, changes).await?;
    progress(transaction, changes).await
}

async fn videos(transaction: &DatabaseTransaction, changes: &[Change]) -> Result<(), StoreError> {
    let turning: BTreeSet<_> =
        changes.iter().filter(|change| change.video_turns).map(|change| change.shared.video.0).collect();
    if turning.is_empty() {
        return Ok(());
    }
    debug_assert!(changes.iter().all(|change| change.shared.video_status == VideoStatus::Uploading));
    let ids = uuid_array(turning.iter().copied());
    let update = statement("UPDATE videos SET status = 'UPLOADING' WHERE id = ANY($1)", [ids]);
    write_exactly(transaction, update, turning.len(), "videos").await
}

async fn flows(transaction: &DatabaseTransaction, changes: &[Change]) -> Result<(), StoreError> {
    const UPDATE: &str = "UPDATE flows SET status = x.status FROM unnest($1::uuid[], $2::text[]) AS x(id, status) \
         WHERE flows.id = x.id";
    let turning: Vec<_> = changes.iter().filter(|change| change.flow_turns).collect();
    if turning.is_empty() {
        return Ok(());
    }
    let values = [
        uuid_array(turning.iter().map(|change| change.shared.flow.0)),
        text_array(turning.iter().map(|change| flow_status_text(change.shared.flow_status))),
    ];
    write_exactly(transaction, statement(UPDATE, values), turning.len(), "flows").await
}

/// How far each session is: our row, the shared one and the run that holds the bytes, in one statement. The values of
/// one session stand in one row, so that the arrays are spread out once.
async fn progress(transaction: &DatabaseTransaction, changes: &[Change]) -> Result<(), StoreError> {
    const WRITE: &str = "WITH b AS MATERIALIZED (SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], \
         $4::bigint[], $5::text[], $6::bigint[], $7::bytea[], $8::bigint[], $9::bigint[], $10::uuid[], \
         $11::bigint[], $12::bigint[]) \
         AS b(id, flow, video, total, state, committed, recent, start, length, writer, position, record_end)), \
         s AS (INSERT INTO uploader.session AS s \
         (session_id, flow_id, video_id, total_bytes, state, committed, recent, last_activity) \
         SELECT id, flow, video, total, state, committed, recent, clock_timestamp() FROM b \
         ON CONFLICT (session_id) DO UPDATE SET state = excluded.state, committed = excluded.committed, \
         recent = excluded.recent, last_activity = excluded.last_activity WHERE s.state = 'OPEN' RETURNING 1), \
         u AS (UPDATE upload_sessions SET uploaded_bytes = b.committed FROM b WHERE upload_sessions.id = b.id \
         RETURNING 1), \
         r AS (INSERT INTO uploader.run (session_id, start, length, writer, position, record_end) \
         SELECT id, start, length, writer, position, record_end FROM b \
         ON CONFLICT (session_id, start) DO UPDATE SET length = excluded.length, record_end = excluded.record_end \
         RETURNING 1) \
         SELECT (SELECT count(*) FROM s) AS s, (SELECT count(*) FROM u) AS u, (SELECT count(*) FROM r) AS r";
    let row = transaction.query_one_raw(statement(WRITE, values(changes))).await?;
    let row =
        row.ok_or_else(|| StoreError::Unavailable("a batch was written without an answer".to_owned()))?;
    for (column, table) in [("s", "uploader.session"), ("u", "upload_sessions"), ("r", "uploader.run")] {
        sql::exactly(rows::get::<i64>(&row, column)? as u64, changes.len(), table)?;
    }
    Ok(())
}

fn values(changes: &[Change]) -> [Value; 12] {
    let runs = || changes.iter().map(|change| &change.run);
    [
        uuid_array(changes.iter().map(|change| change.id.0)),
        uuid_array(changes.iter().map(|change| change.shared.flow.0)),
        uuid_array(changes.iter().map(|change| change.shared.video.0)),
        bigint_array(changes.iter().map(|change| change.shared.total_bytes)),
        text_array(changes.iter().map(|change| change.own.state.as_str().to_owned())),
        bigint_array(changes.iter().map(|change| change.own.committed)),
        bytes_array(changes.iter().map(|change| change.own.recent.pack())),
        bigint_array(runs().map(|run| run.start)),
        bigint_array(runs().map(|run| run.length)),
        uuid_array(runs().map(|run| run.place.writer.0)),
        bigint_array(runs().map(|run| run.place.position)),
        bigint_array(runs().map(|run| run.place.record_end)),
    ]
}
