//! Uploads the video as the browser's client does: one chunk at a time, then asking until the video is there.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, bail};
use devstack::http;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::farm::Farm;
use super::progress::Step;
use super::video::Video;

const CHUNK_DEADLINE: Duration = Duration::from_secs(60);
const CALL_DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(300);
/// How long the processing of a video may take, beside the time for its bytes.
const PROCESSING: Duration = Duration::from_secs(600);
/// The slowest processing that is waited for, in bytes a second.
const SLOWEST: u64 = 256 * 1024;

/// The addresses of a distributed flow.
pub(crate) struct Flow {
    pub(crate) dash: String,
    pub(crate) hls: String,
}

/// Uploads `video` in chunks of `chunk` bytes and waits until it is distributed.
pub(crate) async fn upload(farm: &Farm, video: &Video, chunk: u64) -> anyhow::Result<Flow> {
    let gateway = farm.gateway_url();
    let created = create(gateway, video).await?;
    let id = text(&created, "/payload/id")?;
    let session = text(&created, "/payload/flows/0/uploadSession/id")?;
    send(&format!("{gateway}/upload/{session}"), video, chunk).await?;
    await_distribution(&format!("{gateway}/state/{id}"), video).await
}

async fn create(gateway: &str, video: &Video) -> anyhow::Result<Value> {
    let name = video.path.file_name().unwrap_or_default().to_string_lossy();
    let body = json!({"title": name, "description": "made by the demo", "totalBytesList": [video.bytes]})
        .to_string();
    let answer =
        http::request("POST", &format!("{gateway}/create-video"), Some(&body), CALL_DEADLINE).await?;
    serde_json::from_slice(&answer.success()?.body).context("gateway has answered no JSON")
}

async fn send(url: &str, video: &Video, chunk: u64) -> anyhow::Result<()> {
    let step = Step::bytes("uploading", video.bytes);
    let client = awc::Client::builder().timeout(CHUNK_DEADLINE).finish();
    let mut file = std::fs::File::open(&video.path).context("cannot open the video")?;
    let begun = Instant::now();
    let mut start = 0;
    while start < video.bytes {
        let size = chunk.min(video.bytes - start);
        let mut bytes = vec![0; usize::try_from(size)?];
        file.read_exact(&mut bytes).context("the video has become shorter")?;
        send_one(&client, url, start, bytes).await.with_context(|| format!("the chunk at byte {start}"))?;
        start += size;
        step.reach(start);
    }
    let seconds = begun.elapsed().as_secs_f64().max(0.001);
    let chunks = video.bytes.div_ceil(chunk);
    step.done(&format!("{} bytes in {chunks} chunks, {:.0} chunks/s", video.bytes, chunks as f64 / seconds));
    Ok(())
}

async fn send_one(client: &awc::Client, url: &str, start: u64, bytes: Vec<u8>) -> anyhow::Result<()> {
    let request = client
        .post(url)
        .insert_header(("content-type", "application/octet-stream"))
        .insert_header(("x-start-byte", start.to_string()))
        .insert_header(("x-size", bytes.len().to_string()));
    let mut answer = request.send_body(bytes).await.map_err(|error| anyhow::anyhow!("no answer: {error}"))?;
    // The body is read in any case: a connection with an unread answer is not used again.
    let body = answer.body().await.map_err(|error| anyhow::anyhow!("a broken answer: {error}"))?;
    if answer.status().is_success() {
        return Ok(());
    }
    bail!("refused with {}: {}", answer.status(), String::from_utf8_lossy(&body))
}

async fn await_distribution(url: &str, video: &Video) -> anyhow::Result<Flow> {
    let step = Step::spin("processing");
    let deadline = PROCESSING + Duration::from_secs(video.bytes / SLOWEST);
    let end = Instant::now() + deadline;
    loop {
        let answer = http::get(url, CALL_DEADLINE).await?.success()?;
        let state: Value = serde_json::from_slice(&answer.body).context("gateway has answered no JSON")?;
        let (video, flow) = (text(&state, "/payload/status")?, text(&state, "/payload/flows/0/status")?);
        step.say(&format!("video {video}, flow {flow}"));
        match video.as_str() {
            "DISTRIBUTED" => {
                step.done(&video);
                let dash = text(&state, "/payload/flows/0/distributionUrls/dash")?;
                return Ok(Flow { dash, hls: text(&state, "/payload/flows/0/distributionUrls/hls")? });
            }
            "BLOCKED" => {
                bail!("the video is BLOCKED: no ffmpeg could read it (an mp4 needs its index at the front)")
            }
            _ if Instant::now() >= end => {
                bail!("the video is still {video}, its flow {flow}, after {deadline:?}")
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

fn text(json: &Value, pointer: &str) -> anyhow::Result<String> {
    let found = json.pointer(pointer).and_then(Value::as_str);
    found.map(str::to_owned).with_context(|| format!("gateway's answer has no {pointer}: {json}"))
}
