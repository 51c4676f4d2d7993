//! From the spool into ffmpeg, whatever happens to it.

use std::time::Duration;

use devstack::Signal;
use peers::recording::{CallKind, Fault, FaultRule, RecordingOptions};

use crate::world::{LATE, SOON, World, bytes, sha256};

#[tokio::test]
async fn a_file_over_two_replicas_is_fed_once_and_in_order() {
    let world = World::new().await;
    let _one = world.replica("one").await;
    let _two = world.replica("two").await;
    let client = world.client().await;
    let file = bytes(10, 3_000_000);
    let upload = world.announce_one(file.len()).await;
    client.upload(&upload, &file, 65_536).await;
    world.distributed(&upload).await;
    let flow = world.fflow.flow(&upload.session.to_string()).unwrap();
    assert_eq!(flow.sha256, sha256(&file));
    assert_eq!(world.fflow.flows().len(), 1, "one generation");
    world.nothing_left(&upload).await;
}

#[tokio::test]
async fn three_flows_of_a_video_finish_together_and_the_video_follows_the_last() {
    let world = World::new().await;
    let _one = world.replica("one").await;
    let _two = world.replica("two").await;
    let client = world.client().await;
    let file = bytes(11, 400_000);
    let uploads = world.announce(&[400_000; 3]).await;
    let all = uploads.iter().map(|upload| client.upload(upload, &file, 100_000));
    futures_util::future::join_all(all).await;
    world.distributed(&uploads[0]).await;
    for upload in &uploads {
        assert_eq!(world.flow_status(upload).await.as_deref(), Some("DISTRIBUTED"));
        assert_eq!(world.fflow.flow(&upload.session.to_string()).unwrap().sha256, sha256(&file));
    }
}

#[tokio::test]
async fn a_push_that_fails_in_any_way_costs_a_generation_and_no_byte() {
    for fault in
        [Fault::Status(500), Fault::Status(404), Fault::Status(413), Fault::ResetBefore, Fault::ResetAfter]
    {
        let world = World::new().await;
        let _replica = world.replica("one").await;
        let client = world.client().await;
        let file = bytes(12, 2_000_000);
        let upload = world.announce_one(file.len()).await;
        let rule = world.fflow.inject(FaultRule::on(CallKind::Push, fault.clone()).skip(1).once());
        client.upload(&upload, &file, 500_000).await;
        world.distributed(&upload).await;
        assert_eq!(world.fflow.struck(rule), 1, "{fault:?}");
        let second = world.fflow.flow(&format!("{}~2", upload.session)).unwrap();
        assert_eq!(second.sha256, sha256(&file), "{fault:?}");
    }
}

#[tokio::test]
async fn a_create_that_fails_or_answers_a_base_address_is_nobodys_strike() {
    for fault in [Fault::Status(500), Fault::BaseAddress, Fault::ResetAfter] {
        let world = World::new().await;
        let _replica = world.replica("one").await;
        let client = world.client().await;
        let file = bytes(13, 600_000);
        let upload = world.announce_one(file.len()).await;
        world.fflow.inject(FaultRule::on(CallKind::Create, fault.clone()).once());
        client.upload(&upload, &file, 200_000).await;
        world.distributed(&upload).await;
        let strikes = "SELECT strikes::text FROM uploader.session WHERE session_id = $1";
        assert_eq!(world.text(strikes, upload.session).await.as_deref(), Some("0"), "{fault:?}");
    }
}

#[tokio::test]
async fn a_finish_behind_an_impatient_proxy_is_watched_and_never_repeated() {
    let options =
        RecordingOptions { proxy_timeout: Some(Duration::from_secs(2)), ..RecordingOptions::default() };
    let world = World::with(options, &[]).await;
    let replicas = [world.replica("one").await, world.replica("two").await];
    let client = world.client().await;
    let file = bytes(14, 600_000);
    let upload = world.announce_one(file.len()).await;
    world.fflow.inject(FaultRule::on(CallKind::Finish, Fault::DelayThen(Duration::from_secs(90))).once());
    client.upload(&upload, &file, 200_000).await;
    world
        .wait("the finish to be asked for", SOON, async || {
            world.fflow.calls().iter().any(|call| call.kind == CallKind::Finish)
        })
        .await;
    let owner = world.owner(&upload).await;
    let owner = replicas.iter().find(|replica| replica.process.name() == owner).unwrap();
    owner.process.signal(Signal::SIGTERM).unwrap();
    world.distributed(&upload).await;
    assert_eq!(world.fflow.flows().len(), 1, "one generation");
    let finishes = world.fflow.calls().iter().filter(|call| call.kind == CallKind::Finish).count();
    assert_eq!(finishes, 1);
}

#[tokio::test]
async fn a_killed_replica_is_followed_by_the_next_generation() {
    let world = World::with(
        RecordingOptions::default(),
        &[("UPLOADER_LEASE", "3s"), ("UPLOADER_REPLICA_HEARTBEAT", "1s")],
    )
    .await;
    let one = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(15, 2_000_000);
    let upload = world.announce_one(file.len()).await;
    client.upload_range(&upload, &file, 100_000, 0, 1_000_000).await;
    world.wait("bytes to be fed", SOON, async || world.fflow.flows().iter().any(|flow| flow.bytes > 0)).await;
    one.process.kill().await.unwrap();
    let _two = world.replica("two").await;
    client.upload_range(&upload, &file, 100_000, 1_000_000, file.len()).await;
    world.distributed(&upload).await;
    assert_eq!(world.fflow.flow(&format!("{}~2", upload.session)).unwrap().sha256, sha256(&file));
}

#[tokio::test]
async fn a_settled_hand_over_finds_its_flow_through_redis_alone() {
    let world = World::with(RecordingOptions::default(), &[]).await;
    let one = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(16, 2_000_000);
    let upload = world.announce_one(file.len()).await;
    client.upload_range(&upload, &file, 100_000, 0, 1_000_000).await;
    world
        .wait("all stored bytes to be fed", SOON, async || {
            world.fflow.flows().iter().any(|flow| flow.bytes == 1_000_000)
        })
        .await;
    one.process.stop(Signal::SIGTERM, SOON).await.unwrap();
    let settled = "SELECT settled::text FROM uploader.session WHERE session_id = $1";
    assert_eq!(world.text(settled, upload.session).await.as_deref(), Some("true"));
    world.execute("UPDATE uploader.session SET flow_url = NULL", vec![]).await;

    let _two = world.replica("two").await;
    client.upload_range(&upload, &file, 100_000, 1_000_000, file.len()).await;
    world.distributed(&upload).await;
    assert_eq!(world.fflow.flows().len(), 1, "the same generation went on");
    assert_eq!(world.fflow.flow(&upload.session.to_string()).unwrap().sha256, sha256(&file));
}

#[tokio::test]
async fn redis_emptied_in_mid_upload_costs_nothing() {
    let world = World::new().await;
    let one = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(17, 2_000_000);
    let upload = world.announce_one(file.len()).await;
    client.upload_range(&upload, &file, 100_000, 0, 1_000_000).await;
    world
        .wait("all stored bytes to be fed", SOON, async || {
            world.fflow.flows().iter().any(|flow| flow.bytes == 1_000_000)
        })
        .await;
    world.sandbox.flush_redis().await.unwrap();
    one.process.stop(Signal::SIGTERM, SOON).await.unwrap();
    let _two = world.replica("two").await;
    client.upload_range(&upload, &file, 100_000, 1_000_000, 1_500_000).await;
    world.wait("redis to be filled again", SOON, async || world.route(upload.session).await.is_some()).await;
    client.upload_range(&upload, &file, 100_000, 1_500_000, file.len()).await;
    world.distributed(&upload).await;
    assert_eq!(world.fflow.flows().len(), 1, "the same generation went on");
}

#[tokio::test]
async fn a_poisoned_file_is_failed_while_others_succeed() {
    let settings = [("UPLOADER_FEED_STRIKE_WAITS", "100ms,100ms"), ("UPLOADER_FEED_BACKOFF_MIN", "100ms")];
    let world = World::with(RecordingOptions::default(), &settings).await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(18, 600_000);
    let poisoned = world.announce_one(file.len()).await;
    let rule = FaultRule::on(CallKind::Finish, Fault::Status(500)).name(poisoned.session.to_string());
    world.fflow.inject(rule);
    client.upload(&poisoned, &file, 200_000).await;
    let mut good = 0;
    let started = std::time::Instant::now();
    while world.state(&poisoned).await.as_deref() != Some("FAILED") {
        assert!(started.elapsed() < LATE, "not failed after {good} good uploads");
        let upload = world.announce_one(file.len()).await;
        client.upload(&upload, &file, 200_000).await;
        world.distributed(&upload).await;
        good += 1;
    }
    assert_eq!(world.video_status(&poisoned).await.as_deref(), Some("BLOCKED"));
    assert_eq!(world.flow_status(&poisoned).await.as_deref(), Some("HIDDEN"));
    let reason = "SELECT last_error FROM uploader.session WHERE session_id = $1";
    assert!(world.text(reason, poisoned.session).await.unwrap().contains("500"));
}
