//! The migrations against a real PostgreSQL.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod database;

use std::time::{Duration, Instant};

use database::TestDatabase;
use migration::{ByteColumns, MigrationError, SHARED_TABLES, SchemaState};
use sea_orm::TransactionTrait;

/// All tables, views, sequences and indexes that are not PostgreSQL's own.
const RELATIONS: &str = "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1";

#[tokio::test]
async fn the_schema_is_all_that_is_made() {
    let database = TestDatabase::create().await;
    assert_eq!(migration::check(&database.db).await.unwrap(), SchemaState::Absent);
    assert_eq!(migration::up(&database.db).await.unwrap(), SchemaState::Absent);
    assert_eq!(migration::check(&database.db).await.unwrap(), SchemaState::Current);
    let relations = database.column(RELATIONS).await;
    let outside: Vec<_> = relations.iter().filter(|name| !name.starts_with("uploader.")).collect();
    assert!(outside.is_empty(), "{outside:?}");
    for table in ["replica", "service", "session", "run", "stray", "fflow_replica", "seaql_migrations"] {
        assert!(relations.contains(&format!("uploader.{table}")), "{table} is not among {relations:?}");
    }
    database.remove().await;
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let database = TestDatabase::create().await;
    migration::up(&database.db).await.unwrap();
    database.execute("UPDATE uploader.service SET spool_id = gen_random_uuid()").await;
    let service = "SELECT spool_id::text FROM uploader.service";
    let before = (database.dump("uploader"), database.column(service).await);
    assert_eq!(migration::up(&database.db).await.unwrap(), SchemaState::Current);
    assert_eq!((database.dump("uploader"), database.column(service).await), before);
    database.remove().await;
}

#[tokio::test]
async fn many_processes_may_start_at_once() {
    let database = TestDatabase::create().await;
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let pool = database.another_pool().await;
        starts.spawn(async move {
            let before = migration::up(&pool).await;
            let made = migration::shared_tables(&pool, ByteColumns::Integer).await;
            pool.close().await.map(|()| (before, made))
        });
    }
    let ends = starts.join_all().await.into_iter().map(|end| end.unwrap());
    let ends: Vec<_> = ends.map(|(before, made)| (before.unwrap(), made.unwrap())).collect();
    assert_eq!(ends.iter().filter(|(before, _)| *before == SchemaState::Absent).count(), 1);
    assert_eq!(ends.iter().filter(|(_, made)| made.len() == SHARED_TABLES.len()).count(), 1);
    assert_eq!(database.column("SELECT version FROM uploader.seaql_migrations").await.len(), 1);
    database.remove().await;
}

#[tokio::test]
async fn the_shared_tables_of_the_contract_stay_byte_for_byte() {
    let database = TestDatabase::with_contract().await;
    let before = database.dump("public");
    assert!(before.contains("CREATE TABLE public.upload_sessions"));
    migration::up(&database.db).await.unwrap();
    migration::up(&database.db).await.unwrap();
    assert!(migration::shared_tables(&database.db, ByteColumns::BigInt).await.unwrap().is_empty());
    assert_eq!(database.dump("public"), before);
    database.remove().await;
}

#[tokio::test]
async fn the_shared_tables_made_here_are_those_of_the_contract() {
    let ours = TestDatabase::create().await;
    let contract = TestDatabase::with_contract().await;
    assert_eq!(migration::shared_tables_present(&ours.db).await.unwrap(), SHARED_TABLES);
    assert_eq!(migration::shared_tables(&ours.db, ByteColumns::Integer).await.unwrap(), SHARED_TABLES);
    assert!(migration::shared_tables_present(&ours.db).await.unwrap().is_empty());
    assert_eq!(ours.dump("public"), contract.dump("public"));
    ours.remove().await;
    contract.remove().await;
}

#[tokio::test]
async fn bigint_bytes_differ_from_the_contract_in_nothing_else() {
    let ours = TestDatabase::create().await;
    let contract = TestDatabase::with_contract().await;
    migration::shared_tables(&ours.db, ByteColumns::BigInt).await.unwrap();
    let expected = contract.dump("public").replace("_bytes integer", "_bytes bigint");
    assert_eq!(ours.dump("public"), expected);
    assert_ne!(expected, contract.dump("public"));
    ours.remove().await;
    contract.remove().await;
}

#[tokio::test]
async fn only_absent_tables_are_made() {
    let database = TestDatabase::with_contract().await;
    database.execute("DROP TABLE upload_sessions; ALTER TABLE videos ADD COLUMN extra text").await;
    assert_eq!(migration::shared_tables_present(&database.db).await.unwrap(), ["upload_sessions"]);
    let made = migration::shared_tables(&database.db, ByteColumns::Integer).await.unwrap();
    assert_eq!(made, ["upload_sessions"]);
    assert!(database.dump("public").contains("extra text"));
    database.remove().await;
}

#[tokio::test]
async fn a_schema_one_version_newer_is_left_alone_and_two_are_refused() {
    let database = TestDatabase::create().await;
    migration::up(&database.db).await.unwrap();
    let newer = |versions: i32| {
        format!(
            "UPDATE uploader.service SET schema_version = {}; \
             INSERT INTO uploader.seaql_migrations VALUES ('m{versions:04}_later', 0)",
            migration::SCHEMA_VERSION + versions
        )
    };
    database.execute(&newer(1)).await;
    let found = migration::SCHEMA_VERSION + 1;
    assert_eq!(migration::up(&database.db).await.unwrap(), SchemaState::Newer { found });
    assert!(migration::check(&database.db).await.unwrap().is_usable());
    database.execute(&newer(2)).await;
    assert!(matches!(migration::up(&database.db).await, Err(MigrationError::TooNew { .. })));
    assert!(!migration::check(&database.db).await.unwrap().is_usable());
    database.remove().await;
}

#[tokio::test]
async fn an_older_schema_is_not_usable_before_it_is_migrated() {
    let database = TestDatabase::create().await;
    migration::up(&database.db).await.unwrap();
    database.execute("UPDATE uploader.service SET schema_version = 0").await;
    let state = migration::check(&database.db).await.unwrap();
    assert_eq!(state, SchemaState::Older { found: 0 });
    assert!(!state.is_usable());
    database.remove().await;
}

#[tokio::test]
async fn waiting_for_another_process_has_a_deadline() {
    let database = TestDatabase::create().await;
    let other = database.another_pool().await;
    let holder = other.begin().await.unwrap();
    migration::lock(&holder, migration::LOCK_DEADLINE).await.unwrap();
    let waiter = database.db.begin().await.unwrap();
    let began = Instant::now();
    let refused = migration::lock(&waiter, Duration::from_millis(200)).await;
    assert!(matches!(refused, Err(MigrationError::Busy)), "{refused:?}");
    assert!(began.elapsed() >= Duration::from_millis(200) && began.elapsed() < Duration::from_secs(10));
    holder.rollback().await.unwrap();
    waiter.rollback().await.unwrap();
    let next = database.db.begin().await.unwrap();
    migration::lock(&next, Duration::from_millis(200)).await.unwrap();
    next.rollback().await.unwrap();
    other.close().await.unwrap();
    database.remove().await;
}

#[tokio::test]
async fn no_index_holds_a_column_that_a_chunk_changes() {
    let database = TestDatabase::create().await;
    migration::up(&database.db).await.unwrap();
    let indexes =
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'uploader' AND tablename IN ('session', 'run')";
    let definitions = database.column(indexes).await;
    assert_eq!(definitions.len(), 5, "{definitions:?}");
    for changed in ["state", "committed", "recent", "last_activity", "length", "record_end"] {
        assert!(definitions.iter().all(|index| !index.contains(changed)), "{changed}: {definitions:?}");
    }
    database.remove().await;
}

#[tokio::test]
async fn a_session_that_cannot_be_is_refused_by_its_table() {
    use sea_orm::ConnectionTrait;
    let database = TestDatabase::create().await;
    migration::up(&database.db).await.unwrap();
    let insert = |columns: &str, values: &str| {
        format!(
            "INSERT INTO uploader.session (session_id, total_bytes, {columns}) VALUES (gen_random_uuid(), 10, {values})"
        )
    };
    database.execute(&insert("state, committed", "'OPEN', 5")).await;
    database.execute(&insert("state, committed", "'SEALED', 10")).await;
    for (columns, values) in [
        ("state", "'open'"),
        ("state, committed", "'OPEN', 11"),
        ("state, committed", "'SEALED', 9"),
        ("state, committed, fed", "'OPEN', 5, 6"),
    ] {
        assert!(
            database.db.execute_unprepared(&insert(columns, values)).await.is_err(),
            "{columns} = {values}"
        );
    }
    database.remove().await;
}
