//! A transaction that nobody waited for leaves nothing open on its connection.

use std::collections::BTreeMap;
use std::time::Duration;

use devstack::TcpProxy;
use sea_orm::{DatabaseConnection, TransactionTrait};
use uploader_v4::config::{Config, ConfigSources};
use uploader_v4::gateways::upload_store::pool;

use super::stage::{Stage, run};
use crate::faults::{database_address, through};
use crate::world::SOON;

/// A `BEGIN` that reached the server and that nobody waited for, and then a write of another user of the connection:
/// whether others see it.
async fn written_after(giving_up: impl AsyncFnOnce(&DatabaseConnection)) -> bool {
    let stage = Stage::new().await;
    let upload = stage.one_sealed().await;
    let proxy = TcpProxy::start(database_address(&stage.world)).await.unwrap();
    let url = through(&stage.world, proxy.port());
    let env = BTreeMap::from([("DB_CONNECTION_STRING".to_owned(), url)]);
    let (config, _) = Config::load(ConfigSources { file: None, env }).unwrap();
    let db = pool::open(&config.database, 1).await.unwrap();
    run(&db, "SELECT 1", []).await.unwrap();
    let pool = db.get_postgres_connection_pool().clone();
    stage.world.wait("the connection is back in its pool", SOON, async || pool.num_idle() == 1).await;

    proxy.delay(Duration::from_millis(300));
    giving_up(&db).await;
    let open = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
                AND application_name = 'uploader-v4' AND state = 'idle in transaction'";
    stage.world.wait(open, SOON, async || !stage.world.query(open, Vec::new()).await.is_empty()).await;
    proxy.delay(Duration::ZERO);
    let update = "UPDATE uploader.session SET strikes = 7 WHERE session_id = $1";
    assert_eq!(run(&db, update, [upload.session.into()]).await.unwrap().rows_affected(), 1);
    stage.row(&upload, "strikes").await == "7"
}

#[tokio::test]
async fn what_is_written_after_a_begin_that_was_given_up_is_committed() {
    let as_it_is = async |db: &DatabaseConnection| {
        let given_up = tokio::time::timeout(Duration::from_millis(100), pool::begin(db)).await;
        assert!(given_up.is_err(), "BEGIN is on its way");
    };
    assert!(written_after(as_it_is).await, "seen by others");
    // The mutant: a BEGIN that ends with whoever waits for it.
    let mutant = async |db: &DatabaseConnection| {
        let given_up = tokio::time::timeout(Duration::from_millis(100), db.begin()).await;
        assert!(given_up.is_err(), "BEGIN is on its way");
    };
    assert!(!written_after(mutant).await, "reported as written, seen by nobody");
}
