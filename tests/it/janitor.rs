//! What nobody uses goes, what somebody uses stays.

mod command;
mod dry_run;
mod interrupted;
mod races;

use std::time::Duration;

use peers::recording::{CallKind, Fault, FaultRule, RecordingOptions};
use uuid::Uuid;

use crate::client::answer;
use crate::world::{LATE, Replica, SOON, Upload, World, bytes};

const CLEANS: [(&str, &str); 3] = [
    ("SCHEDULER_CLEAR_UPLOAD_RESOURCES_ENABLED", "true"),
    ("SCHEDULER_CLEAR_UPLOAD_RESOURCES_SLEEP_TIME", "500"),
    ("VIDEO_TTL", "3000"),
];
const TTL: Duration = Duration::from_secs(3);

async fn cleaning() -> World {
    World::with(RecordingOptions::default(), &CLEANS).await
}

/// Waits until the uploads have had a chance to be taken for abandoned: one that is, made now, is gone.
async fn a_cleaning_later(world: &World) {
    let decoy = world.announce_one(1000).await;
    removed(world, &decoy).await;
}

/// Makes the farm look as if it had been taking chunks since yesterday.
async fn takes_chunks_since_long_ago(world: &World) {
    let since = "UPDATE uploader.service SET consuming_since = now() - interval '1 day' \
                 WHERE EXISTS (SELECT 1 FROM uploader.replica WHERE consuming)";
    world.wait("a replica to take chunks", SOON, async || world.execute(since, Vec::new()).await == 1).await;
}

/// Leaves the schema and a marked spool behind, and no process: a row stands for a replica that takes chunks.
async fn alone(world: &World) {
    let replica = world.replica("first").await;
    replica.process.stop(devstack::Signal::SIGTERM, SOON).await.unwrap();
    let row = "INSERT INTO uploader.replica (replica_id, name, consuming, lease_until) \
               VALUES ($1, 'stands for one', true, now() + interval '1 hour')";
    world.execute(row, vec![Uuid::new_v4().into()]).await;
    takes_chunks_since_long_ago(world).await;
}

/// Makes an upload look as if nobody had touched it for two hours.
async fn forsaken(world: &World, upload: &Upload) {
    let ago = "created_at = now() - interval '2 hours'";
    world.execute(&format!("UPDATE videos SET {ago} WHERE id = $1"), vec![upload.video.into()]).await;
    world.execute(&format!("UPDATE flows SET {ago} WHERE video_id = $1"), vec![upload.video.into()]).await;
    let ours = format!(
        "UPDATE uploader.session SET last_activity = now() - interval '2 hours', {ago} WHERE video_id = $1"
    );
    world.execute(&ours, vec![upload.video.into()]).await;
}

impl World {
    /// Whether a condition holds for an upload's video `v` and session `s`, by PostgreSQL's clock.
    async fn is(&self, upload: &Upload, condition: &str) -> bool {
        let sql = format!(
            "SELECT ({condition})::text FROM videos v JOIN uploader.session s ON s.video_id = v.id WHERE session_id = $1"
        );
        self.text(&sql, upload.session).await.as_deref() == Some("true")
    }
}

async fn removed(world: &World, upload: &Upload) {
    world.wait("the video to be removed", SOON, async || world.video_status(upload).await.is_none()).await;
}

async fn expired_and_cleaned(world: &World, upload: &Upload) {
    world
        .wait("the session to be EXPIRED", SOON, async || {
            world.state(upload).await.as_deref() == Some("EXPIRED")
        })
        .await;
    world.nothing_left(upload).await;
}

#[tokio::test]
async fn an_abandoned_upload_goes_everywhere_and_its_late_chunks_are_told() {
    let world = cleaning().await;
    let _standalone = world.replica("standalone").await;
    let client = world.client().await;
    let file = bytes(60, 800_000);
    let upload = world.announce_one(file.len()).await;
    client.upload_range(&upload, &file, 100_000, 0, 500_000).await;
    let name = upload.session.to_string();
    world.wait("it to be fed", SOON, async || world.fflow.flow(&name).is_some()).await;

    removed(&world, &upload).await;
    expired_and_cleaned(&world, &upload).await;
    world
        .wait("its process to be deleted", SOON, async || {
            let strays = "SELECT count(*)::text FROM uploader.stray WHERE session_id = $1";
            world.fflow.flow(&name).is_some_and(|flow| flow.deleted)
                && world.text(strays, upload.session).await.as_deref() == Some("0")
        })
        .await;
    assert_eq!(world.flow_status(&upload).await, None);
    assert_eq!(world.committed(&upload).await, -1);
    let late = client.send(&upload, 500_000, &file[500_000..600_000]).await;
    assert!(late.reason().contains("expired"), "{late:?}");
    assert!(client.send(&upload, 400_000, &file[400_000..500_000]).await.is_ack(), "a duplicate");
    assert!(!world.spool.join(&name).exists());
}

#[tokio::test]
async fn a_live_upload_older_than_the_time_to_live_survives() {
    let world = cleaning().await;
    let _standalone = world.replica("standalone").await;
    let client = world.client().await;
    let file = bytes(61, 100_000);
    let upload = world.announce_one(file.len()).await;
    let mut sent = 0;
    // A chunk whenever a sixth of the time has passed without one, until the video is three times as old as that.
    while !world.is(&upload, "now() - v.created_at > interval '9 seconds'").await {
        client.upload_range(&upload, &file, 1000, sent, sent + 1000).await;
        sent += 1000;
        let silent = "clock_timestamp() - s.last_activity > interval '500 ms'";
        world.wait("a sixth of the time to pass", SOON, async || world.is(&upload, silent).await).await;
    }
    assert!(sent >= 10_000, "{sent}");
    client.upload_range(&upload, &file, 50_000, sent, file.len()).await;
    world.distributed(&upload).await;
}

#[tokio::test]
async fn what_is_processed_for_long_survives_and_what_never_got_a_chunk_goes() {
    let world = cleaning().await;
    let _standalone = world.replica("standalone").await;
    let client = world.client().await;
    let file = bytes(62, 300_000);
    let upload = world.announce_one(file.len()).await;
    world.fflow.set_holder_down(true);
    client.upload(&upload, &file, 100_000).await;
    a_cleaning_later(&world).await;
    a_cleaning_later(&world).await;
    assert_eq!(world.flow_status(&upload).await.as_deref(), Some("PROCESSING"));
    world.fflow.set_holder_down(false);
    world.distributed(&upload).await;

    let never = world.announce_one(1000).await;
    removed(&world, &never).await;
    let first = client.send(&never, 0, &[7; 1000]).await;
    assert!(first.reason().contains("expired"), "{first:?}");
    assert_eq!(world.video_status(&upload).await.as_deref(), Some("DISTRIBUTED"));
}

#[tokio::test]
async fn a_video_of_which_one_flow_plays_is_blocked_and_not_deleted() {
    let world = cleaning().await;
    let _standalone = world.replica("standalone").await;
    let client = world.client().await;
    let file = bytes(63, 300_000);
    let uploads = world.announce(&[file.len() as i64, file.len() as i64]).await;
    client.upload(&uploads[0], &file, 100_000).await;
    client.upload_range(&uploads[1], &file, 100_000, 0, 100_000).await;
    world
        .wait("the video to be BLOCKED", SOON, async || {
            world.video_status(&uploads[0]).await.as_deref() == Some("BLOCKED")
        })
        .await;
    assert_eq!(world.flow_status(&uploads[0]).await.as_deref(), Some("DISTRIBUTED"));
    assert_eq!(world.flow_status(&uploads[1]).await.as_deref(), Some("HIDDEN"));
    expired_and_cleaned(&world, &uploads[1]).await;
    assert!(!world.fflow.holder_files().is_empty(), "files on holder stay");
    a_cleaning_later(&world).await;
    assert_eq!(world.video_status(&uploads[0]).await.as_deref(), Some("BLOCKED"));
}

#[tokio::test]
async fn two_janitors_at_once_do_no_harm() {
    let world = cleaning().await;
    let replicas: Vec<Replica> =
        futures_util::future::join_all([world.replica("one"), world.replica("two")]).await;
    let client = world.client().await;
    let file = bytes(64, 20_000);
    let mut uploads = Vec::new();
    for _ in 0..20 {
        let upload = world.announce_one(file.len()).await;
        client.upload_range(&upload, &file, 10_000, 0, 10_000).await;
        uploads.push(upload);
    }
    for upload in &uploads {
        removed(&world, upload).await;
        expired_and_cleaned(&world, upload).await;
    }
    for replica in &replicas {
        assert_eq!(replica.readyz().await.0, 200);
    }
}

#[tokio::test]
async fn a_folder_without_rows_goes_and_one_whose_first_chunk_is_on_its_way_stays() {
    let world = cleaning().await;
    let expected = world.announce_one(1000).await;
    let orphan = Uuid::new_v4();
    let keep = world.spool.join(expected.session.to_string());
    let _standalone = world.replica("standalone").await;
    let client = world.client().await;
    for folder in [&keep, &world.spool.join(orphan.to_string())] {
        std::fs::create_dir(folder).unwrap();
        std::fs::write(folder.join(Uuid::new_v4().to_string()), b"bytes").unwrap();
    }
    let gone = Upload { session: orphan, ..expected };
    world.execute("UPDATE videos SET created_at = now() + interval '1 hour'", Vec::new()).await;
    expired_and_cleaned(&world, &gone).await;
    a_cleaning_later(&world).await;
    assert!(keep.exists(), "its id is in upload_sessions");
    let answer = answer(client.begin(&orphan.to_string(), 0, b"late").await).await;
    assert!(answer.reason().contains("removed by another"), "{answer:?}");
    // A late append makes the folder of a cleaned session again; it goes again.
    std::fs::create_dir(world.spool.join(orphan.to_string())).unwrap();
    world.wait("the late folder to go", SOON, async || !world.spool.join(orphan.to_string()).exists()).await;
}

#[tokio::test]
async fn an_upload_whose_rows_others_removed_is_expired_and_cleaned() {
    let world = cleaning().await;
    let _standalone = world.replica("standalone").await;
    let client = world.client().await;
    let file = bytes(65, 800_000);
    let upload = world.announce_one(file.len()).await;
    client.upload_range(&upload, &file, 100_000, 0, 400_000).await;
    let name = upload.session.to_string();
    world.wait("it to be fed", SOON, async || world.fflow.flow(&name).is_some()).await;
    world.execute("DELETE FROM videos WHERE id = $1", vec![upload.video.into()]).await;
    expired_and_cleaned(&world, &upload).await;
    world
        .wait("its process to be deleted", SOON, async || {
            world.fflow.flow(&name).is_some_and(|flow| flow.deleted)
        })
        .await;
    let late = client.send(&upload, 400_000, &file[400_000..500_000]).await;
    assert!(late.reason().contains("removed by another"), "{late:?}");
}

#[tokio::test]
async fn nothing_is_abandoned_until_the_farm_has_taken_chunks_for_the_whole_time() {
    let world = cleaning().await;
    let upload = world.announce_one(1000).await;
    world.execute("UPDATE videos SET created_at = now() - interval '1 day'", Vec::new()).await;
    let _standalone = world.replica("standalone").await;
    removed(&world, &upload).await;
    // Both clocks are PostgreSQL's: the tombstone tells when the video went.
    let waited = "SELECT (s.ended_at - v.consuming_since >= interval '3 seconds')::text \
                  FROM uploader.session s, uploader.service v WHERE s.session_id = $1";
    assert_eq!(world.text(waited, upload.session).await.as_deref(), Some("true"));
}

#[tokio::test]
async fn what_is_past_its_time_is_forgotten() {
    let world = cleaning().await;
    let _standalone = world.replica("standalone").await;
    let (tombstone, failed, replica) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let rows = "INSERT INTO uploader.session (session_id, state, ended_at, cleaned_at) \
                VALUES ($1, 'EXPIRED', now() - interval '25 hours', now() - interval '25 hours')";
    world.execute(rows, vec![tombstone.into()]).await;
    let upload = world.announce_one(1000).await;
    world.execute("UPDATE videos SET status = 'BLOCKED' WHERE id = $1", vec![upload.video.into()]).await;
    world
        .execute(
            "UPDATE upload_sessions SET id = $1 WHERE id = $2",
            vec![failed.into(), upload.session.into()],
        )
        .await;
    let folder = world.spool.join(failed.to_string());
    std::fs::create_dir(&folder).unwrap();
    let row = "INSERT INTO uploader.session (session_id, video_id, state, ended_at) \
               VALUES ($1, $2, 'FAILED', now() - interval '1 minute')";
    world.execute(row, vec![failed.into(), upload.video.into()]).await;
    let row = "INSERT INTO uploader.replica (replica_id, name, lease_until) VALUES ($1, 'dead', now() - interval '2 hours')";
    world.execute(row, vec![replica.into()]).await;
    world
        .wait("tombstone, dead replica and failed bytes to go", SOON, async || {
            let known = "SELECT session_id::text FROM uploader.session WHERE session_id = $1";
            let given_up = "SELECT spool_gone_at::text FROM uploader.session WHERE session_id = $1";
            let lives = "SELECT name FROM uploader.replica WHERE replica_id = $1";
            world.text(known, tombstone).await.is_none()
                && world.text(lives, replica).await.is_none()
                && world.text(given_up, failed).await.is_some()
                && !folder.exists()
        })
        .await;
    let kept = Upload { session: failed, ..upload };
    assert_eq!(world.state(&kept).await.as_deref(), Some("FAILED"), "the reason stays");
}
