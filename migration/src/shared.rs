//! The tables that the whole system shares, for databases where no ORM of the gateway makes them.

use sea_orm_migration::sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement, TransactionTrait,
};

use crate::{LOCK_DEADLINE, MigrationError, lock};

/// Their names, each after those it refers to.
pub const SHARED_TABLES: [&str; 4] = ["users", "videos", "flows", "upload_sessions"];

/// The type of the columns that count bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ByteColumns {
    /// As the gateway's ORM makes them: files end at 2 147 483 647 bytes.
    #[default]
    Integer,
    /// For larger files, where no ORM changes the tables back.
    BigInt,
}

impl ByteColumns {
    fn sql(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::BigInt => "bigint",
        }
    }
}

/// Makes the shared tables that are absent from the search path's first schema, and leaves the others as they are.
/// Returns the names of those it made.
///
/// # Errors
/// [`MigrationError`]; nothing has changed then.
pub async fn shared_tables(
    db: &DatabaseConnection,
    bytes: ByteColumns,
) -> Result<Vec<&'static str>, MigrationError> {
    let transaction = db.begin().await?;
    lock(&transaction, LOCK_DEADLINE).await?;
    let missing = shared_tables_present(&transaction).await?;
    for table in &missing {
        transaction.execute_unprepared(&definition(table, bytes)).await?;
    }
    transaction.commit().await?;
    Ok(missing)
}

/// The names of the shared tables that are missing; none when the service can work.
///
/// # Errors
/// Those of the connection.
pub async fn shared_tables_present(db: &impl ConnectionTrait) -> Result<Vec<&'static str>, DbErr> {
    let mut missing = Vec::new();
    for table in SHARED_TABLES {
        let sql = format!("SELECT to_regclass('{table}') IS NULL AS missing");
        let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
        let absent = match row {
            Some(row) => row.try_get("", "missing")?,
            None => true,
        };
        if absent {
            missing.push(table);
        }
    }
    Ok(missing)
}

fn definition(table: &str, bytes: ByteColumns) -> String {
    let columns = match table {
        "users" => USERS.to_owned(),
        "videos" => VIDEOS.to_owned(),
        "flows" => FLOWS.to_owned(),
        _ => UPLOAD_SESSIONS.replace("BYTES", bytes.sql()),
    };
    format!("CREATE TABLE {table} ({columns})")
}

const USERS: &str = "
    id            uuid PRIMARY KEY,
    email         varchar NOT NULL UNIQUE,
    password_hash varchar NOT NULL,
    created_at    timestamptz NOT NULL";

const VIDEOS: &str = "
    id          uuid PRIMARY KEY,
    title       varchar(255) NOT NULL,
    description text NOT NULL,
    created_at  timestamptz NOT NULL,
    uploaded_at timestamptz,
    status      varchar NOT NULL DEFAULT 'CREATED',
    user_id     uuid REFERENCES users ON DELETE CASCADE";

const FLOWS: &str = "
    id          uuid PRIMARY KEY,
    status      varchar NOT NULL DEFAULT 'CREATED',
    created_at  timestamptz NOT NULL,
    uploaded_at timestamptz,
    video_id    uuid REFERENCES videos ON DELETE CASCADE";

const UPLOAD_SESSIONS: &str = "
    id             uuid PRIMARY KEY,
    total_bytes    BYTES NOT NULL,
    uploaded_bytes BYTES NOT NULL DEFAULT 0,
    flow_id        uuid UNIQUE REFERENCES flows ON DELETE CASCADE";
