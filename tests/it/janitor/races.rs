//! The janitor against chunks that are on their way: whoever commits first is right, and the other one gives in.

use std::net::SocketAddr;

use devstack::TcpProxy;

use super::command::{janitor, one_run};
use super::*;

/// A cable to the world's database, and the database's address through it.
async fn cable(world: &World) -> (TcpProxy, String) {
    let url = &world.sandbox.database_url;
    let (before, after) = url.split_once('@').unwrap();
    let (place, name) = after.split_once('/').unwrap();
    let target: SocketAddr = place.parse().unwrap();
    let proxy = TcpProxy::start(target).await.unwrap();
    let through = format!("{before}@{}/{name}", proxy.address());
    (proxy, through)
}

/// A replica whose transactions may stand still for a while.
async fn slow_replica(world: &World) -> (TcpProxy, Replica) {
    let (proxy, url) = cable(world).await;
    let settings = [
        ("DB_CONNECTION_STRING", url.as_str()),
        ("UPLOADER_DATABASE_IDLE_IN_TRANSACTION_TIMEOUT", "60s"),
        ("UPLOADER_REPLICA_LEASE", "60s"),
        ("UPLOADER_REPLICA_HEARTBEAT", "1s"),
    ];
    let replica = world.replica_unready("slow", &settings).await;
    replica.ready().await;
    takes_chunks_since_long_ago(world).await;
    (proxy, replica)
}

/// Slow enough for a test to step in between two statements.
const SLOW: Duration = Duration::from_millis(700);

#[tokio::test]
async fn a_chunk_whose_rows_another_replica_holds_keeps_its_video_alive() {
    let world = World::new().await;
    let (proxy, _slow) = slow_replica(&world).await;
    let client = world.client().await;
    // Its last chunk is committed by a transaction of several statements, which holds the rows between them.
    let file = bytes(80, 200_000);
    let upload = world.announce_one(file.len()).await;
    client.upload_range(&upload, &file, 100_000, 0, 100_000).await;
    forsaken(&world, &upload).await;
    let bystander = world.announce_one(1000).await;
    forsaken(&world, &bystander).await;

    proxy.delay(SLOW);
    let chunk = client.begin(&upload.session.to_string(), 100_000, &file[100_000..200_000]).await;
    let free = "SELECT s.session_id::text FROM uploader.session s WHERE s.session_id = $1 \
                FOR NO KEY UPDATE SKIP LOCKED";
    world
        .wait("its rows to be locked", SOON, async || world.text(free, upload.session).await.is_none())
        .await;
    proxy.stall(true);
    let report = one_run(&world).await;
    assert_eq!(report["videos_deleted"], 1, "the bystander, and it alone: {report}");
    assert!(world.text(free, upload.session).await.is_none(), "the rows were held all the time");
    assert_eq!(world.video_status(&bystander).await, None);

    proxy.delay(Duration::ZERO);
    proxy.stall(false);
    assert!(answer(chunk).await.is_ack());
    world.distributed(&upload).await;
}

#[tokio::test]
async fn a_first_chunk_that_comes_to_a_tombstone_is_told_and_leaves_no_bytes() {
    let world = World::new().await;
    let (proxy, _slow) = slow_replica(&world).await;
    let client = world.client().await;
    let upload = world.announce_one(1000).await;
    forsaken(&world, &upload).await;
    let folder = world.spool.join(upload.session.to_string());

    proxy.delay(SLOW);
    let chunk = client.begin(&upload.session.to_string(), 0, &[7; 1000]).await;
    world.wait("its bytes to be stored", SOON, async || folder.exists()).await;
    proxy.stall(true);
    let report = one_run(&world).await;
    assert_eq!(report["videos_deleted"], 1, "{report}");
    assert_eq!(world.state(&upload).await.as_deref(), Some("EXPIRED"));
    proxy.delay(Duration::ZERO);
    proxy.stall(false);
    let told = answer(chunk).await;
    assert!(told.reason().contains("expired"), "{told:?}");
    one_run(&world).await;
    world.nothing_left(&upload).await;
}

#[tokio::test]
async fn a_first_chunk_that_is_committed_before_the_rows_are_locked_saves_its_video() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    takes_chunks_since_long_ago(&world).await;
    let client = world.client().await;
    let file = bytes(81, 200_000);
    let upload = world.announce_one(file.len()).await;
    forsaken(&world, &upload).await;
    let (proxy, url) = cable(&world).await;
    proxy.delay(SLOW / 2);

    let through = [("DB_CONNECTION_STRING", url.as_str()), ("UPLOADER_DATABASE_CONNECT_TIMEOUT", "60s")];
    let run = janitor(&world, &through, &["--once", "--json"]);
    let chunk = async {
        // The search has found the video; the statement that locks it is prepared, and not yet carried out.
        let locking = "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() \
                       AND state = 'idle in transaction' AND query LIKE 'SELECT id FROM videos WHERE id = ANY%' \
                       AND $1 IS NOT NULL";
        world
            .wait("the janitor to be about to lock", LATE, async || {
                world.text(locking, upload.session).await.is_some()
            })
            .await;
        proxy.stall(true);
        client.upload_range(&upload, &file, 100_000, 0, 100_000).await;
        proxy.delay(Duration::ZERO);
        proxy.stall(false);
    };
    let (run, ()) = tokio::join!(run, chunk);
    let report = run.clean();
    assert_eq!(report["videos_deleted"], 0, "{report}");
    assert_eq!(world.state(&upload).await.as_deref(), Some("OPEN"));
    client.upload_range(&upload, &file, 100_000, 100_000, file.len()).await;
    world.distributed(&upload).await;
}

#[tokio::test]
async fn a_row_that_somebody_holds_keeps_only_its_own_video() {
    use sea_orm::{ConnectionTrait, Database, DbBackend, Statement, TransactionTrait};
    let world = World::new().await;
    alone(&world).await;
    let mut uploads = Vec::new();
    for _ in 0..8 {
        let upload = world.announce_one(1000).await;
        forsaken(&world, &upload).await;
        uploads.push(upload);
    }
    let ours = "INSERT INTO uploader.session (session_id, video_id, flow_id, state, last_activity) \
                VALUES ($1, $2, $3, 'OPEN', now() - interval '2 hours')";
    let values = [uploads[1].session, uploads[1].video, uploads[1].flow].map(Into::into);
    world.execute(ours, values.to_vec()).await;
    let db = Database::connect(world.sandbox.database_url.clone()).await.unwrap();
    let holding = db.begin().await.unwrap();
    let rows = [
        ("videos WHERE id", uploads[0].video),
        ("uploader.session WHERE session_id", uploads[1].session),
        ("flows WHERE id", uploads[2].flow),
        ("upload_sessions WHERE id", uploads[3].session),
    ];
    for (row, id) in rows {
        let lock = format!("SELECT 1 FROM {row} = $1 FOR NO KEY UPDATE");
        let lock = Statement::from_sql_and_values(DbBackend::Postgres, lock, [id.into()]);
        assert_eq!(holding.query_all_raw(lock).await.unwrap().len(), 1);
    }
    let report = one_run(&world).await;
    assert_eq!(report["videos_deleted"], 4, "{report}");
    for upload in &uploads[..4] {
        assert!(world.video_status(upload).await.is_some());
        assert_eq!(world.committed(upload).await, 0, "nothing of it is gone");
    }
    holding.rollback().await.unwrap();
    assert_eq!(one_run(&world).await["videos_deleted"], 4);
}
