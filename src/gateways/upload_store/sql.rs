//! Statements, their values, and the deadline that every conversation with the database has.

use std::future::Future;
use std::time::Duration;

use sea_orm::sea_query::ArrayType;
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use uuid::Uuid;

use super::StoreError;
use crate::domain::ids::SessionId;

/// Above the server's own `statement_timeout`: a peer that is gone without a word must not hold a caller.
const DEADLINE: Duration = Duration::from_secs(12);

/// Runs one conversation within the deadline.
pub(super) async fn within<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Unavailable(format!("no answer within {DEADLINE:?}"))),
    }
}

/// A statement with its values.
pub(super) fn statement(sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

/// A `timestamptz` as RFC 3339 in UTC, in milliseconds; an expression for a column that is read as text.
pub(super) fn rfc3339(time: &str) -> String {
    format!("to_char({time} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')")
}

/// `uuid[]` of session ids.
pub(super) fn uuids(sessions: &[SessionId]) -> Value {
    uuid_array(sessions.iter().map(|session| session.0))
}

/// `uuid[]`
pub(super) fn uuid_array(ids: impl Iterator<Item = Uuid>) -> Value {
    array(ArrayType::Uuid, ids.map(Value::from))
}

/// `bigint[]`
pub(super) fn bigint_array(numbers: impl Iterator<Item = i64>) -> Value {
    array(ArrayType::BigInt, numbers.map(Value::from))
}

/// `bool[]`
pub(super) fn bool_array(answers: impl Iterator<Item = bool>) -> Value {
    array(ArrayType::Bool, answers.map(Value::from))
}

/// `text[]`
pub(super) fn text_array(texts: impl Iterator<Item = String>) -> Value {
    array(ArrayType::String, texts.map(Value::from))
}

/// `bytea[]`
pub(super) fn bytes_array(blobs: impl Iterator<Item = Vec<u8>>) -> Value {
    array(ArrayType::Bytes, blobs.map(Value::from))
}

fn array(kind: ArrayType, values: impl Iterator<Item = Value>) -> Value {
    Value::Array(kind, Some(Box::new(values.collect())))
}

/// Runs a write and compares how many rows it changed with how many it must.
pub(super) async fn write_exactly(
    db: &impl ConnectionTrait,
    write: Statement,
    expected: usize,
    what: &str,
) -> Result<(), StoreError> {
    exactly(db.execute_raw(write).await?.rows_affected(), expected, what)
}

/// The rows were locked: another number means that somebody changed them against the order of locks. Run again on what
/// is there now.
pub(super) fn exactly(changed: u64, expected: usize, what: &str) -> Result<(), StoreError> {
    if changed == expected as u64 {
        return Ok(());
    }
    Err(StoreError::Unavailable(format!("{what}: {changed} rows changed, expected {expected}")))
}
