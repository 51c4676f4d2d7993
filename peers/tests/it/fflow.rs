//! fflow with a real ffmpeg, together with holder.

use std::time::Duration;

use actix_web::http::Method;
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};

use crate::client::{create, delete, finish, get_json, push, send};
use crate::process::{Farm, is_ffmpeg, kill_pid, wait_until};
use crate::video;

const FINISH: Duration = Duration::from_secs(60);
const NOT_LONG: Duration = Duration::from_secs(1);
const BLOCK: usize = 64 << 10;

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn push_all(flow: &str, bytes: &[u8]) {
    for block in bytes.chunks(BLOCK) {
        assert_eq!(push(flow, block).await, Some(201));
    }
}

fn assert_near(seconds: f64, wanted: f64) {
    assert!((seconds - wanted).abs() < 0.5, "{seconds} s instead of {wanted} s");
}

/// Pushes until the answer is not 201, and gives that one.
async fn first_refusal(flow: &str, block: &[u8]) -> Option<u16> {
    let mut refusal = None;
    wait_until("a push is refused", async || {
        refusal = push(flow, block).await;
        refusal != Some(201)
    })
    .await;
    refusal
}

async fn the_ffmpeg_of(farm: &Farm) -> i32 {
    wait_until("ffmpeg runs", async || farm.fflow.ffmpegs().len() == 1).await;
    farm.fflow.ffmpegs()[0]
}

async fn a_video_plays(farm: &Farm, flow: &str, name: &str) {
    let video = video::make(10, true);
    push_all(flow, &video).await;
    assert_eq!(finish(flow, "/v/f", FINISH).await, Some(201));
    let report = get_json(&format!("{}/{name}", farm.url)).await;
    assert_eq!(report["receivedBytes"], video.len());
    assert_eq!(report["sha256"], digest(&video));
    assert_eq!((report["state"].as_str(), report["name"].as_str()), (Some("finished"), Some(name)));
    for manifest in ["dash/manifest.mpd", "hls/manifest.m3u8"] {
        let url = format!("{}/v/f/{manifest}", farm.holder_url);
        assert_near(video::played_seconds(&url), 10.0);
        assert_eq!(video::kinds(&url), ["audio", "video"], "{url}");
    }
    assert_eq!(finish(flow, "/v/f", FINISH).await, Some(404));
    assert_eq!(delete(flow).await, Some(404));
}

#[actix_web::test]
async fn a_video_pushed_in_blocks_plays_from_dash_and_hls() {
    let farm = Farm::start(&[]).await;
    let flow = create(&farm.url, "a~2").await;
    assert_eq!(flow, format!("{}/a~2", farm.url));
    a_video_plays(&farm, &flow, "a~2").await;
    let mpd = std::fs::read_to_string(farm.root.join("v/f/dash/manifest.mpd")).unwrap();
    assert!(mpd.contains("type=\"static\""));
    let playlist = std::fs::read_to_string(farm.root.join("v/f/hls/manifest.m3u8")).unwrap();
    assert!(playlist.contains("#EXT-X-ENDLIST"));
}

#[actix_web::test]
async fn the_observed_fflow_answers_with_its_base_address_and_makes_the_same_video() {
    let farm = Farm::start(&["--as-observed"]).await;
    let base = create(&farm.url, "a").await;
    assert_eq!(base, format!("{}/", farm.url));
    a_video_plays(&farm, &format!("{base}a"), "a").await;
}

#[actix_web::test]
async fn a_video_without_sound_plays_too() {
    let farm = Farm::start(&[]).await;
    let flow = create(&farm.url, "a").await;
    push_all(&flow, &video::make(5, false)).await;
    assert_eq!(finish(&flow, "/v/f", FINISH).await, Some(201));
    for manifest in ["dash/manifest.mpd", "hls/manifest.m3u8"] {
        let url = format!("{}/v/f/{manifest}", farm.holder_url);
        assert_near(video::played_seconds(&url), 5.0);
        assert_eq!(video::kinds(&url), ["video"]);
    }
}

#[actix_web::test]
async fn names_are_unique_and_unknown_ones_are_404() {
    let farm = Farm::start(&[]).await;
    let flow = create(&farm.url, "a").await;
    assert_eq!(send(Method::POST, &flow, "application/json", "").await.unwrap().0, 500);
    assert_eq!(push(&format!("{}/b", farm.url), "x").await, Some(404));
    assert_eq!(finish(&format!("{}/b", farm.url), "/v/f", NOT_LONG).await, Some(404));
    assert_eq!(finish(&flow, "/../f", NOT_LONG).await, Some(400));
    assert_eq!(send(Method::POST, &format!("{flow}/push"), "text/plain", "x").await.unwrap().0, 500);
    assert_eq!(push(&flow, vec![0; (10 << 20) + 1]).await, Some(413));
    assert_eq!(delete(&flow).await, Some(200));
    assert_eq!(delete(&flow).await, Some(404));
    assert!(farm.fflow.ffmpegs().is_empty());
    assert_eq!(get_json(&flow).await["state"], "deleted");
}

#[actix_web::test]
async fn garbage_is_finished_without_files() {
    let farm = Farm::start(&[]).await;
    let flow = create(&farm.url, "a").await;
    push(&flow, vec![7; 1000]).await;
    assert_eq!(finish(&flow, "/v/f", FINISH).await, Some(201));
    assert!(!farm.root.join("v").exists());
}

#[actix_web::test]
async fn a_killed_ffmpeg_is_told_at_once() {
    let farm = Farm::start(&[]).await;
    let flow = create(&farm.url, "a").await;
    kill_pid(the_ffmpeg_of(&farm).await);
    assert_eq!(first_refusal(&flow, b"x").await, Some(500));
    assert_eq!(finish(&flow, "/v/f", NOT_LONG).await, Some(500));
    assert_eq!(finish(&flow, "/v/f", NOT_LONG).await, Some(404));
}

#[actix_web::test]
async fn an_ffmpeg_that_died_of_its_input_fails_its_own_flow_only() {
    let farm = Farm::start(&[]).await;
    let flow = create(&farm.url, "bad").await;
    assert_eq!(first_refusal(&flow, &vec![7; 512 << 10]).await, Some(500));
    assert_eq!(get_json(&flow).await["state"], "failed");
    assert_eq!(delete(&flow).await, Some(200));
    create(&farm.url, "good").await;
}

#[actix_web::test]
async fn the_observed_fflow_hides_a_killed_ffmpeg() {
    let farm = Farm::start(&["--as-observed"]).await;
    let flow = format!("{}a", create(&farm.url, "a").await);
    let ffmpeg = the_ffmpeg_of(&farm).await;
    kill_pid(ffmpeg);
    wait_until("ffmpeg is reaped", async || farm.fflow.ffmpegs().is_empty()).await;
    assert_eq!(push(&flow, "x").await, Some(201));
    assert_eq!(get_json(&flow).await["receivedBytes"], 0);
    wait_until("its death is noticed", async || finish(&flow, "/v/f", NOT_LONG).await.is_none()).await;
    assert_eq!(delete(&flow).await, None);
    assert_eq!(push(&flow, "x").await, Some(201));
}

#[actix_web::test]
async fn the_observed_fflow_ends_with_an_ffmpeg_that_died_of_its_input() {
    let mut farm = Farm::start(&["--as-observed"]).await;
    let flow = format!("{}a", create(&farm.url, "a").await);
    assert_eq!(first_refusal(&flow, &vec![7; 512 << 10]).await, None);
    assert_eq!(farm.fflow.exit().await.code(), Some(1));
}

#[actix_web::test]
async fn a_finish_without_holder_is_a_500_and_the_flow_is_gone() {
    let mut farm = Farm::start(&[]).await;
    drop(farm.holder.take());
    let flow = create(&farm.url, "a").await;
    push_all(&flow, &video::make(2, false)).await;
    assert_eq!(finish(&flow, "/v/f", FINISH).await, Some(500));
    assert_eq!(push(&flow, "x").await, Some(404));
}

#[actix_web::test]
async fn a_push_waits_for_an_ffmpeg_that_does_not_read() {
    let farm = Farm::start(&[]).await;
    let flow = create(&farm.url, "a").await;
    let ffmpeg = the_ffmpeg_of(&farm).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(ffmpeg), Signal::SIGSTOP).unwrap();
    let url = format!("{flow}/push");
    let stuck = send(Method::POST, &url, "application/octet-stream", vec![0; 1 << 20]).await;
    assert!(stuck.is_none());
    assert_eq!(delete(&flow).await, Some(200));
}

#[actix_web::test]
async fn no_ffmpeg_outlives_its_fflow() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let mut farm = Farm::start(&[]).await;
        create(&farm.url, "a").await;
        let ffmpeg = the_ffmpeg_of(&farm).await;
        farm.fflow.signal(signal);
        let status = farm.fflow.exit().await;
        assert_eq!(status.success(), signal == Signal::SIGTERM);
        wait_until("ffmpeg is gone", async || !is_ffmpeg(ffmpeg)).await;
    }
}
