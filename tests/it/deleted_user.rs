//! A user is deleted, and everything that hangs on them, while their uploads are in every stage: late chunks are refused,
//! the sessions end EXPIRED, and nothing of them is left here or at fflow.

use std::time::{Duration, Instant};

use peers::recording::{CallKind, Fault, FaultRule, RecordingOptions};
use uuid::Uuid;

use crate::client::{Client, answer};
use crate::crowd::fire;
use crate::world::{LATE, Plan, Replica, SOON, Upload, World, bytes};

const CLEANS: [(&str, &str); 2] = [
    ("SCHEDULER_CLEAR_UPLOAD_RESOURCES_ENABLED", "true"),
    ("SCHEDULER_CLEAR_UPLOAD_RESOURCES_SLEEP_TIME", "500"),
];

/// A user with these videos.
async fn user_of(world: &World, uploads: &[Upload]) -> Uuid {
    let user = Uuid::new_v4();
    let insert = "INSERT INTO users (id, email, password_hash, created_at) VALUES ($1, $2, 'x', now())";
    world.execute(insert, vec![user.into(), format!("{user}@example.org").into()]).await;
    for upload in uploads {
        let owns = "UPDATE videos SET user_id = $2 WHERE id = $1";
        assert_eq!(world.execute(owns, vec![upload.video.into(), user.into()]).await, 1);
    }
    user
}

async fn delete(world: &World, user: Uuid) {
    assert_eq!(world.execute("DELETE FROM users WHERE id = $1", vec![user.into()]).await, 1);
}

/// The session has ended as one that somebody removed, and neither rows, bytes, route nor process is left.
async fn gone(world: &World, upload: &Upload) {
    world
        .wait("the session to be EXPIRED", LATE, async || {
            world.state(upload).await.as_deref() == Some("EXPIRED")
        })
        .await;
    let reason = "SELECT last_error FROM uploader.session WHERE session_id = $1";
    assert_eq!(world.text(reason, upload.session).await.as_deref(), Some("removed by another"));
    world.nothing_left(upload).await;
    let strays = "SELECT count(*)::text FROM uploader.stray WHERE session_id = $1";
    world
        .wait("its processes to be deleted", LATE, async || {
            world.text(strays, upload.session).await.as_deref() == Some("0")
        })
        .await;
    let id = upload.session.to_string();
    let alive =
        |flow: &peers::recording::RecordedFlow| flow.name.starts_with(&id) && !flow.finished && !flow.deleted;
    let left: Vec<_> = world.fflow.flows().into_iter().filter(alive).collect();
    assert!(left.is_empty(), "{left:?}");
}

async fn refused(client: &Client, upload: &Upload, file: &[u8], start: usize) {
    let late = client.begin(&upload.session.to_string(), start as i64, &file[start..start + 1000]).await;
    let late = answer(late).await;
    assert!(late.reason().contains("removed"), "{late:?}");
    assert_eq!(late.retryable, Some(false), "{late:?}");
}

async fn cleaning() -> (World, Replica, std::sync::Arc<Client>) {
    let plan = Plan { fflow: RecordingOptions::default(), settings: CLEANS.to_vec(), ..Plan::default() };
    let world = World::planned(plan).await;
    let replica = world.replica("one").await;
    let client = world.client().await;
    (world, replica, client)
}

#[tokio::test]
async fn a_user_who_is_deleted_in_mid_upload_leaves_nothing() {
    let (world, _replica, client) = cleaning().await;
    let file = bytes(340, 1_000_000);
    let (fed, begun, unbegun) = (
        world.announce_one(file.len()).await,
        world.announce_one(file.len()).await,
        world.announce_one(file.len()).await,
    );
    let user = user_of(&world, &[fed, begun, unbegun]).await;
    let other = world.announce_one(file.len()).await;
    client.upload_range(&fed, &file, 100_000, 0, 600_000).await;
    client.upload_range(&begun, &file, 1000, 0, 1000).await;
    client.upload_range(&other, &file, 100_000, 0, 500_000).await;
    let process = fed.session.to_string();
    world
        .wait("bytes to be fed", SOON, async || world.fflow.flow(&process).is_some_and(|flow| flow.bytes > 0))
        .await;
    let deleted = Instant::now();
    delete(&world, user).await;
    refused(&client, &fed, &file, 600_000).await;
    refused(&client, &begun, &file, 1000).await;
    let never = client.send(&unbegun, 0, &file[..1000]).await;
    assert!(never.reason().contains("unknown"), "{never:?}");
    let again = client.send(&begun, 0, &file[..1000]).await;
    assert!(again.is_ack(), "a duplicate is answered as the first time: {again:?}");
    for upload in [&fed, &begun] {
        gone(&world, upload).await;
    }
    fire(
        "user deleted in mid-upload",
        &format!("2 sessions EXPIRED and cleaned in {:.1?}", deleted.elapsed()),
    );
    refused(&client, &fed, &file, 600_000).await;
    client.upload_range(&other, &file, 100_000, 500_000, file.len()).await;
    world.distributed(&other).await;
}

/// A finish is on its way when the user is deleted; it succeeds, never comes back, or is found dead.
#[tokio::test]
async fn a_user_who_is_deleted_in_mid_finish_leaves_nothing() {
    let (world, _replica, client) = cleaning().await;
    let file = bytes(341, 400_000);
    let mut uploads = Vec::new();
    let manners = [
        Fault::DelayThen(Duration::from_secs(4)),
        Fault::Hang(None),
        Fault::DelayThen(Duration::from_secs(30)),
    ];
    let mut rules = Vec::new();
    for manner in manners {
        let upload = world.announce_one(file.len()).await;
        let rule = FaultRule::on(CallKind::Finish, manner).name(upload.session.to_string());
        rules.push(world.fflow.inject(rule));
        client.upload(&upload, &file, 100_000).await;
        uploads.push(upload);
    }
    let user = user_of(&world, &uploads).await;
    world
        .wait("all finishes to be asked for", SOON, async || {
            rules.iter().all(|rule| world.fflow.struck(*rule) > 0)
        })
        .await;
    let deleted = Instant::now();
    delete(&world, user).await;
    for upload in &uploads {
        refused(&client, upload, &file, 0).await;
    }
    for upload in &uploads {
        gone(&world, upload).await;
    }
    fire(
        "user deleted in mid-finish",
        &format!("3 sessions EXPIRED and cleaned in {:.1?}", deleted.elapsed()),
    );
}
