//! A janitor that is killed, a service that was down, and what nobody's row tells of.

use devstack::TcpProxy;

use super::command::one_run;
use super::*;

const VIDEOS: usize = 300;

/// Abandoned uploads with rows, bytes and routes. The rows come together: the janitor removes an old video without files.
async fn many(world: &World) {
    let sql = [
        "CREATE TABLE seed AS SELECT gen_random_uuid() AS video, gen_random_uuid() AS flow, \
         gen_random_uuid() AS session FROM generate_series(1, 300)",
        "WITH video AS (INSERT INTO videos (id, title, description, created_at) \
             SELECT video, 't', 'd', now() - interval '2 h' FROM seed), \
         flow AS (INSERT INTO flows (id, created_at, video_id) SELECT flow, now() - interval '2 h', video FROM seed), \
         upload AS (INSERT INTO upload_sessions (id, total_bytes, uploaded_bytes, flow_id) \
             SELECT session, 1000, 9, flow FROM seed), \
         state AS (INSERT INTO uploader.session (session_id, flow_id, video_id, total_bytes, state, committed, last_activity) \
             SELECT session, flow, video, 1000, 'OPEN', 9, now() - interval '2 h' FROM seed) \
         INSERT INTO uploader.run (session_id, start, length, writer, position, record_end) \
             SELECT session, 0, 9, session, 0, 29 FROM seed",
    ];
    for sql in sql {
        world.execute(sql, Vec::new()).await;
    }
    for row in world.query("SELECT session::text FROM seed", Vec::new()).await {
        let folder = world.spool.join(row.try_get_by_index::<String>(0).unwrap());
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(Uuid::new_v4().to_string()), b"bytes").unwrap();
    }
}

async fn count(world: &World, sql: &str) -> usize {
    let rows = world.query(&format!("SELECT count(*) FROM {sql}"), Vec::new()).await;
    rows[0].try_get_by_index::<i64>(0).unwrap() as usize
}

const UNTOUCHED: &str = "flows";
const EMPTIED: &str = "videos v WHERE NOT EXISTS (SELECT 1 FROM flows f WHERE f.video_id = v.id)";
const UNCLEANED: &str = "uploader.session WHERE state = 'EXPIRED' AND cleaned_at IS NULL";

/// Kills the standalone once `there` of what `sql` counts are left to do, and has the next run complete it.
async fn killed_while(sql: &str, there: std::ops::Range<usize>) {
    let mut world = cleaning().await;
    let proxy = database_through(&mut world).await;
    let standalone = world.replica("standalone").await;
    takes_chunks_since_long_ago(&world).await;
    many(&world).await;
    proxy.delay(Duration::from_millis(40));
    // Until its work has begun the counts are those of the beginning.
    world
        .wait("the cleaning to be in its middle", LATE, async || {
            count(&world, UNTOUCHED).await < VIDEOS && there.contains(&count(&world, sql).await)
        })
        .await;
    standalone.process.kill().await.unwrap();
    assert!(there.contains(&count(&world, sql).await), "it was over before it was killed");
    proxy.delay(Duration::ZERO);

    one_run(&world).await;
    assert_eq!(count(&world, "videos").await, 0);
    assert_eq!(count(&world, "uploader.session WHERE cleaned_at IS NOT NULL").await, VIDEOS);
    assert_eq!((count(&world, "uploader.run").await, count(&world, UNCLEANED).await), (0, 0));
    assert_eq!(std::fs::read_dir(&world.spool).unwrap().count(), 1, "the marker");
}

/// Every replica to come reaches the database by this cable.
async fn database_through(world: &mut World) -> TcpProxy {
    let (before, after) = world.sandbox.database_url.split_once('@').unwrap();
    let (place, name) = after.split_once('/').unwrap();
    let proxy = TcpProxy::start(place.parse().unwrap()).await.unwrap();
    let through = format!("{before}@{}/{name}", proxy.address());
    world.set("DB_CONNECTION_STRING", through);
    proxy
}

#[tokio::test]
async fn a_janitor_killed_while_it_ends_uploads_is_completed_by_the_next_run() {
    killed_while(UNTOUCHED, 1..VIDEOS).await;
}

#[tokio::test]
async fn a_janitor_killed_between_uploads_and_their_videos_is_completed_by_the_next_run() {
    killed_while(EMPTIED, 1..VIDEOS).await;
}

#[tokio::test]
async fn a_janitor_killed_while_it_removes_bytes_is_completed_by_the_next_run() {
    killed_while(UNCLEANED, 1..VIDEOS).await;
}

#[tokio::test]
async fn after_an_outage_longer_than_the_time_to_live_everybody_goes_on() {
    let short_lease = [("UPLOADER_REPLICA_LEASE", "1s"), ("UPLOADER_REPLICA_HEARTBEAT", "200ms")];
    let settings = [CLEANS.as_slice(), short_lease.as_slice()].concat();
    let world = World::with(RecordingOptions::default(), &settings).await;
    let before = world.replica("before").await;
    let client = world.client().await;
    let file = bytes(90, 300_000);
    let mut uploads = Vec::new();
    for _ in 0..5 {
        let upload = world.announce_one(file.len()).await;
        client.upload_range(&upload, &file, 100_000, 0, 100_000).await;
        uploads.push(upload);
    }
    let silent = world.announce_one(file.len()).await;
    before.process.kill().await.unwrap();
    // Nobody wrote a row: a video is as old by PostgreSQL's clock as its creation.
    let down =
        "SELECT 'yes' FROM videos WHERE id = $1 AND clock_timestamp() - created_at > interval '8 seconds'";
    world.wait("the outage to last", SOON, async || world.text(down, silent.video).await.is_some()).await;

    let after = world.replica("after").await;
    world
        .wait("the janitor to have run", SOON, async || {
            let body: serde_json::Value = serde_json::from_str(&after.readyz().await.1).unwrap_or_default();
            body["janitor"]["last_run"]["duration_ms"].is_u64()
        })
        .await;
    for upload in uploads.iter().chain([&silent]) {
        assert!(world.video_status(upload).await.is_some(), "it had its time only while it could be used");
    }
    for upload in &uploads {
        client.upload_range(upload, &file, 100_000, 100_000, file.len()).await;
    }
    for upload in &uploads {
        world.distributed(upload).await;
    }
    removed(&world, &silent).await;
}

#[tokio::test]
async fn processes_of_unknown_place_and_rows_of_nobody_go() {
    let world = World::new().await;
    alone(&world).await;
    let session = Uuid::new_v4();
    let create = format!("{}/{session}", world.fflow.base_url());
    devstack::http::request("POST", &create, None, SOON).await.unwrap();
    let ran_at = world.fflow.flow(&session.to_string()).unwrap().replica;
    for replica in 1..=3 {
        let seen = "INSERT INTO uploader.fflow_replica (base_url) VALUES ($1)";
        world.execute(seen, vec![format!("{}/r{replica}", world.fflow.base_url()).into()]).await;
    }
    let stray = "INSERT INTO uploader.stray (name, session_id, since) VALUES ($1::uuid::text, $1::uuid, now() - interval '1 h')";
    world.execute(stray, vec![session.into()]).await;
    let run = "INSERT INTO uploader.run (session_id, start, length, writer, position, record_end) \
               VALUES ($1, 0, 9, $1, 0, 29)";
    world.execute(run, vec![session.into()]).await;

    let report = one_run(&world).await;
    assert_eq!((&report["strays_gone"], &report["runs_forgotten"]), (&1.into(), &1.into()), "{report}");
    assert!(world.fflow.flow(&session.to_string()).unwrap().deleted);
    let asked = world.fflow.calls().into_iter().filter(|call| call.kind == CallKind::Delete);
    let asked: std::collections::BTreeSet<usize> = asked.map(|call| call.replica).collect();
    assert!(asked.contains(&ran_at) && asked.len() == 3, "every replica known was asked: {asked:?}");
    assert_eq!((count(&world, "uploader.stray").await, count(&world, "uploader.run").await), (0, 0));
}

#[tokio::test]
async fn a_failed_upload_goes_with_its_video_and_is_kept_as_long() {
    let world = World::new().await;
    alone(&world).await;
    let upload = world.announce_one(1000).await;
    world.execute("UPDATE videos SET status = 'BLOCKED' WHERE id = $1", vec![upload.video.into()]).await;
    let row = "INSERT INTO uploader.session (session_id, flow_id, video_id, state, ended_at, spool_gone_at, last_error) \
               VALUES ($1, $2, $3, 'FAILED', now() - interval '90 days', now() - interval '89 days', 'garbage')";
    world.execute(row, vec![upload.session.into(), upload.flow.into(), upload.video.into()]).await;
    forsaken(&world, &upload).await;
    one_run(&world).await;
    assert_eq!(world.state(&upload).await.as_deref(), Some("FAILED"), "its reason is for operators to read");
    assert_eq!(world.video_status(&upload).await.as_deref(), Some("BLOCKED"));

    world.execute("DELETE FROM videos WHERE id = $1", vec![upload.video.into()]).await;
    let report = one_run(&world).await;
    assert_eq!(report["sessions_removed"], 1, "{report}");
    world.nothing_left(&upload).await;
    world.execute("UPDATE uploader.session SET ended_at = now() - interval '25 hours'", Vec::new()).await;
    assert_eq!(one_run(&world).await["tombstones_forgotten"], 1);
    assert_eq!(world.state(&upload).await, None);
}
