//! What an operator does to sessions by hand.

use std::collections::HashSet;
use std::time::Duration;

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
            log.contains("fenced: this session was taken over, or ended by another hand")
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

#[tokio::test]
async fn a_retry_that_waits_tells_whether_it_plays_now() {
    let world = impatient().await;
    let _replica = world.replica("one").await;
    let upload = poisoned(&world, &bytes(97, 400_000)).await;
    let id = upload.session.to_string();
    let in_vain = world.command(&["sessions", "retry", &id, "--wait", "--timeout", "90s"]).await;
    assert!(in_vain.code == 1 && in_vain.stdout.contains("it is FAILED"), "{in_vain:?}");
    assert!(in_vain.stderr.contains("SEALED: fed by"), "{in_vain:?}");
    assert_eq!(world.state(&upload).await.as_deref(), Some("FAILED"));

    world.fflow.disarm_all();
    let plays = world.command(&["sessions", "retry", &id, "--wait", "--json"]).await;
    assert_eq!((plays.code, plays.json()["waited"]["state"].as_str()), (0, Some("DONE")), "{plays:?}");
    assert_eq!(world.video_status(&upload).await.as_deref(), Some("DISTRIBUTED"));
}

#[tokio::test]
async fn a_retry_waits_no_longer_than_it_was_told() {
    let world = impatient().await;
    let replica = world.replica("one").await;
    let upload = poisoned(&world, &bytes(98, 400_000)).await;
    drop(replica);
    let id = upload.session.to_string();
    let waited = world.command(&["sessions", "retry", &id, "--wait", "--timeout", "1s"]).await;
    assert!(waited.code == 1 && waited.stdout.contains("it is SEALED still"), "{waited:?}");
    assert!(waited.stderr.contains("nobody yet"), "{waited:?}");
}

#[tokio::test]
async fn a_failed_session_is_ended_and_nothing_of_it_stays_but_its_reason() {
    let mut world = impatient().await;
    world.set("SCHEDULER_CLEAR_UPLOAD_RESOURCES_ENABLED", "true".to_owned());
    world.set("SCHEDULER_CLEAR_UPLOAD_RESOURCES_SLEEP_TIME", "500".to_owned());
    let _replica = world.replica("standalone").await;
    let upload = poisoned(&world, &bytes(99, 400_000)).await;
    let id = upload.session.to_string();
    let shown = world.command(&["sessions", "show", &id, "--json"]).await.json();
    assert_eq!(shown["spool_folder"]["files"], 1, "{shown}");
    assert!(shown["spool_folder"]["bytes"].as_i64() > Some(400_000), "{shown}");

    let ended = world.command(&["sessions", "expire", &id]).await;
    assert!(ended.code == 0 && ended.stdout.contains("FAILED -> EXPIRED"), "{ended:?}");
    world.nothing_left(&upload).await;
    assert_eq!(world.flow_status(&upload).await.as_deref(), Some("HIDDEN"));
    assert_eq!(world.video_status(&upload).await.as_deref(), Some("BLOCKED"));
    let shown = world.command(&["sessions", "show", &id]).await;
    let told = shown.stdout.contains("ended by an operator") && shown.stdout.contains("no folder of it");
    assert!(shown.code == 0 && told, "{shown:?}");
    let again = world.command(&["sessions", "retry", &id]).await;
    assert!(again.code == 3 && again.stdout.contains("EXPIRED"), "{again:?}");
}

#[tokio::test]
async fn a_finish_that_succeeds_after_the_expiry_changes_nothing() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(100, 400_000);
    let upload = world.announce_one(file.len()).await;
    let id = upload.session.to_string();
    let late = Fault::DelayThen(Duration::from_secs(3));
    world.fflow.inject(FaultRule::on(CallKind::Finish, late).name(id.clone()));
    client.upload(&upload, &file, 100_000).await;
    world
        .wait("the finish to be under way", SOON, async || {
            world.fflow.calls().iter().any(|call| call.kind == CallKind::Finish && call.name == id)
        })
        .await;
    let forced = world.command(&["sessions", "expire", &id, "--force"]).await;
    assert_eq!(forced.code, 0, "{forced:?}");
    world.wait("the files to be shipped", SOON, async || !world.fflow.holder_files().is_empty()).await;
    // Another upload goes the whole road meanwhile: whatever the late answer does is done by then.
    let other = world.announce_one(file.len()).await;
    client.upload(&other, &file, 100_000).await;
    world.distributed(&other).await;
    assert_eq!(world.state(&upload).await.as_deref(), Some("EXPIRED"));
    assert_eq!(world.flow_status(&upload).await.as_deref(), Some("HIDDEN"));
    assert_eq!(world.video_status(&upload).await.as_deref(), Some("BLOCKED"));
}

#[tokio::test]
async fn an_expiry_and_a_completion_of_the_same_session_come_one_after_the_other() {
    let world = World::new().await;
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let file = bytes(101, 400_000);
    let mut played = 0;
    for round in 0..6 {
        let upload = world.announce_one(file.len()).await;
        let id = upload.session.to_string();
        world.fflow.set_holder_down(true);
        client.upload(&upload, &file, 200_000).await;
        let finishing = "SELECT finish_sent_at::text FROM uploader.session WHERE session_id = $1";
        world
            .wait("the finish to be asked for", SOON, async || {
                world.text(finishing, upload.session).await.is_some()
            })
            .await;
        let held = world.hold("UPDATE videos SET title = title WHERE id = $1", upload.video).await;
        world.fflow.set_holder_down(false);
        // In odd rounds the owner already waits for the video when the expiry comes.
        if round % 2 == 1 {
            world.waits_for_a_lock().await;
        }
        let arguments = ["sessions", "expire", id.as_str(), "--force"];
        let (ended, ()) = tokio::join!(world.command(&arguments), async {
            waiting(&world, if round % 2 == 1 { 2 } else { 1 }).await;
            held.commit().await.unwrap();
        });
        world
            .wait("the session to be over", LATE, async || {
                matches!(world.state(&upload).await.as_deref(), Some("DONE" | "EXPIRED"))
            })
            .await;
        let all = (
            world.state(&upload).await.unwrap(),
            world.flow_status(&upload).await.unwrap(),
            world.video_status(&upload).await.unwrap(),
        );
        let (state, flow, video) = (all.0.as_str(), all.1.as_str(), all.2.as_str());
        match ended.code {
            0 => assert_eq!((state, flow, video), ("EXPIRED", "HIDDEN", "BLOCKED"), "{ended:?}"),
            3 => assert_eq!((state, flow, video), ("DONE", "DISTRIBUTED", "DISTRIBUTED"), "{ended:?}"),
            _ => panic!("{ended:?}"),
        }
        played += usize::from(ended.code == 3);
    }
    println!("{played} of 6 videos were faster than the expiry");
}

/// Waits until so many connections of this world wait for locks at once.
async fn waiting(world: &World, how_many: usize) {
    let waiting =
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    world
        .wait("others to wait for a lock", SOON, async || {
            world.query(waiting, Vec::new()).await.len() >= how_many
        })
        .await;
}

#[tokio::test]
async fn an_intervention_outlasts_rows_that_somebody_holds() {
    let world =
        World::with(RecordingOptions::default(), &[("UPLOADER_DATABASE_LOCK_TIMEOUT", "300ms")]).await;
    let _replica = world.replica("one").await;
    let upload = world.announce_one(1000).await;
    let id = upload.session.to_string();
    let held = world.hold("UPDATE videos SET title = title WHERE id = $1", upload.video).await;
    let arguments = ["sessions", "expire", id.as_str()];
    let (ended, ()) = tokio::join!(world.command(&arguments), async {
        let transactions = "SELECT xact_start::text FROM pg_stat_activity \
                            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let mut seen = HashSet::new();
        world
            .wait("a second attempt", SOON, async || {
                let rows = world.query(transactions, Vec::new()).await;
                seen.extend(rows.iter().map(|row| row.try_get_by_index::<String>(0).unwrap()));
                seen.len() > 1
            })
            .await;
        held.commit().await.unwrap();
    });
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(world.state(&upload).await.as_deref(), Some("EXPIRED"));

    let second = world.announce_one(1000).await;
    let _held = world.hold("UPDATE videos SET title = title WHERE id = $1", second.video).await;
    let given_up = world.command(&["sessions", "expire", &second.session.to_string()]).await;
    assert!(given_up.code == 1 && given_up.stderr.contains("sessions show"), "{given_up:?}");
    assert_eq!(world.state(&second).await, None, "nothing was changed");
}

#[tokio::test]
async fn the_audit_is_heard_whatever_the_filter_and_an_unknown_session_is_told_in_json() {
    let world = World::new().await;
    let early = world.command(&["sessions", "ls"]).await;
    assert!(early.code == 1 && early.stderr.contains("uploader-v4 migrate"), "{early:?}");
    let _replica = world.replica("one").await;
    let id = Uuid::new_v4().to_string();
    let quiet = [("UPLOADER_LOG_FILTER", "error"), ("USER", "ada"), ("SUDO_USER", "ada")];
    let refused = world.command_with(&["sessions", "retry", &id], &quiet).await;
    assert_eq!(refused.code, 3, "{refused:?}");
    let line = refused.stderr.lines().find(|line| line.contains("audit: intervention")).unwrap();
    for word in ["action=\"retry\"", id.as_str(), "ada@", "no such session"] {
        assert!(line.contains(word), "{word}: {line}");
    }
    let unknown = world.command(&["sessions", "show", &id, "--json"]).await;
    assert_eq!((unknown.code, unknown.json()["session_id"].as_str()), (3, Some(id.as_str())), "{unknown:?}");
}
