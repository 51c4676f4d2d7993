//! What is played: uploads from first chunk to both streams, each while something else happens to the system.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use devstack::{Workspace, http, wait_until};

use super::engine::Engine;
use super::faults;
use crate::clip::{Durations, Upload, Video, check};
use crate::progress::Step;

/// Of a chunk: small ones make many.
const CHUNK: u64 = 8192;
/// What the client's line carries, in bytes a second: an upload lasts about a minute.
const LINE: u64 = 160 * 1024;
const HEALTHY: Duration = Duration::from_secs(120);

/// What was done and found.
#[derive(Default)]
pub(super) struct Tally {
    uploads: u32,
    bytes: u64,
    faults: u32,
    started: Duration,
    last: Option<Durations>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dash, hls) = self.last.as_ref().map_or((0.0, 0.0), |last| (last.dash, last.hls));
        write!(
            f,
            "{} uploads, {} bytes, {} faults, dash {dash:.2} s, hls {hls:.2} s, a replica ready {:.2} s after its start",
            self.uploads,
            self.bytes,
            self.faults,
            self.started.as_secs_f64()
        )
    }
}

/// What a scene needs.
struct Stage<'a> {
    engine: &'a Engine,
    video: &'a Video,
    workspace: &'a Workspace,
    tally: Tally,
}

/// Plays all scenes.
pub(super) async fn play(engine: &Engine, video: &Video, workspace: &Workspace) -> anyhow::Result<Tally> {
    let mut stage = Stage { engine, video, workspace, tally: Tally::default() };
    stage.tally.started = faults::start_time(engine).await?;
    stage.upload_during("an upload", 0, async || Ok(())).await?;
    stage
        .upload_during("scaling 2 -> 3 -> 1", 2, async || {
            engine.start_all(&["--scale", "uploader=3"]).await?;
            engine.start_all(&["--scale", "uploader=1"]).await
        })
        .await?;
    engine.start_all(&["--scale", "uploader=2"]).await?;
    stage
        .upload_during("killing two processes", 2, async || {
            let replica = faults::kill_a_replica(engine).await?;
            let fflow = faults::kill_the_fflow_at_work(engine).await?;
            faults::revive(engine, &[replica, fflow]).await
        })
        .await?;
    stage
        .upload_during("cutting the standalone", 1, async || faults::cut_off_the_standalone(engine).await)
        .await?;
    stage.restart_between_chunks("restarting the database", "postgres").await?;
    stage.restart_between_chunks("restarting the broker", "rabbitmq").await?;
    let step = Step::spin("uploader-v4 check");
    let found = engine.compose(["exec", "-T", "uploader", "uploader-v4", "check"], HEALTHY).await?;
    step.done(found.lines().last().unwrap_or_default());
    Ok(stage.tally)
}

impl Stage<'_> {
    /// A whole upload; `fault` begins when a fifth is stored, and the last tenth is sent when it is over.
    async fn upload_during(
        &mut self,
        what: &'static str,
        faults: u32,
        fault: impl AsyncFnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let step = Step::bytes(what, self.video.bytes);
        let upload = Upload::create(&self.engine.gateway_url(), self.video, CHUNK).await.context(what)?;
        let mut upload = upload.over_a_line_of(LINE);
        let tell = |position| step.reach(position);
        upload.send_to(self.video.bytes / 5, tell).await.context(what)?;
        tokio::try_join!(upload.send_to(self.video.bytes / 10 * 9, tell), fault()).context(what)?;
        upload.send_to(self.video.bytes, tell).await.context(what)?;
        self.finish(&upload, step, what, faults).await
    }

    /// A restart while the client has no chunk under way: gateway itself asks the database about each one, and a queue
    /// that is not durable goes with its broker.
    async fn restart_between_chunks(&mut self, what: &'static str, service: &str) -> anyhow::Result<()> {
        let step = Step::bytes(what, self.video.bytes);
        let mut upload = Upload::create(&self.engine.gateway_url(), self.video, CHUNK).await.context(what)?;
        let tell = |position| step.reach(position);
        upload.send_to(self.video.bytes / 2, tell).await.context(what)?;
        self.engine.compose(["restart", service], HEALTHY).await?;
        self.engine.start_all(&[]).await?;
        let url = format!("{}/healthz", self.engine.gateway_url());
        let well = async || http::get(&url, HEALTHY).await.is_ok_and(|answer| answer.success().is_ok());
        wait_until("gateway is well again", HEALTHY, well).await?;
        upload.send_to(self.video.bytes, tell).await.context(what)?;
        self.finish(&upload, step, what, 1).await
    }

    async fn finish(
        &mut self,
        upload: &Upload,
        step: Step,
        what: &'static str,
        faults: u32,
    ) -> anyhow::Result<()> {
        if upload.position() != self.video.bytes {
            bail!("{what}: only {} bytes are stored", upload.position());
        }
        let stored = Instant::now();
        let flow = upload.distributed(|_| {}).await.context(what)?;
        step.done(&format!("distributed {:.1} s after the last chunk", stored.elapsed().as_secs_f64()));
        self.tally.last = Some(check(&flow, self.video, self.workspace).await.context(what)?);
        self.tally.uploads += 1;
        self.tally.bytes += self.video.bytes;
        self.tally.faults += faults;
        Ok(())
    }
}
