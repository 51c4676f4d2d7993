//! PostgreSQL: the truth about sessions, in transactions with one order of locks.

pub mod announce;
pub mod chunks;
pub mod cleaning;
pub mod desk;
pub mod farm;
pub mod feeds;
pub mod overview;
pub mod pool;
pub mod replicas;
mod rows;
mod sql;
pub mod survey;
mod writes;

use crate::fault::{Classified, Fault};
use crate::gateways::tls;

/// Why PostgreSQL did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The connection is lost, a lock or statement timed out, or a deadlock was broken. Whether a write happened is
    /// unknown: read again, with the lock, before acting on it.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    /// The database understood and refuses.
    #[error("database refused: {0}")]
    Refused(String),
}

impl Classified for StoreError {
    fn fault(&self) -> Fault {
        match self {
            StoreError::Unavailable(_) => Fault::Transient,
            StoreError::Refused(_) => Fault::Poison,
        }
    }
}

impl From<sea_orm::DbErr> for StoreError {
    fn from(error: sea_orm::DbErr) -> Self {
        let text = tls::explained(error.to_string());
        match sqlstate(&error) {
            // A class of connection, resources, operator intervention, rollback, or lock: run again.
            Some(code)
                if ["08", "53", "57", "40", "55", "25"].iter().any(|class| code.starts_with(class)) =>
            {
                StoreError::Unavailable(text)
            }
            Some(_) => StoreError::Refused(text),
            None => from_client_side(&error, text),
        }
    }
}

fn from_client_side(error: &sea_orm::DbErr, text: String) -> StoreError {
    use sea_orm::DbErr;
    match error {
        DbErr::Type(_) | DbErr::Json(_) | DbErr::TryIntoErr { .. } | DbErr::ConvertFromU64(_) => {
            StoreError::Refused(text)
        }
        _ => StoreError::Unavailable(text),
    }
}

fn sqlstate(error: &sea_orm::DbErr) -> Option<String> {
    use sea_orm::{DbErr, RuntimeErr};
    let (DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner))) = error
    else {
        return None;
    };
    inner.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()))
}
