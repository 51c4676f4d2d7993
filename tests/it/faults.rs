//! What breaks around the service, and what its clients see of it.

use std::time::{Duration, Instant};

use devstack::{Endpoints, RabbitMq, Signal, Workspace};
use peers::recording::{CallKind, Fault, FaultRule, RecordingOptions};
use sea_orm::TransactionTrait;

use crate::client::answer;
use crate::world::{Plan, Replica, SOON, World, bytes, sha256};

/// The servers of the run, but a broker of the test's own.
async fn own_broker(workspace: &Workspace) -> (RabbitMq, Endpoints) {
    let broker = RabbitMq::start(workspace).await.unwrap();
    let mut endpoints = Endpoints::from_env().expect("the tests need servers: run `make test`");
    endpoints.amqp_url = broker.amqp_url("").trim_end_matches('/').to_owned();
    endpoints.amqp_management_url = broker.management_url();
    (broker, endpoints)
}

#[tokio::test]
async fn a_broker_that_restarts_in_mid_upload_loses_no_byte_and_no_topology() {
    let workspace = Workspace::new("broker-restart").unwrap();
    let (mut broker, endpoints) = own_broker(&workspace).await;
    let world = World::planned(Plan { endpoints: Some(endpoints), ..Plan::default() }).await;
    let replica = world.replica("one").await;
    let file = bytes(40, 1_000_000);
    let upload = world.announce_one(file.len()).await;
    let client = world.client().await;
    client.upload_range(&upload, &file, 100_000, 0, 500_000).await;
    // This one's answer goes down with the broker, whether or not it was stored.
    let _lost = client.begin(&upload.session.to_string(), 500_000, &file[500_000..600_000]).await;
    drop(client);
    broker.restart().await.unwrap();
    let back = Instant::now();
    replica.ready().await;
    let recovered = back.elapsed();

    let client = world.client().await;
    client.upload_range(&upload, &file, 100_000, 500_000, file.len()).await;
    world.distributed(&upload).await;
    println!(
        "FIRE broker-restart: the chunk in flight went down with its queue and got no answer; chunks were taken again \
         {:.1} s after the broker was back, and the upload went on from its last ack",
        recovered.as_secs_f64()
    );
    assert_eq!(world.fflow.flow(&upload.session.to_string()).unwrap().sha256, sha256(&file));
}

/// Waits until a replica is not ready and says these words about it.
async fn names(world: &World, replica: &Replica, words: &[&str]) {
    let named = async || {
        let (status, body) = replica.readyz().await;
        status == 503 && words.iter().all(|word| body.contains(word))
    };
    world.wait(&format!("readiness to name {words:?}"), SOON, named).await;
}

#[tokio::test]
async fn a_broker_that_is_absent_at_start_is_named_and_waited_for() {
    let workspace = Workspace::new("broker-absent").unwrap();
    let (mut broker, endpoints) = own_broker(&workspace).await;
    let world = World::planned(Plan { endpoints: Some(endpoints), ..Plan::default() }).await;
    broker.stop().await.unwrap();
    let replica = world.replica_unready("one", &[]).await;
    names(&world, &replica, &["amqp", "refused"]).await;
    broker.restart().await.unwrap();
    broker.create_vhost(&world.sandbox.vhost).await.unwrap();
    replica.ready().await;
}

#[tokio::test]
async fn shared_tables_that_are_absent_are_named_waited_for_and_never_made() {
    let world = World::planned(Plan { columns: None, ..Plan::default() }).await;
    let replica = world.replica_unready("one", &[]).await;
    names(&world, &replica, &["upload_sessions"]).await;
    let public = "SELECT count(*)::text FROM pg_tables WHERE schemaname = 'public' AND $1::uuid IS NOT NULL";
    assert_eq!(world.text(public, uuid::Uuid::nil()).await.as_deref(), Some("0"));
    migration::shared_tables(&world.db, migration::ByteColumns::Integer).await.unwrap();
    replica.ready().await;
}

#[tokio::test]
async fn a_database_that_is_absent_at_start_is_named_and_waited_for() {
    let world = World::new().await;
    let proxy = devstack::TcpProxy::start(database_address(&world)).await.unwrap();
    proxy.refuse(true).await.unwrap();
    let url = through(&world, proxy.port());
    let replica = world.replica_unready("one", &[("DB_CONNECTION_STRING", &url)]).await;
    names(&world, &replica, &["refused"]).await;
    proxy.refuse(false).await.unwrap();
    replica.ready().await;
}

#[tokio::test]
async fn a_database_that_goes_away_while_a_replica_migrates_is_waited_for() {
    let world = World::new().await;
    let proxy = devstack::TcpProxy::start(database_address(&world)).await.unwrap();
    let url = through(&world, proxy.port());
    let migrating = world.db.begin().await.unwrap();
    migration::lock(&migrating, SOON).await.unwrap();
    let replica = world.replica_unready("one", &[("DB_CONNECTION_STRING", &url)]).await;
    world.waits_for_a_lock().await;
    proxy.refuse(true).await.unwrap();
    proxy.cut();
    names(&world, &replica, &["database unavailable"]).await;
    proxy.refuse(false).await.unwrap();
    migrating.commit().await.unwrap();
    replica.ready().await;
}

#[tokio::test]
async fn a_database_that_is_away_for_seconds_costs_no_answer_and_no_generation() {
    let world = World::new().await;
    let proxy = devstack::TcpProxy::start(database_address(&world)).await.unwrap();
    let url = through(&world, proxy.port());
    let replica = world.replica_unready("one", &[("DB_CONNECTION_STRING", &url)]).await;
    replica.ready().await;
    let client = world.client().await;
    let file = bytes(41, 2_000_000);
    let upload = world.announce_one(file.len()).await;
    client.upload_range(&upload, &file, 100_000, 0, 1_000_000).await;
    world.wait("bytes to be fed", SOON, async || world.fflow.flows().iter().any(|flow| flow.bytes > 0)).await;

    proxy.refuse(true).await.unwrap();
    proxy.cut();
    let held = client.begin(&upload.session.to_string(), 1_000_000, &file[1_000_000..1_100_000]).await;
    world.wait("readiness to notice", SOON, async || replica.readyz().await.0 == 503).await;
    proxy.refuse(false).await.unwrap();
    assert!(answer(held).await.is_ack(), "held, not refused");
    client.upload_range(&upload, &file, 100_000, 1_100_000, file.len()).await;
    world.distributed(&upload).await;
    assert_eq!(world.fflow.flows().len(), 1, "one generation");
    assert_eq!(world.fflow.flows()[0].sha256, sha256(&file));
}

pub fn database_address(world: &World) -> std::net::SocketAddr {
    let url = url::Url::parse(&world.sandbox.database_url).unwrap();
    format!("127.0.0.1:{}", url.port().unwrap()).parse().unwrap()
}

pub fn through(world: &World, port: u16) -> String {
    let mut url = url::Url::parse(&world.sandbox.database_url).unwrap();
    url.set_port(Some(port)).unwrap();
    url.to_string()
}

#[tokio::test]
async fn redis_that_is_absent_degrades_and_stops_nothing() {
    let world = World::new().await;
    let replica = world.replica_unready("one", &[("FFLOW_CACHE_PORT", "1")]).await;
    replica.ready().await;
    let client = world.client().await;
    let file = bytes(42, 600_000);
    let upload = world.announce_one(file.len()).await;
    client.upload(&upload, &file, 100_000).await;
    world.distributed(&upload).await;
    let (status, body) = replica.readyz().await;
    assert!(status == 200 && body.contains("degraded") && body.contains("redis"), "{body}");
}

#[tokio::test]
async fn a_finish_that_goes_wrong_in_any_way_ends_in_a_whole_video() {
    let brief = Some(Duration::from_millis(500));
    let faults = [
        (Fault::Status(404), 2),
        (Fault::Status(500), 2),
        (Fault::FinishWithoutFiles, 2),
        (Fault::FinishIncomplete, 2),
        // The files are there although nobody said so: one generation is enough.
        (Fault::StatusAfterEffect(504), 1),
        (Fault::ResetAfter, 1),
        (Fault::HangAfterEffect(brief), 1),
        (Fault::SlowShip(Duration::from_secs(2)), 1),
    ];
    let all = faults.into_iter().enumerate().map(|(seed, (fault, generations))| async move {
        let settings = [("UPLOADER_FEED_STRIKE_WAITS", "100ms")];
        let world = World::with(RecordingOptions::default(), &settings).await;
        let _replica = world.replica("one").await;
        let client = world.client().await;
        let file = bytes(50 + seed as u64, 400_000);
        let upload = world.announce_one(file.len()).await;
        let rule = world.fflow.inject(FaultRule::on(CallKind::Finish, fault.clone()).once());
        client.upload(&upload, &file, 100_000).await;
        world.distributed(&upload).await;
        assert_eq!(world.fflow.struck(rule), 1, "{fault:?}");
        assert_eq!(world.fflow.flows().len(), generations, "{fault:?}");
        let last = world.fflow.flows().into_iter().rfind(|flow| flow.finished).unwrap();
        assert_eq!(last.sha256, sha256(&file), "{fault:?}");
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn a_finish_that_never_ends_is_deleted_at_its_deadline_and_done_again() {
    let settings = [
        ("UPLOADER_FFLOW_FINISH_TIMEOUT", "1s"),
        ("UPLOADER_FEED_FINISH_BASE", "2s"),
        ("UPLOADER_FEED_STRIKE_WAITS", "100ms"),
    ];
    let world = World::with(RecordingOptions::default(), &settings).await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(60, 400_000);
    let upload = world.announce_one(file.len()).await;
    world.fflow.inject(FaultRule::on(CallKind::Finish, Fault::Hang(None)).once());
    client.upload(&upload, &file, 100_000).await;
    world.distributed(&upload).await;
    let deletes = world.fflow.calls().iter().filter(|call| call.kind == CallKind::Delete).count();
    assert!(deletes >= 1);
    assert_eq!(world.fflow.flow(&format!("{}~2", upload.session)).unwrap().sha256, sha256(&file));
}

#[tokio::test]
async fn a_push_without_an_answer_is_given_up_at_its_deadline() {
    let world = World::with(RecordingOptions::default(), &[("UPLOADER_FFLOW_PUSH_TIMEOUT", "1s")]).await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(61, 600_000);
    let upload = world.announce_one(file.len()).await;
    world.fflow.inject(FaultRule::on(CallKind::Push, Fault::HangAfterEffect(None)).once());
    client.upload(&upload, &file, 100_000).await;
    world.distributed(&upload).await;
    assert_eq!(world.fflow.flow(&format!("{}~2", upload.session)).unwrap().sha256, sha256(&file));
}

#[tokio::test]
async fn an_address_outside_the_allow_list_is_never_spoken_to() {
    let elsewhere = peers::recording::RecordingFflow::start(RecordingOptions::default()).unwrap();
    let world = World::with(RecordingOptions::default(), &[("UPLOADER_FFLOW_REFUSED_PAUSE", "1s")]).await;
    let replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(62, 600_000);
    let upload = world.announce_one(file.len()).await;
    let foreign = Fault::ForeignAddress(format!("{}/r1/", elsewhere.base_url()));
    world.fflow.inject(FaultRule::on(CallKind::Create, foreign).once());
    client.upload_range(&upload, &file, 100_000, 0, 500_000).await;
    world
        .wait("readiness to say so", SOON, async || replica.readyz().await.1.contains("refused address"))
        .await;
    client.upload_range(&upload, &file, 100_000, 500_000, file.len()).await;
    world.distributed(&upload).await;
    assert!(elsewhere.calls().is_empty(), "{:?}", elsewhere.calls());
    let strikes = "SELECT strikes::text FROM uploader.session WHERE session_id = $1";
    assert_eq!(world.text(strikes, upload.session).await.as_deref(), Some("0"));
}

#[tokio::test]
async fn slow_flows_finishing_sessions_and_parked_chunks_hold_up_nobody() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(63, 600_000);
    let slow = world.announce_one(file.len()).await;
    let finishing = world.announce_one(file.len()).await;
    let parked = world.announce_one(file.len()).await;
    let minute = Some(Duration::from_secs(50));
    world
        .fflow
        .inject(FaultRule::on(CallKind::Push, Fault::HangAfterEffect(minute)).name(slow.session.to_string()));
    let busy = FaultRule::on(CallKind::Finish, Fault::DelayThen(Duration::from_secs(50)));
    world.fflow.inject(busy.name(finishing.session.to_string()));
    client.upload_range(&slow, &file, 100_000, 0, 500_000).await;
    client.upload(&finishing, &file, 100_000).await;
    let _parked = client.begin(&parked.session.to_string(), 100_000, &file[..100_000]).await;

    let begun = Instant::now();
    for seed in 0..5 {
        let file = bytes(70 + seed, 600_000);
        let upload = world.announce_one(file.len()).await;
        client.upload(&upload, &file, 100_000).await;
        world.distributed(&upload).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn failing_creates_and_pushes_do_not_make_a_hot_loop() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(64, 600_000);
    let upload = world.announce_one(file.len()).await;
    let rule = world.fflow.inject(FaultRule::on(CallKind::Push, Fault::Status(404)));
    client.upload(&upload, &file, 100_000).await;
    let begun = Instant::now();
    world.wait("some attempts", SOON, async || world.fflow.struck(rule) >= 4).await;
    let per_second = world.fflow.calls().len() as f64 / begun.elapsed().as_secs_f64().max(1.0);
    assert!(per_second < 20.0, "{per_second} calls a second");
    world.fflow.disarm(rule);
    world.distributed(&upload).await;
}

#[tokio::test]
async fn a_replica_that_leaves_in_mid_upload_is_not_noticed_by_the_client() {
    let world = World::new().await;
    let replicas = [world.replica("one").await, world.replica("two").await];
    let client = world.client().await;
    let file = bytes(65, 3_000_000);
    let upload = world.announce_one(file.len()).await;
    client.upload_range(&upload, &file, 50_000, 0, 1_500_000).await;
    let owner = world.owner(&upload).await;
    let one = replicas.iter().find(|replica| replica.process.name() == owner).unwrap();
    let (left, ()) = tokio::join!(
        one.process.stop(Signal::SIGTERM, SOON),
        client.upload_range(&upload, &file, 50_000, 1_500_000, file.len())
    );
    left.unwrap();
    assert!(one.process.exit_status().unwrap().success(), "a clean exit");
    world.distributed(&upload).await;
    assert_eq!(world.fflow.flows().len(), 1, "handed over settled: no replay");
    assert_eq!(world.fflow.flows()[0].sha256, sha256(&file));
}

#[tokio::test]
async fn a_replica_on_another_spool_refuses_to_run_and_says_how_to_mend_it() {
    let world = World::new().await;
    let _one = world.replica("one").await;
    let elsewhere = world.workspace.folder("elsewhere").unwrap();
    let two = world.replica_unready("two", &[("UPLOADER_SPOOL_DIR", elsewhere.to_str().unwrap())]).await;
    let status = two.process.wait_exit(SOON).await.unwrap();
    let said = two.process.log_tail(5);
    assert!(!status.success() && said.contains("UPLOADER_SPOOL_DIR"), "{status}: {said}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_loses_nothing() {
    let world = World::new().await;
    let one = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(66, 600_000);
    let upload = world.announce_one(file.len()).await;
    let hang = FaultRule::on(CallKind::Push, Fault::HangAfterEffect(None));
    let rule = world.fflow.inject(hang);
    client.upload_range(&upload, &file, 100_000, 0, 500_000).await;
    world.wait("a push to hang", SOON, async || world.fflow.struck(rule) > 0).await;
    one.process.signal(Signal::SIGTERM).unwrap();
    world.wait("it to be leaving", SOON, async || one.readyz().await.1.contains("leaving")).await;
    let second = Instant::now();
    // It may have left by itself in the meantime; that is no failure either.
    let _ = one.process.signal(Signal::SIGTERM);
    assert!(one.process.wait_exit(Duration::from_secs(2)).await.is_ok(), "{:?}", second.elapsed());
    world.fflow.disarm(rule);
    let _two = world.replica("two").await;
    client.upload_range(&upload, &file, 100_000, 500_000, file.len()).await;
    world.distributed(&upload).await;
    let whole = world.fflow.flows().into_iter().find(|flow| flow.finished).unwrap();
    assert_eq!(whole.sha256, sha256(&file));
}
