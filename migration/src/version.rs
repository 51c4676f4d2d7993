//! Which version the schema has, and whether this program can run on it.

use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

/// The version that this program makes: the number of its steps.
pub const SCHEMA_VERSION: i32 = 1;

/// The schema `uploader` as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaState {
    /// It is not there: run migrate.
    Absent,
    /// It is of an older program: run migrate.
    Older {
        /// Its version.
        found: i32,
    },
    /// It is the one that this program makes.
    Current,
    /// It is one version newer, which this program can run on.
    Newer {
        /// Its version.
        found: i32,
    },
    /// It is more than one version newer: replace the program.
    TooNew {
        /// Its version.
        found: i32,
    },
}

impl SchemaState {
    /// Whether this program can run on it.
    pub fn is_usable(self) -> bool {
        match self {
            Self::Current | Self::Newer { .. } => true,
            Self::Absent | Self::Older { .. } | Self::TooNew { .. } => false,
        }
    }

    fn of(found: i32) -> Self {
        match found - SCHEMA_VERSION {
            ..0 => Self::Older { found },
            0 => Self::Current,
            1 => Self::Newer { found },
            2.. => Self::TooNew { found },
        }
    }
}

/// Looks at the schema and changes nothing.
///
/// # Errors
/// Those of the connection, and a schema `uploader` that is not this service's.
pub async fn check(db: &impl ConnectionTrait) -> Result<SchemaState, DbErr> {
    const PRESENT: &str = "SELECT to_regclass('uploader.service') IS NOT NULL AS present";
    const VERSION: &str = "SELECT schema_version FROM uploader.service WHERE id = 1";
    let ask = |sql: &str| db.query_one_raw(Statement::from_string(DbBackend::Postgres, sql));
    let none = || DbErr::RecordNotFound("uploader.service has lost its row".into());
    let present: bool = ask(PRESENT).await?.ok_or_else(none)?.try_get("", "present")?;
    if !present {
        return Ok(SchemaState::Absent);
    }
    let found: i32 = ask(VERSION).await?.ok_or_else(none)?.try_get("", "schema_version")?;
    Ok(SchemaState::of(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_version_newer_is_usable_and_two_are_not() {
        assert!(SchemaState::of(SCHEMA_VERSION).is_usable());
        assert!(SchemaState::of(SCHEMA_VERSION + 1).is_usable());
        assert!(!SchemaState::of(SCHEMA_VERSION + 2).is_usable());
        assert!(!SchemaState::of(SCHEMA_VERSION - 1).is_usable());
    }
}
