//! A database of its own for each test, on the server that `DEVSTACK_POSTGRES_URL` names.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};

/// The shared tables, written out independently of the code under test.
pub const CONTRACT: &str = include_str!("../shared_tables.sql");

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A fresh database; [`TestDatabase::remove`] drops it.
pub struct TestDatabase {
    name: String,
    url: String,
    server: String,
    /// A pool on it.
    pub db: DatabaseConnection,
}

impl TestDatabase {
    /// Makes an empty database.
    pub async fn create() -> Self {
        let server = std::env::var("DEVSTACK_POSTGRES_URL")
            .expect("DEVSTACK_POSTGRES_URL names no PostgreSQL: run these tests by `make test`");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("migration_{}_{number}", std::process::id());
        execute(&connect(&server).await, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        execute(&connect(&server).await, &format!("CREATE DATABASE {name}")).await;
        let base = server.rsplit_once('/').expect("a database in DEVSTACK_POSTGRES_URL").0;
        let url = format!("{base}/{name}");
        let db = connect(&url).await;
        Self { name, url, server, db }
    }

    /// Makes a database with the shared tables of the contract.
    pub async fn with_contract() -> Self {
        let database = Self::create().await;
        execute(&database.db, CONTRACT).await;
        database
    }

    /// Another pool on the same database, as another process would have it.
    pub async fn another_pool(&self) -> DatabaseConnection {
        connect(&self.url).await
    }

    /// Runs statements.
    pub async fn execute(&self, sql: &str) {
        execute(&self.db, sql).await;
    }

    /// The first column of all rows, as text.
    pub async fn column(&self, sql: &str) -> Vec<String> {
        let rows = self.db.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await.expect(sql);
        rows.iter().map(|row| row.try_get_by_index::<String>(0).expect("text")).collect()
    }

    /// `pg_dump -s` of one schema, without the lines that differ by chance.
    pub fn dump(&self, schema: &str) -> String {
        let mut command = Command::new(pg_dump());
        command.args(["--schema-only", "--schema", schema, &self.url]);
        let output = command.output().expect("pg_dump runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("a dump in UTF-8");
        let random = |line: &&str| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
        text.lines().filter(random).map(|line| format!("{line}\n")).collect()
    }

    /// Closes the pool and drops the database.
    pub async fn remove(self) {
        self.db.close().await.expect("the pool closes");
        execute(&connect(&self.server).await, &format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

async fn connect(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.max_connections(2).sqlx_logging(false);
    Database::connect(options).await.expect("PostgreSQL answers")
}

async fn execute(db: &DatabaseConnection, sql: &str) {
    db.execute_unprepared(sql).await.expect(sql);
}

/// The newest `pg_dump` of Debian's folders, or the one on the path.
fn pg_dump() -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> =
        installed.map(|entry| entry.path().join("bin/pg_dump")).filter(|path| path.exists()).collect();
    found.sort();
    found.pop().unwrap_or_else(|| "pg_dump".into())
}
