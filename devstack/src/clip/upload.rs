//! Uploads a video as the browser's client does: one chunk at a time, then asking until the video is there.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, bail};
use devstack::http;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

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

/// One upload under way.
pub(crate) struct Upload {
    client: awc::Client,
    file: std::fs::File,
    chunk: u64,
    chunk_url: String,
    state_url: String,
    bytes: u64,
    position: u64,
    /// Bytes a second that the client's line carries; none for as many as it gets.
    uplink: Option<u64>,
}

impl Upload {
    /// Has gateway create the video; its chunks will have `chunk` bytes.
    pub(crate) async fn create(gateway: &str, video: &Video, chunk: u64) -> anyhow::Result<Self> {
        let created = create(gateway, video).await?;
        let id = text(&created, "/payload/id")?;
        let session = text(&created, "/payload/flows/0/uploadSession/id")?;
        Ok(Self {
            client: awc::Client::builder().timeout(CHUNK_DEADLINE).finish(),
            file: std::fs::File::open(&video.path).context("cannot open the video")?,
            chunk,
            chunk_url: format!("{gateway}/upload/{session}"),
            state_url: format!("{gateway}/state/{id}"),
            bytes: video.bytes,
            position: 0,
            uplink: None,
        })
    }

    /// The same over a line of so many bytes a second.
    pub(crate) fn over_a_line_of(mut self, bytes_per_second: u64) -> Self {
        self.uplink = Some(bytes_per_second);
        self
    }

    /// How many bytes are stored.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Sends chunks until `end` bytes are stored, or all. Every refusal is an error: the browser does not try again.
    pub(crate) async fn send_to(&mut self, end: u64, tell: impl Fn(u64)) -> anyhow::Result<()> {
        let (begun, from) = (Instant::now(), self.position);
        while self.position < end.min(self.bytes) {
            let size = self.chunk.min(self.bytes - self.position);
            let mut bytes = vec![0; usize::try_from(size)?];
            self.file.read_exact(&mut bytes).context("the video has become shorter")?;
            self.send_one(bytes).await.with_context(|| format!("the chunk at byte {}", self.position))?;
            self.position += size;
            tell(self.position);
            if let Some(rate) = self.uplink {
                sleep_until(begun + Duration::from_secs_f64((self.position - from) as f64 / rate as f64))
                    .await;
            }
        }
        Ok(())
    }

    async fn send_one(&self, bytes: Vec<u8>) -> anyhow::Result<()> {
        let request = self
            .client
            .post(&self.chunk_url)
            .insert_header(("content-type", "application/octet-stream"))
            .insert_header(("x-start-byte", self.position.to_string()))
            .insert_header(("x-size", bytes.len().to_string()));
        let mut answer =
            request.send_body(bytes).await.map_err(|error| anyhow::anyhow!("no answer: {error}"))?;
        // The body is read in any case: a connection with an unread answer is not used again.
        let body = answer.body().await.map_err(|error| anyhow::anyhow!("a broken answer: {error}"))?;
        if answer.status().is_success() {
            return Ok(());
        }
        bail!("refused with {}: {}", answer.status(), String::from_utf8_lossy(&body))
    }

    /// Asks until the video is distributed; `tell` hears each state.
    pub(crate) async fn distributed(&self, tell: impl Fn(&str)) -> anyhow::Result<Flow> {
        let deadline = PROCESSING + Duration::from_secs(self.bytes / SLOWEST);
        let end = Instant::now() + deadline;
        loop {
            let answer = http::get(&self.state_url, CALL_DEADLINE).await?.success()?;
            let state: Value =
                serde_json::from_slice(&answer.body).context("gateway has answered no JSON")?;
            let (video, flow) = (text(&state, "/payload/status")?, text(&state, "/payload/flows/0/status")?);
            tell(&format!("video {video}, flow {flow}"));
            match video.as_str() {
                "DISTRIBUTED" => {
                    let dash = text(&state, "/payload/flows/0/distributionUrls/dash")?;
                    return Ok(Flow { dash, hls: text(&state, "/payload/flows/0/distributionUrls/hls")? });
                }
                "BLOCKED" => {
                    bail!(
                        "the video is BLOCKED: no ffmpeg could read it (an mp4 needs its index at the front)"
                    )
                }
                _ if Instant::now() >= end => {
                    bail!("the video is still {video}, its flow {flow}, after {deadline:?}")
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }
}

async fn create(gateway: &str, video: &Video) -> anyhow::Result<Value> {
    let name = video.path.file_name().unwrap_or_default().to_string_lossy();
    let body = json!({"title": name, "description": "made by the demo", "totalBytesList": [video.bytes]})
        .to_string();
    let answer =
        http::request("POST", &format!("{gateway}/create-video"), Some(&body), CALL_DEADLINE).await?;
    serde_json::from_slice(&answer.success()?.body).context("gateway has answered no JSON")
}

fn text(json: &Value, pointer: &str) -> anyhow::Result<String> {
    let found = json.pointer(pointer).and_then(Value::as_str);
    found.map(str::to_owned).with_context(|| format!("gateway's answer has no {pointer}: {json}"))
}
