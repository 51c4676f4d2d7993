//! A real video through real ffmpeg, from chunk to playable DASH and HLS.

use crate::farm::{Farm, decoded, video};
use crate::world::{SOON, World, sha256};

const SECONDS: u32 = 30;

async fn comes_out_whole(manners: &[&str]) {
    let mut world = World::new().await;
    let farm = Farm::start(&world.workspace, manners).await;
    world.set("FFLOW_BASE_URL", farm.nginx.url());
    world.set("UPLOADER_HOLDER_BASE_URL", farm.holder_url.clone());
    let _one = world.replica("one").await;
    let _two = world.replica("two").await;
    let client = world.client().await;
    let file = video(&world.workspace, SECONDS).await;
    let upload = world.announce_one(file.len()).await;
    assert_eq!(world.video_status(&upload).await.as_deref(), Some("CREATED"));

    let last = file.len() - file.len() / 10;
    client.upload_range(&upload, &file, 64 * 1024, 0, last).await;
    assert_eq!(world.video_status(&upload).await.as_deref(), Some("UPLOADING"));
    let writers = "SELECT count(DISTINCT writer)::text FROM uploader.run WHERE session_id = $1";
    assert_eq!(
        world.text(writers, upload.session).await.as_deref(),
        Some("2"),
        "both replicas stored chunks"
    );
    world.wait("the route to be known", SOON, async || world.route(upload.session).await.is_some()).await;
    let flow_url = world.route(upload.session).await.unwrap();

    client.upload_range(&upload, &file, 64 * 1024, last, file.len()).await;
    assert_eq!(world.flow_status(&upload).await.as_deref(), Some("PROCESSING"));
    world.distributed(&upload).await;
    assert_eq!(world.flow_status(&upload).await.as_deref(), Some("DISTRIBUTED"));
    let (bytes, digest) = farm.received(&flow_url).await.expect("fflow remembers ended flows");
    assert_eq!((bytes, digest), (file.len() as u64, sha256(&file)));

    for manifest in ["dash/manifest.mpd", "hls/manifest.m3u8"] {
        let url = format!("{}/{}/{}/{manifest}", farm.holder_url, upload.video, upload.flow);
        let seconds = decoded(&world.workspace, &url).await;
        assert!((seconds - f64::from(SECONDS)).abs() <= 0.5, "{manifest}: {seconds} s");
    }
    let session = "SELECT 'there' FROM upload_sessions WHERE id = $1";
    assert_eq!(world.text(session, upload.session).await, None);
    world.nothing_left(&upload).await;
}

#[tokio::test]
async fn a_video_through_two_replicas_plays_from_dash_and_hls() {
    comes_out_whole(&[]).await;
}

#[tokio::test]
async fn the_existing_fflows_manners_make_no_difference() {
    comes_out_whole(&["--as-observed"]).await;
}
