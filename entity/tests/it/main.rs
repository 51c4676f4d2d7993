//! The entities against a real PostgreSQL, with byte columns of either type.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use entity::{FlowStatus, VideoStatus, flow, upload_session, video};
use migration::ByteColumns;
use sea_orm::ActiveValue::Set;
use sea_orm::prelude::{TimeDateTimeWithTimeZone, Uuid};
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, Database, DatabaseConnection, DbBackend, EntityTrait, ModelTrait,
    Statement,
};

/// Runs a test in a fresh database with the shared tables, and drops the database.
async fn with_tables(bytes: ByteColumns, test: impl AsyncFnOnce(&DatabaseConnection)) {
    let server = std::env::var("DEVSTACK_POSTGRES_URL")
        .expect("DEVSTACK_POSTGRES_URL names no PostgreSQL: run these tests by `make test`");
    let admin = Database::connect(&server).await.unwrap();
    let name = format!("entity_{bytes:?}_{}", std::process::id()).to_lowercase();
    let drop_it = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
    admin.execute_unprepared(&drop_it).await.unwrap();
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    let base = server.rsplit_once('/').unwrap().0;
    let db = Database::connect(format!("{base}/{name}")).await.unwrap();
    migration::shared_tables(&db, bytes).await.unwrap();
    test(&db).await;
    db.close().await.unwrap();
    admin.execute_unprepared(&drop_it).await.unwrap();
}

/// One video with one flow and its session.
async fn insert(db: &DatabaseConnection, total_bytes: i64) {
    let id = Uuid::from_u128(1);
    let video = video::ActiveModel {
        id: Set(id),
        title: Set("title".into()),
        description: Set("description".into()),
        created_at: Set(TimeDateTimeWithTimeZone::UNIX_EPOCH),
        ..Default::default()
    };
    video.insert(db).await.unwrap();
    let flow = flow::ActiveModel {
        id: Set(id),
        status: Set(FlowStatus::Processing),
        created_at: Set(TimeDateTimeWithTimeZone::UNIX_EPOCH),
        video_id: Set(Some(id)),
        ..Default::default()
    };
    flow.insert(db).await.unwrap();
    let session = upload_session::ActiveModel {
        id: Set(id),
        total_bytes: Set(total_bytes),
        flow_id: Set(Some(id)),
        ..Default::default()
    };
    session.insert(db).await.unwrap();
}

async fn work(db: &DatabaseConnection, total_bytes: i64) {
    insert(db, total_bytes).await;
    let (video, flows) =
        video::Entity::find().find_with_related(flow::Entity).all(db).await.unwrap().remove(0);
    assert_eq!((video.status, flows[0].status), (VideoStatus::Created, FlowStatus::Processing));
    let session = flows[0].find_related(upload_session::Entity).one(db).await.unwrap().unwrap();
    assert_eq!((session.total_bytes, session.uploaded_bytes), (total_bytes, 0));
    let mut change = upload_session::ActiveModel::from(session);
    change.uploaded_bytes = Set(total_bytes - 1);
    assert_eq!(change.update(db).await.unwrap().uploaded_bytes, total_bytes - 1);
    let sql = "SELECT status FROM flows WHERE status = 'PROCESSING'";
    assert_eq!(db.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap().len(), 1);
    flow::Entity::delete_by_id(Uuid::from_u128(1)).exec(db).await.unwrap();
    assert!(upload_session::Entity::find().one(db).await.unwrap().is_none());
}

#[tokio::test]
async fn integer_bytes_are_read_and_written_up_to_their_end() {
    with_tables(ByteColumns::Integer, async |db| work(db, i64::from(i32::MAX)).await).await;
}

#[tokio::test]
async fn bigint_bytes_are_read_and_written_beyond_it() {
    with_tables(ByteColumns::BigInt, async |db| work(db, 1 << 40).await).await;
}
