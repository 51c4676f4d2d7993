//! What an operator does to sessions by hand.

use peers::recording::{CallKind, Fault, FaultRule, RecordingOptions};
use uuid::Uuid;

use crate::client::answer;
use crate::world::{LATE, SOON, Upload, World, bytes, sha256};

const IMPATIENT: [(&str, &str); 3] = [
    ("UPLOADER_FEED_STRIKE_WAITS", "100ms,100ms"),
    ("UPLOADER_FEED_BACKOFF_MIN", "100ms"),
    ("UPLOADER_FEED_STRIKE_SPAN", "1s"),
];

/// A world in which a lone failing session is given up soon.
async fn impatient() -> World {
    World::with(RecordingOptions::default(), &IMPATIENT).await
}

async fn failed(world: &World, upload: &Upload) {
    world
        .wait("the session to be FAILED", LATE, async || {
            world.state(upload).await.as_deref() == Some("FAILED")
        })
        .await;
}

/// An upload whose finishes fail until the rule is disarmed.
async fn poisoned(world: &World, file: &[u8]) -> Upload {
    let upload = world.announce_one(file.len()).await;
    world.fflow.inject(FaultRule::on(CallKind::Finish, Fault::Status(500)).name(upload.session.to_string()));
    world.client().await.upload(&upload, file, 100_000).await;
    failed(world, &upload).await;
    upload
}

#[tokio::test]
async fn a_failed_session_is_fed_again_from_its_bytes_without_its_client() {
    let world = impatient().await;
    let _replica = world.replica("one").await;
    let file = bytes(90, 400_000);
    let upload = poisoned(&world, &file).await;
    assert_eq!(world.video_status(&upload).await.as_deref(), Some("BLOCKED"));
    let id = upload.session.to_string();

    let listed = world.command(&["sessions", "ls", "--state", "failed", "--json"]).await;
    assert_eq!(listed.json()["sessions"][0]["session_id"], id.as_str(), "{listed:?}");
    let shown = world.command(&["sessions", "show", &id.to_uppercase()]).await;
    assert!(shown.code == 0 && shown.stdout.contains(&format!("sessions retry {id}")), "{shown:?}");

    world.fflow.disarm_all();
    let retried = world.command(&["sessions", "retry", &id, "--json"]).await;
    assert_eq!(retried.code, 0, "{retried:?}");
    let answer = retried.json();
    assert_eq!((answer["before"].as_str(), answer["after"].as_str()), (Some("FAILED"), Some("SEALED")));
    assert!(retried.stderr.contains("audit") && retried.stderr.contains("retry"), "{retried:?}");
    world.distributed(&upload).await;
    let flow = world.fflow.flows().into_iter().rfind(|flow| flow.name.starts_with(&id)).unwrap();
    assert_eq!(flow.sha256, sha256(&file));
    world.nothing_left(&upload).await;
    let again = world.command(&["sessions", "retry", &id]).await;
    assert!(again.code == 3 && again.stdout.contains("DONE"), "{again:?}");
}

#[tokio::test]
async fn of_two_retries_at_once_one_wins() {
    let world = impatient().await;
    let replica = world.replica("one").await;
    let upload = poisoned(&world, &bytes(91, 400_000)).await;
    drop(replica);
    let id = upload.session.to_string();
    let arguments = ["sessions", "retry", id.as_str()];
    let (one, two) = tokio::join!(world.command(&arguments), world.command(&arguments));
    let mut codes = [one.code, two.code];
    codes.sort_unstable();
    assert_eq!(codes, [0, 3], "{one:?} {two:?}");
}

#[tokio::test]
async fn a_video_with_another_failed_flow_stays_blocked_until_both_are_tried_again() {
    let world = impatient().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(92, 400_000);
    let uploads = world.announce(&[file.len() as i64, file.len() as i64]).await;
    for upload in &uploads {
        let name = upload.session.to_string();
        world.fflow.inject(FaultRule::on(CallKind::Finish, Fault::Status(500)).name(name));
    }
    // Both are whole before either can fail: a BLOCKED video takes no chunks.
    let halves = uploads.iter().map(|upload| client.upload(upload, &file, 200_000));
    futures_util::future::join_all(halves).await;
    // Two that fail together look like an outage; what others achieve meanwhile is the evidence against them.
    let began = std::time::Instant::now();
    let is_failed = async |upload| world.state(upload).await.as_deref() == Some("FAILED");
    while !(is_failed(&uploads[0]).await && is_failed(&uploads[1]).await) {
        assert!(began.elapsed() < LATE, "not failed");
        let good = world.announce_one(file.len()).await;
        client.upload(&good, &file, 200_000).await;
        world.distributed(&good).await;
    }
    world.fflow.disarm_all();
    let first = world.command(&["sessions", "retry", &uploads[0].session.to_string()]).await;
    assert!(first.code == 0 && first.stdout.contains("BLOCKED still"), "{first:?}");
    let second = world.command(&["sessions", "retry", &uploads[1].session.to_string()]).await;
    assert!(second.code == 0, "{second:?}");
    for upload in &uploads {
        world
            .wait("the flow to play", LATE, async || {
                world.flow_status(upload).await.as_deref() == Some("DISTRIBUTED")
            })
            .await;
    }
}

#[tokio::test]
async fn bytes_that_the_janitor_gives_up_at_the_same_moment_are_not_retried() {
    let world = impatient().await;
    let replica = world.replica("one").await;
    let upload = poisoned(&world, &bytes(93, 400_000)).await;
    drop(replica);
    let id = upload.session.to_string();
    // What the janitor commits before it removes the files, held open on a second connection.
    let held = world
        .hold(
            "UPDATE uploader.session SET spool_gone_at = clock_timestamp() WHERE session_id = $1",
            upload.session,
        )
        .await;
    let arguments = ["sessions", "retry", id.as_str()];
    let (retried, ()) = tokio::join!(world.command(&arguments), async {
        world.waits_for_a_lock().await;
        held.commit().await.unwrap();
    });
    assert!(retried.code == 3 && retried.stdout.contains("given up"), "{retried:?}");
    assert_eq!(world.state(&upload).await.as_deref(), Some("FAILED"));
}

#[tokio::test]
async fn a_live_session_is_ended_while_it_is_fed_and_its_owner_is_fenced() {
    let cleans = [
        ("SCHEDULER_CLEAR_UPLOAD_RESOURCES_ENABLED", "true"),
        ("SCHEDULER_CLEAR_UPLOAD_RESOURCES_SLEEP_TIME", "500"),
    ];
    let world = World::with(RecordingOptions::default(), &cleans).await;
    let replica = world.replica("standalone").await;
    let client = world.client().await;
    let file = bytes(94, 900_000);
    let upload = world.announce_one(file.len()).await;
    let id = upload.session.to_string();
    // The push hangs: expire comes in the middle of it.
    world.fflow.inject(FaultRule::on(CallKind::Push, Fault::Hang(None)).name(id.clone()));
    client.upload_range(&upload, &file, 100_000, 0, 600_000).await;
    world
        .wait("a push to be under way", SOON, async || {
            world.fflow.calls().iter().any(|call| call.kind == CallKind::Push && call.name == id)
        })
        .await;
    let ended = world.command(&["sessions", "expire", &id, "--json"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.json()["after"], "EXPIRED");
    assert_eq!(world.video_status(&upload).await.as_deref(), Some("BLOCKED"));
    assert_eq!(world.flow_status(&upload).await.as_deref(), Some("HIDDEN"));
    let late = client.send(&upload, 600_000, &file[600_000..700_000]).await;
    assert!(late.reason().contains("operator"), "{late:?}");
    world.nothing_left(&upload).await;
    world
        .wait("the owner to notice and the process to be deleted", SOON, async || {
            let log = std::fs::read_to_string(world.workspace.log("standalone")).unwrap();
            log.contains("another replica owns this session now")
                && world.fflow.flow(&id).is_some_and(|flow| flow.deleted)
        })
        .await;
    assert_eq!(replica.readyz().await.0, 200);
    let again = world.command(&["sessions", "expire", &id]).await;
    assert!(again.code == 3 && again.stdout.contains("final"), "{again:?}");
}

#[tokio::test]
async fn a_whole_file_is_thrown_away_by_force_only_even_in_mid_finish() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(95, 400_000);
    let upload = world.announce_one(file.len()).await;
    let id = upload.session.to_string();
    world.fflow.inject(FaultRule::on(CallKind::Finish, Fault::Hang(None)).name(id.clone()));
    client.upload(&upload, &file, 100_000).await;
    let finishing = "SELECT finish_sent_at::text FROM uploader.session WHERE session_id = $1";
    world
        .wait("the finish to be under way", SOON, async || {
            world.text(finishing, upload.session).await.is_some()
        })
        .await;
    let gentle = world.command(&["sessions", "expire", &id]).await;
    assert!(gentle.code == 3 && gentle.stdout.contains("--force"), "{gentle:?}");
    assert_eq!(world.state(&upload).await.as_deref(), Some("SEALED"));
    let forced = world.command(&["sessions", "expire", &id, "--force"]).await;
    assert!(forced.code == 0 && forced.stdout.contains("holder"), "{forced:?}");
    assert_eq!(world.state(&upload).await.as_deref(), Some("EXPIRED"));
    let strays = "SELECT name FROM uploader.stray WHERE session_id = $1";
    assert_eq!(world.text(strays, upload.session).await, Some(id));
}

#[tokio::test]
async fn an_upload_without_a_chunk_is_ended_and_an_unknown_one_refused() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let upload = world.announce_one(1000).await;
    let ended = world.command(&["sessions", "expire", &upload.session.to_string()]).await;
    assert!(ended.code == 0 && ended.stdout.contains("not begun -> EXPIRED"), "{ended:?}");
    let first = answer(world.client().await.begin(&upload.session.to_string(), 0, &[1; 1000]).await).await;
    assert!(!first.is_ack(), "{first:?}");
    for what in ["show", "retry", "expire"] {
        let unknown = world.command(&["sessions", what, &Uuid::new_v4().to_string()]).await;
        assert_eq!(unknown.code, 3, "{unknown:?}");
    }
    let nonsense = world.command(&["sessions", "show", "nonsense"]).await;
    assert_eq!(nonsense.code, 2, "{nonsense:?}");
}

#[tokio::test]
async fn an_expiry_and_a_commit_of_the_same_session_come_one_after_the_other() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(96, 200_000);
    let mut acked = 0;
    for _ in 0..10 {
        let upload = world.announce_one(file.len()).await;
        assert!(client.send(&upload, 0, &file[..50_000]).await.is_ack());
        let id = upload.session.to_string();
        let arguments = ["sessions", "expire", id.as_str()];
        let (ended, answer) =
            tokio::join!(world.command(&arguments), client.send(&upload, 50_000, &file[50_000..100_000]));
        assert_eq!(ended.code, 0, "{ended:?}");
        let stored = "SELECT committed::text FROM uploader.session WHERE session_id = $1";
        let stored = world.text(stored, upload.session).await.unwrap();
        assert_eq!(stored, if answer.is_ack() { "100000" } else { "50000" });
        assert_eq!(world.committed(&upload).await.to_string(), stored, "both tables tell the same");
        assert_eq!(world.state(&upload).await.as_deref(), Some("EXPIRED"));
        acked += usize::from(answer.is_ack());
    }
    println!("{acked} of 10 chunks were faster than the expiry");
}
