//! The client: one chunk in flight, no retry, gives up after a minute. Forty of them at once, each beginning another
//! upload when one has ended.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use devstack::http;
use serde_json::{Value, json};
use tokio::sync::RwLock;
use tokio::time::Instant;

use super::chronicle::{Content, End, Upload, noise};
use super::front::Real;

/// A browser's patience with one chunk.
const PATIENCE: Duration = Duration::from_secs(60);
const CREATE: Duration = Duration::from_secs(20);
/// The pause after a video that could not be created.
const AGAIN: Duration = Duration::from_millis(500);
const CHUNKS: [u64; 4] = [4 << 10, 8 << 10, 16 << 10, 32 << 10];
/// So many whole chunks has a file.
const FEWEST: u64 = 3;
const MOST: u64 = 20;
/// The pause between two chunks is up to this, in milliseconds.
const PAUSE: u64 = 300;
/// So many sessions at a time are real videos: each takes an ffmpeg's worth of processor.
const CLIPS: usize = 2;

/// What all clients share.
pub(super) struct Crowd {
    /// gateway's address, one for each cable.
    gateways: Vec<String>,
    pub(super) real: Real,
    pub(super) clip: Vec<u8>,
    pub(super) begun: Instant,
    pub(super) uploads: RefCell<Vec<Upload>>,
    /// Videos that gateway could not create; no session came of them.
    pub(super) not_created: Cell<usize>,
    /// No new upload begins, and those under way do not dawdle.
    pub(super) closing: Cell<bool>,
    /// Held for each chunk; whoever takes it whole has no chunk in flight anywhere.
    pub(super) in_flight: RwLock<()>,
    clips: Cell<usize>,
}

impl Crowd {
    pub(super) fn new(gateways: Vec<String>, real: Real, clip: Vec<u8>) -> Self {
        Self {
            gateways,
            real,
            clip,
            begun: Instant::now(),
            uploads: RefCell::default(),
            not_created: Cell::new(0),
            closing: Cell::new(false),
            in_flight: RwLock::new(()),
            clips: Cell::new(0),
        }
    }

    /// gateway's address on one of the cables.
    pub(super) fn line(&self, number: usize) -> &str {
        self.gateways.get(number % self.gateways.len().max(1)).map_or("", String::as_str)
    }

    /// Time since the beginning.
    pub(super) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// One client: an upload after the other until the crowd closes.
    pub(super) async fn client(self: Rc<Self>, number: usize, seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(1000) + number as u64);
        let line = number % self.gateways.len().max(1);
        // Not all at once: forty first requests in one moment are no picture of a crowd.
        tokio::time::sleep(Duration::from_millis(rng.u64(0..1000))).await;
        while !self.closing.get() {
            match self.begin(line, &mut rng).await {
                Ok(index) => {
                    self.upload(index, &mut rng).await;
                    // Nobody chooses the next file in the moment in which the last one fails.
                    if self.uploads.borrow()[index].end != Some(End::Whole) {
                        tokio::time::sleep(AGAIN).await;
                    }
                }
                Err(_) => {
                    self.not_created.set(self.not_created.get() + 1);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Has gateway create a video; the index of its upload.
    async fn begin(&self, line: usize, rng: &mut fastrand::Rng) -> anyhow::Result<usize> {
        let clip = !self.clip.is_empty() && self.clips.get() < CLIPS;
        let chunk = if clip { CHUNKS[CHUNKS.len() - 1] } else { CHUNKS[rng.usize(0..CHUNKS.len())] };
        // A last chunk of any size is part of the picture.
        let noise = chunk * rng.u64(FEWEST..=MOST) + rng.u64(0..chunk);
        let total = if clip { self.clip.len() as u64 } else { noise };
        // Taken before the wait, so that no other client takes it meanwhile.
        self.clips.set(self.clips.get() + usize::from(clip));
        let created = create(self.line(line), total).await;
        let (video, flow, session) = created.inspect_err(|_| self.give_back(clip))?;
        if clip {
            self.real.add(&session, &video);
        }
        let content = if clip { Content::Clip } else { Content::Noise(rng.u64(..)) };
        let (acks, begun) = (Vec::new(), self.now());
        let end = None;
        let upload = Upload { session, video, flow, total, content, line, chunk, acks, acked: 0, begun, end };
        let mut uploads = self.uploads.borrow_mut();
        uploads.push(upload);
        Ok(uploads.len() - 1)
    }

    fn give_back(&self, clip: bool) {
        self.clips.set(self.clips.get() - usize::from(clip));
    }

    /// Sends one file to its end, or to its first failure.
    async fn upload(&self, index: usize, rng: &mut fastrand::Rng) {
        let Upload { content, total, chunk: size, session, line, .. } = self.uploads.borrow()[index].clone();
        let bytes = match content {
            Content::Noise(seed) => noise(seed, total),
            Content::Clip => self.clip.clone(),
        };
        let url = format!("{}/upload/{session}", self.line(line));
        let client = awc::Client::builder().timeout(PATIENCE).finish();
        let mut end = End::Whole;
        for chunk in bytes.chunks(usize::try_from(size).unwrap_or(1)) {
            if !self.closing.get() {
                tokio::time::sleep(Duration::from_millis(rng.u64(0..=PAUSE))).await;
            }
            if let Some(broken) = self.chunk(&client, &url, index, chunk).await {
                end = broken;
                break;
            }
        }
        self.give_back(content == Content::Clip);
        self.uploads.borrow_mut()[index].end = Some(end);
    }

    /// Sends one chunk; how the upload ends, if this ends it.
    async fn chunk(&self, client: &awc::Client, url: &str, index: usize, chunk: &[u8]) -> Option<End> {
        let _in_flight = self.in_flight.read().await;
        let start = self.uploads.borrow()[index].acked;
        let sent = self.now();
        let answered = send(client, url, start, chunk).await;
        let known = self.now();
        let (status, why) = match answered {
            Ok((201, _)) => {
                let upload = &mut self.uploads.borrow_mut()[index];
                upload.acked += chunk.len() as u64;
                upload.acks.push(known);
                return None;
            }
            Ok((status, body)) => (Some(status), body),
            Err(error) => (None, format!("{error:#}")),
        };
        Some(End::Broken { sent, known, status, why })
    }
}

async fn send(client: &awc::Client, url: &str, start: u64, chunk: &[u8]) -> anyhow::Result<(u16, String)> {
    // A kept connection may have died since: what fails then is the harness's own doing, not the service's.
    let request = client
        .post(url)
        .force_close()
        .insert_header(("content-type", "application/octet-stream"))
        .insert_header(("x-start-byte", start.to_string()))
        .insert_header(("x-size", chunk.len().to_string()));
    let mut answer =
        request.send_body(chunk.to_vec()).await.map_err(|error| anyhow::anyhow!("no answer: {error}"))?;
    let status = answer.status().as_u16();
    let body = answer.body().await.map_err(|error| anyhow::anyhow!("a broken answer: {error}"))?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Video, flow and session.
pub(super) async fn create(gateway: &str, total: u64) -> anyhow::Result<(String, String, String)> {
    let body = json!({"title": "chaos", "description": "", "totalBytesList": [total]}).to_string();
    let answer = http::request("POST", &format!("{gateway}/create-video"), Some(&body), CREATE).await?;
    let created: Value = serde_json::from_slice(&answer.success()?.body).context("no JSON")?;
    let text = |pointer: &str| {
        created.pointer(pointer).and_then(Value::as_str).map(str::to_owned).context("an answer without ids")
    };
    Ok((text("/payload/id")?, text("/payload/flows/0/id")?, text("/payload/flows/0/uploadSession/id")?))
}

/// Sends one first chunk of a session by hand; its status.
pub(super) async fn first_chunk(gateway: &str, session: &str, chunk: &[u8]) -> anyhow::Result<u16> {
    let client = awc::Client::builder().timeout(PATIENCE).finish();
    Ok(send(&client, &format!("{gateway}/upload/{session}"), 0, chunk).await?.0)
}
