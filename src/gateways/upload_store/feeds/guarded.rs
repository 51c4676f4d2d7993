//! The writes of a feed to its own row, each one statement that changes nothing unless the row is still its own.

use sea_orm::Value;

use super::Guard;
use crate::domain::feed::Numbering;
use crate::domain::route::FlowUrl;

/// A statement, and the values that follow the guard's.
pub(super) type Query = (String, Vec<Value>);

/// The guard of every write of a feed: `$1` session, `$2` epoch, `$3` owner, `$4` generation.
pub const GUARD: &str =
    "session_id = $1 AND epoch = $2 AND owner = $3 AND generation = $4 AND state IN ('OPEN', 'SEALED')";

impl Guard {
    pub(super) fn values(&self) -> [Value; 4] {
        [self.session.0.into(), self.epoch.0.into(), self.owner.0.into(), self.generation.0.into()]
    }
}

/// The next generation, and the old name's stray.
pub(super) fn number(numbering: &Numbering) -> Query {
    let failing = match numbering.failing {
        None => "failing_since",
        Some(true) => "coalesce(failing_since, clock_timestamp())",
        Some(false) => "NULL",
    };
    let query = format!(
        "WITH numbered AS (UPDATE uploader.session SET generation = $5, generation_at = clock_timestamp(), \
         flow_url = NULL, fed = 0, settled = false, finish_sent_at = NULL, farthest = $6, strikes = $7, \
         next_attempt_at = clock_timestamp() + make_interval(secs => $8), \
         last_error = coalesce($9, last_error), failing_since = {failing} WHERE {GUARD} RETURNING session_id), \
         stray AS (INSERT INTO uploader.stray (name, session_id, base_url) \
         SELECT $10, session_id, $11 FROM numbered WHERE $10 IS NOT NULL ON CONFLICT (name) DO NOTHING) \
         SELECT session_id FROM numbered"
    );
    let own = vec![
        numbering.generation.0.into(),
        numbering.farthest.into(),
        numbering.strikes.into(),
        numbering.pause.as_secs_f64().into(),
        numbering.error.clone().into(),
        numbering.stray.as_ref().map(|name| name.as_str().to_owned()).into(),
        numbering.stray_base.clone().into(),
    ];
    (query, own)
}

/// The current generation's address.
pub(super) fn record(url: &FlowUrl) -> Query {
    let query = format!("UPDATE uploader.session SET flow_url = $5 WHERE {GUARD}");
    (query, vec![url.as_str().into()])
}

/// A finish is about to be asked for.
pub(super) fn mark_finish() -> Query {
    let query = format!("UPDATE uploader.session SET finish_sent_at = clock_timestamp() WHERE {GUARD}");
    (query, Vec::new())
}

/// Gives the session up; what was fed counts only if it is `settled`.
pub(super) fn release(settled: bool, fed: i64) -> Query {
    let query = format!(
        "UPDATE uploader.session SET owner = NULL, settled = $5, fed = $6, \
         finish_sent_at = CASE WHEN $5 THEN NULL ELSE finish_sent_at END WHERE {GUARD}"
    );
    (query, vec![settled.into(), if settled { fed } else { 0 }.into()])
}
