//! The advisory lock under which replicas change what they have in common.

use std::time::Duration;

use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};

use crate::MigrationError;

/// How long to wait for another process: it makes tables or compares a marker, which takes seconds at most.
pub const LOCK_DEADLINE: Duration = Duration::from_secs(60);

/// Identifies the lock within a database: "uploader" in ASCII.
const KEY: i64 = 0x7570_6c6f_6164_6572;

/// PostgreSQL's code of a lock that was not obtained in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Takes the lock for the rest of the transaction, whose time limits it loosens to the deadline.
///
/// # Errors
/// [`MigrationError::Busy`] when another process holds the lock for longer than the deadline.
pub async fn lock(transaction: &DatabaseTransaction, deadline: Duration) -> Result<(), MigrationError> {
    let wait = deadline.as_millis().max(1);
    let limits = format!(
        "SET LOCAL lock_timeout = {wait}; SET LOCAL statement_timeout = {}; \
         SET LOCAL idle_in_transaction_session_timeout = {wait}",
        2 * wait
    );
    transaction.execute_unprepared(&limits).await?;
    let locked = transaction.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({KEY})")).await;
    locked.map(drop).map_err(|error| if is_timeout(&error) { MigrationError::Busy } else { error.into() })
}

fn is_timeout(error: &DbErr) -> bool {
    use sea_orm_migration::sea_orm::{RuntimeErr, sqlx};

    let (DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause))) = error
    else {
        return false;
    };
    matches!(&**cause, sqlx::Error::Database(refusal) if refusal.code().as_deref() == Some(LOCK_NOT_AVAILABLE))
}
