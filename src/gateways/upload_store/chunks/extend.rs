//! The usual chunk, neither a session's first nor its last, in one statement: compare under the lock, then write.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, Value};

use super::{Outcome, Progress};
use crate::domain::chunk::ChunkFacts;
use crate::domain::ids::{ReplicaId, SessionId};
use crate::domain::recent::Recent;
use crate::domain::run::Run;
use crate::domain::session::{Next, OwnRow, Session, SharedRows};
use crate::domain::status::{FlowStatus, SessionState, VideoStatus};
use crate::gateways::spool::Stored;
use crate::gateways::upload_store::StoreError;
use crate::gateways::upload_store::rows;
use crate::gateways::upload_store::sql::{self, bigint_array, bytes_array, statement, uuid_array};

/// One more chunk of a session whose rows were seen a moment ago. Nothing but how far it is changes.
#[derive(Debug, Clone)]
pub struct Extension {
    id: SessionId,
    before: i64,
    chunk: ChunkFacts,
    own: OwnRow,
    shared: SharedRows,
    run: Run,
    supposed: bool,
}

impl Extension {
    /// What `stored` makes of a session last seen as `seen`, if by `judge` it is to be taken and turns no status.
    pub fn of(
        seen: &Progress,
        stored: &Stored,
        judge: impl Fn(&Session, &Stored) -> (Session, Next),
    ) -> Option<Self> {
        let (after, Next::Accept(admission)) = judge(&seen.session, stored) else {
            return None;
        };
        let (before, own, shared) = (seen.session.own.as_ref()?, after.own?, after.shared?);
        let plain = !admission.first() && !admission.last() && own.state == SessionState::Open;
        let uploading = seen.session.shared
            == Some(SharedRows { uploaded_bytes: before.committed, ..shared })
            && shared.flow_status == FlowStatus::Uploading
            && shared.video_status == VideoStatus::Uploading;
        let chunk = stored.facts();
        let run = Run::holding(seen.run.as_ref(), &chunk, stored.place());
        let (id, before, supposed) = (chunk.session, before.committed, seen.supposed);
        (plain && uploading).then_some(Extension { id, before, chunk, own, shared, run, supposed })
    }

    /// Which session.
    pub fn session(&self) -> SessionId {
        self.id
    }

    /// Whether the session is as it was seen: what [`EXTEND`] compares.
    pub fn fits(&self, session: &Session) -> bool {
        let open = session
            .own
            .as_ref()
            .is_some_and(|own| own.state == SessionState::Open && own.committed == self.before);
        open && session.shared == Some(SharedRows { uploaded_bytes: self.before, ..self.shared })
    }

    /// Whether the bytes before it were only supposed: its newest chunks are not known then.
    pub fn supposed(&self) -> bool {
        self.supposed
    }

    /// The chunk that does it.
    pub fn chunk(&self) -> &ChunkFacts {
        &self.chunk
    }

    /// The session once it is written: fed by `owner`, and its newest chunks, where they were not known before.
    pub fn after(&self, owner: Option<ReplicaId>, recent: Option<Recent>) -> Progress {
        let mut own = OwnRow { owner, ..self.own.clone() };
        own.recent = recent.unwrap_or(own.recent);
        let session = Session { own: Some(own), shared: Some(self.shared), unreadable: None };
        Progress { session, run: Some(self.run), supposed: false }
    }
}

/// `fit` are the chunks whose rows are as they were seen: PostgreSQL compares a locked row in its newest version. All that
/// `domain::session::decide` goes by is compared; the newest chunks and the last run change with `committed` only. Of a
/// chunk whose rows are held or different nothing is written, of any other all three writes are done. Nothing waits for a
/// lock, so the order of locks does not matter. The newest chunks are kept as `domain::recent` does: 28 bytes each, the
/// oldest of more than 16 dropped. A row in which they have another length is left to a look, which names it.
///
/// A planner knows nothing of the batch's size, and little of the tables': given a join it compares everything with
/// everything. Rows that are locked inside a `LATERAL` are found anew for each chunk, by key.
pub const EXTEND: &str = "WITH \
     b AS MATERIALIZED (SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[], \
         $6::bigint[], $7::bigint[], $8::uuid[], $9::bigint[], $10::bigint[], $11::bool[]) \
         AS b(id, before, total, committed, chunk, start, length, writer, position, record_end, supposed)), \
     fit AS MATERIALIZED (SELECT b.* FROM b CROSS JOIN LATERAL (SELECT FROM uploader.session s \
         JOIN upload_sessions u ON u.id = s.session_id \
         JOIN flows f ON f.id = u.flow_id JOIN videos v ON v.id = f.video_id \
         WHERE s.session_id = b.id AND s.state = 'OPEN' AND s.committed = b.before \
         AND octet_length(s.recent) % 28 = 0 AND octet_length(s.recent) <= 448 \
         AND u.uploaded_bytes = b.before AND u.total_bytes = b.total \
         AND f.status = 'UPLOADING' AND v.status = 'UPLOADING' \
         FOR NO KEY UPDATE OF s, u SKIP LOCKED) AS seen), \
     w AS (UPDATE uploader.session AS t SET committed = fit.committed, \
         recent = substring(t.recent || fit.chunk FROM greatest(1, octet_length(t.recent) - 419)), \
         last_activity = clock_timestamp() FROM fit WHERE t.session_id = fit.id \
         RETURNING t.session_id AS id, t.owner, CASE WHEN fit.supposed THEN t.recent END AS recent), \
     p AS (UPDATE upload_sessions AS t SET uploaded_bytes = fit.committed FROM fit WHERE t.id = fit.id), \
     r AS (INSERT INTO uploader.run AS t (session_id, start, length, writer, position, record_end) \
         SELECT id, start, length, writer, position, record_end FROM fit \
         ON CONFLICT (session_id, start) DO UPDATE SET length = excluded.length, record_end = excluded.record_end) \
     SELECT id, owner, recent FROM w";

pub(super) async fn extend(db: &DatabaseConnection, batch: &[Extension]) -> Result<Vec<Outcome>, StoreError> {
    let written = db.query_all_raw(statement(EXTEND, values(batch))).await?;
    let mut rows = written.iter().map(written_row).collect::<Result<HashMap<_, _>, _>>()?;
    let outcome = |extension: &Extension| match rows.remove(&extension.id) {
        Some((owner, recent)) => Outcome::Committed(extension.after(owner, recent)),
        None => Outcome::NotNow,
    };
    Ok(batch.iter().map(outcome).collect())
}

/// What a written row tells: its session's owner, and its newest chunks if they were not known.
type Told = (Option<ReplicaId>, Option<Recent>);

fn written_row(row: &QueryResult) -> Result<(SessionId, Told), StoreError> {
    let owner: Option<uuid::Uuid> = rows::get(row, "owner")?;
    let packed: Option<Vec<u8>> = rows::get(row, "recent")?;
    let recent = packed.and_then(|packed| Recent::unpack(&packed));
    Ok((SessionId(rows::get(row, "id")?), (owner.map(ReplicaId), recent)))
}

/// The parameters of [`EXTEND`].
pub fn values(batch: &[Extension]) -> [Value; 11] {
    let runs = || batch.iter().map(|extension| &extension.run);
    [
        sql::uuids(&batch.iter().map(|extension| extension.id).collect::<Vec<_>>()),
        bigint_array(batch.iter().map(|extension| extension.before)),
        bigint_array(batch.iter().map(|extension| extension.shared.total_bytes)),
        bigint_array(batch.iter().map(|extension| extension.own.committed)),
        bytes_array(batch.iter().map(|extension| Recent::packed(&extension.chunk))),
        bigint_array(runs().map(|run| run.start)),
        bigint_array(runs().map(|run| run.length)),
        uuid_array(runs().map(|run| run.place.writer.0)),
        bigint_array(runs().map(|run| run.place.position)),
        bigint_array(runs().map(|run| run.place.record_end)),
        sql::bool_array(batch.iter().map(|extension| extension.supposed)),
    ]
}

#[cfg(test)]
mod tests;
