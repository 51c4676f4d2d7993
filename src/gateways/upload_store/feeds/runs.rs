//! Where the spool holds what feeds want to push. Replicas that take turns in a session's chunks make every push a
//! question; those of all feeds that come within a moment are asked as one.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection};
use tokio::sync::oneshot;
use tracing::Instrument;

use super::super::StoreError;
use super::super::rows::{self, get};
use super::super::sql::{self, bigint_array, statement, uuid_array};
use crate::domain::ids::SessionId;
use crate::gateways::spool::Run;

/// How long a question waits for others. A feed gathers bytes for ten times as long before it asks.
const GATHER: Duration = Duration::from_millis(25);
/// Questions in one statement.
const MOST: usize = 500;

type Answer = Result<Vec<Run>, StoreError>;

struct Question {
    session: SessionId,
    from: i64,
    to: i64,
    answer: oneshot::Sender<Answer>,
}

/// Takes questions and asks them together.
pub(super) struct RunsDesk {
    db: DatabaseConnection,
    waiting: Arc<Mutex<Vec<Question>>>,
}

impl RunsDesk {
    pub(super) fn new(db: DatabaseConnection) -> Self {
        RunsDesk { db, waiting: Arc::default() }
    }

    /// The runs that hold the bytes `[from, to)`, in order.
    pub(super) async fn ask(&self, session: SessionId, from: i64, to: i64) -> Answer {
        let (answer, told) = oneshot::channel();
        let first = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(Question { session, from, to, answer });
            waiting.len() == 1
        };
        if first {
            let (db, waiting) = (self.db.clone(), self.waiting.clone());
            // Whoever asked first may be gone before the others have their answer. The questions are no one feed's.
            tokio::spawn(answer_all(db, waiting).instrument(tracing::Span::none()));
        }
        told.await.unwrap_or_else(|_| Err(StoreError::Unavailable("a question was dropped".to_owned())))
    }
}

async fn answer_all(db: DatabaseConnection, waiting: Arc<Mutex<Vec<Question>>>) {
    tokio::time::sleep(GATHER).await;
    let mut questions = mem::take(&mut *waiting.lock().unwrap_or_else(PoisonError::into_inner));
    while !questions.is_empty() {
        let rest = questions.split_off(questions.len().min(MOST));
        let found = sql::within(look_up(&db, &questions)).await;
        answer(mem::replace(&mut questions, rest), found);
    }
}

/// One who no longer listens is a feed that has ended.
fn answer(questions: Vec<Question>, found: Result<BTreeMap<i64, Vec<Run>>, StoreError>) {
    match found {
        Ok(mut runs) => {
            for (number, question) in (1..).zip(questions) {
                let _ = question.answer.send(Ok(runs.remove(&number).unwrap_or_default()));
            }
        }
        Err(error) => {
            questions.into_iter().for_each(|question| drop(question.answer.send(Err(error.clone()))))
        }
    }
}

/// The runs of each question, by its number from 1 on. Runs do not overlap: the one that holds `from` is the last that
/// begins at or before it, and the key finds it.
async fn look_up(
    db: &DatabaseConnection,
    questions: &[Question],
) -> Result<BTreeMap<i64, Vec<Run>>, StoreError> {
    let query = "SELECT q.number, r.start, r.length, r.writer, r.position, r.record_end \
                 FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS q(id, since, upto, number) \
                 CROSS JOIN LATERAL (SELECT * FROM uploader.run WHERE session_id = q.id AND start < q.upto \
                 AND start >= coalesce((SELECT max(start) FROM uploader.run WHERE session_id = q.id \
                 AND start <= q.since), 0)) AS r ORDER BY q.number, r.start";
    let values = [
        uuid_array(questions.iter().map(|question| question.session.0)),
        bigint_array(questions.iter().map(|question| question.from)),
        bigint_array(questions.iter().map(|question| question.to)),
    ];
    let mut runs: BTreeMap<i64, Vec<Run>> = BTreeMap::new();
    for row in db.query_all_raw(statement(query, values)).await? {
        runs.entry(get(&row, "number")?).or_default().push(rows::run(&row)?);
    }
    Ok(runs)
}
