//! Makes the schema `uploader`, and on request the tables that the whole system shares.
//!
//! [`up`] touches nothing outside the schema `uploader`, its own bookkeeping included. [`shared_tables`] makes those
//! shared tables that are absent; nothing else ever creates or changes them. Both may run in several processes at
//! once and any number of times: an advisory lock lets one work at a time, and each does its work in one transaction.
//!
//! Steps only add. A program runs on a schema one version newer than it knows, so that replicas can be replaced one
//! after another, and refuses an older one.

mod lock;
mod m0001_uploader_schema;
mod shared;
mod version;

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{DatabaseConnection, DatabaseTransaction, TransactionTrait};
use thiserror::Error;

pub use lock::{LOCK_DEADLINE, lock};
pub use shared::{ByteColumns, SHARED_TABLES, shared_tables, shared_tables_present};
pub use version::{SCHEMA_VERSION, SchemaState, check};

/// The schema cannot be made or used.
#[derive(Debug, Error)]
pub enum MigrationError {
    /// Another process has held the migrations' lock for the whole of [`LOCK_DEADLINE`].
    #[error("another process is migrating this database and has not ended within {} s", LOCK_DEADLINE.as_secs())]
    Busy,
    /// The schema is of a program more than one version newer.
    #[error(
        "the schema uploader has version {found}, this program knows {SCHEMA_VERSION} and runs on at most one more"
    )]
    TooNew {
        /// The schema's version.
        found: i32,
    },
    /// Anything else that PostgreSQL or the way to it refused.
    #[error(transparent)]
    Database(#[from] DbErr),
}

/// The steps, in order.
struct Steps;

#[async_trait::async_trait]
impl MigratorTrait for Steps {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m0001_uploader_schema::Migration)]
    }
}

/// Brings the schema `uploader` up to date; returns what it was before. A schema one version newer stays as it is.
///
/// # Errors
/// [`MigrationError`]; nothing has changed then.
pub async fn up(db: &DatabaseConnection) -> Result<SchemaState, MigrationError> {
    let transaction = db.begin().await?;
    lock(&transaction, LOCK_DEADLINE).await?;
    let before = check(&transaction).await?;
    match before {
        SchemaState::Absent | SchemaState::Older { .. } => apply(&transaction).await?,
        SchemaState::Current | SchemaState::Newer { .. } => {}
        SchemaState::TooNew { found } => return Err(MigrationError::TooNew { found }),
    }
    transaction.commit().await?;
    Ok(before)
}

/// Runs the missing steps. The search path lasts as long as the transaction and puts the bookkeeping table, whose name
/// cannot carry a schema, where it belongs.
async fn apply(transaction: &DatabaseTransaction) -> Result<(), DbErr> {
    transaction.execute_unprepared("CREATE SCHEMA IF NOT EXISTS uploader").await?;
    transaction.execute_unprepared("SET LOCAL search_path TO uploader").await?;
    Steps::up(transaction, None).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_counts_the_steps() {
        assert_eq!(usize::try_from(SCHEMA_VERSION), Ok(Steps::migrations().len()));
    }
}
