//! Where the spool holds what feeds want to push. Replicas that take turns in a session's chunks make every push a
//! question; those of all feeds that come within a moment are asked as one.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection};
use tokio::sync::oneshot;
use tracing::Instrument;

use super::super::StoreError;
use super::super::rows::{self, get};
use super::super::sql::{self, bigint_array, statement, uuid_array};
use super::TURN;
use crate::domain::ids::SessionId;
use crate::gateways::spool::Run;

/// How long a question waits for others. A feed that catches up asks every 62 ms at most, by its default pace.
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

/// Takes questions and asks them together, one statement at a time.
pub(super) struct RunsDesk {
    db: DatabaseConnection,
    line: Arc<Mutex<Line>>,
}

#[derive(Default)]
struct Line {
    waiting: Vec<Question>,
    served: bool,
}

impl RunsDesk {
    pub(super) fn new(db: DatabaseConnection) -> Self {
        RunsDesk { db, line: Arc::default() }
    }

    /// The runs that hold the bytes `[from, to)`, in order.
    pub(super) async fn ask(&self, session: SessionId, from: i64, to: i64) -> Answer {
        let (answer, answered) = oneshot::channel();
        let served = {
            let mut line = locked(&self.line);
            line.waiting.push(Question { session, from, to, answer });
            mem::replace(&mut line.served, true)
        };
        if !served {
            let serving = Serving { db: self.db.clone(), line: self.line.clone(), done: false };
            // Whoever asked first may be gone before the others have their answer. The questions are no one feed's.
            tokio::spawn(serving.run().instrument(tracing::Span::none()));
        }
        match tokio::time::timeout(TURN, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(StoreError::Unavailable("a question was given up".to_owned())),
            Err(_) => Err(StoreError::Unavailable(format!("a question had no answer within {TURN:?}"))),
        }
    }
}

/// Answers for as long as somebody asks.
struct Serving {
    db: DatabaseConnection,
    line: Arc<Mutex<Line>>,
    done: bool,
}

impl Serving {
    async fn run(mut self) {
        loop {
            tokio::time::sleep(GATHER).await;
            let Some(questions) = self.next() else { return };
            answer(&self.db, questions).await;
        }
    }

    fn next(&mut self) -> Option<Vec<Question>> {
        let mut line = locked(&self.line);
        let count = line.waiting.len().min(MOST);
        line.served = count > 0;
        self.done = !line.served;
        line.served.then(|| line.waiting.drain(..count).collect())
    }
}

impl Drop for Serving {
    /// Nobody waits for one who is gone, whyever: what was asked meanwhile is given up, and the next one who asks is
    /// served.
    fn drop(&mut self) {
        if !self.done {
            *locked(&self.line) = Line::default();
        }
    }
}

fn locked(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of questions that are refused together each half is asked for itself, until the one that is at fault is alone. One who
/// no longer listens is a feed that has ended.
async fn answer(db: &DatabaseConnection, questions: Vec<Question>) {
    let mut parts = vec![questions];
    while let Some(mut questions) = parts.pop() {
        match sql::within(look_up(db, &questions)).await {
            Ok(mut runs) => {
                for (number, question) in (1..).zip(questions) {
                    let _ = question.answer.send(Ok(runs.remove(&number).unwrap_or_default()));
                }
            }
            Err(StoreError::Refused(_)) if questions.len() > 1 => {
                parts.push(questions.split_off(questions.len() / 2));
                parts.push(questions);
            }
            Err(error) => {
                questions.into_iter().for_each(|question| drop(question.answer.send(Err(error.clone()))));
            }
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
