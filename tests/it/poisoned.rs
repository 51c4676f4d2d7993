//! Files that ffmpeg can make nothing of, among others that it can, with real ffmpeg behind real fflow.

use std::collections::HashMap;
use std::time::Instant;

use peers::recording::RecordingOptions;

use crate::client::Client;
use crate::farm::{Farm, decoded, video, video_with_its_index_at_the_end};
use crate::world::{LATE, Upload, World, bytes};

/// Strikes that follow each other quickly; everything else as it is by default.
const SETTINGS: [(&str, &str); 3] = [
    ("UPLOADER_FEED_STRIKE_WAITS", "100ms,100ms"),
    ("UPLOADER_FEED_BACKOFF_MIN", "100ms"),
    ("UPLOADER_FEED_BACKOFF_MAX", "2s"),
];
const CHUNK: usize = 256 << 10;
const SECONDS: u32 = 8;

async fn state_of_row(world: &World, upload: &Upload, column: &str) -> String {
    let sql = format!("SELECT {column}::text FROM uploader.session WHERE session_id = $1");
    world.text(&sql, upload.session).await.unwrap_or_default()
}

/// Uploads good videos one after another until all of `bad` are FAILED; how many those were.
async fn go_on_beside(world: &World, client: &Client, good: &[u8], bad: &[Upload]) -> Vec<Upload> {
    let (begun, mut done) = (Instant::now(), Vec::new());
    loop {
        let mut failed = 0;
        for upload in bad {
            failed += usize::from(world.state(upload).await.as_deref() == Some("FAILED"));
        }
        if failed == bad.len() {
            return done;
        }
        assert!(
            begun.elapsed() < 2 * LATE,
            "{failed} of {} are FAILED after {} good ones",
            bad.len(),
            done.len()
        );
        let upload = world.announce_one(good.len()).await;
        client.upload(&upload, good, CHUNK).await;
        world.distributed(&upload).await;
        done.push(upload);
    }
}

#[tokio::test]
async fn poisoned_files_are_failed_by_name_and_harm_neither_the_farm_nor_other_videos() {
    let mut world = World::with(RecordingOptions::default(), &SETTINGS).await;
    let farm = Farm::start(&world.workspace, &[]).await;
    world.set("FFLOW_BASE_URL", farm.nginx.url());
    world.set("UPLOADER_HOLDER_BASE_URL", farm.holder_url.clone());
    let replica = world.replica("one").await;
    let client = world.client().await;
    let good = video(&world.workspace, SECONDS).await;
    let last = video_with_its_index_at_the_end(&world.workspace, SECONDS).await;
    let poisoned = HashMap::from([
        ("random bytes", bytes(80, 1_500_000)),
        ("an index at the end", last.clone()),
        ("an index at the end that never comes", last[..last.len() / 2].to_vec()),
        ("cut off in its index", good[..600].to_vec()),
        ("text", b"no video at all\n".repeat(50_000)),
    ]);
    let mut bad = Vec::new();
    for file in poisoned.values() {
        bad.push(world.announce_one(file.len()).await);
    }
    let uploads = poisoned.values().zip(&bad).map(|(file, upload)| client.upload(upload, file, CHUNK));
    futures_util::future::join_all(uploads).await;
    let beside = go_on_beside(&world, &client, &good, &bad).await;

    for (name, upload) in poisoned.keys().zip(&bad) {
        let reason = state_of_row(&world, upload, "last_error").await;
        assert!(reason.contains("failed it 3 times while others succeeded"), "{name}: {reason}");
        let understood = ["ffmpeg has died", "fflow reported success, but dash/manifest.mpd answered 404"];
        assert!(understood.iter().any(|words| reason.contains(words)), "{name}: {reason}");
        let generation = state_of_row(&world, upload, "generation").await;
        println!("{name}: FAILED after {generation} processes: {reason}");
        assert_eq!(world.video_status(upload).await.as_deref(), Some("BLOCKED"), "{name}");
        assert_eq!(world.flow_status(upload).await.as_deref(), Some("HIDDEN"), "{name}");
        assert!(world.spool.join(upload.session.to_string()).exists(), "{name}: its bytes are kept");
    }
    assert!(replica.process.is_running() && farm.all_run(), "nothing died with them");
    let plays = beside.last().unwrap();
    let url = format!("{}/{}/{}/dash/manifest.mpd", farm.holder_url, plays.video, plays.flow);
    assert!((decoded(&world.workspace, &url).await - f64::from(SECONDS)).abs() <= 0.5);
}

/// Its index stands at the front, so ffmpeg makes a video of what there is: the files are whole, and so is the word.
#[tokio::test]
async fn a_file_that_was_cut_off_behind_its_index_plays_as_far_as_it_goes() {
    let mut world = World::with(RecordingOptions::default(), &SETTINGS).await;
    let farm = Farm::start(&world.workspace, &[]).await;
    world.set("FFLOW_BASE_URL", farm.nginx.url());
    world.set("UPLOADER_HOLDER_BASE_URL", farm.holder_url.clone());
    let _replica = world.replica("one").await;
    let client = world.client().await;
    let mut file = video(&world.workspace, SECONDS).await;
    file.truncate(file.len() / 2);
    let upload = world.announce_one(file.len()).await;
    client.upload(&upload, &file, CHUNK).await;
    world.distributed(&upload).await;
    let url = format!("{}/{}/{}/hls/manifest.m3u8", farm.holder_url, upload.video, upload.flow);
    let seconds = decoded(&world.workspace, &url).await;
    assert!(seconds > 1.0 && seconds < f64::from(SECONDS) * 0.8, "{seconds} s");
}
