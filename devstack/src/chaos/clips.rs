//! The real videos: one short clip for all of them, and the look at what ffmpeg made of it.

use std::time::Duration;

use anyhow::{Context, bail};
use devstack::{Process, Tool, Workspace};

use super::chronicle::{Content, Upload};
use super::judge::Outcome;
use crate::clip::{Flow, Video, check};

const SECONDS: u32 = 4;
const MAKING: Duration = Duration::from_secs(120);

/// Makes the clip.
pub(super) async fn make(workspace: &Workspace) -> anyhow::Result<(Video, Vec<u8>)> {
    let path = workspace.path().join("clip.mp4");
    let picture = format!("testsrc2=size=320x180:rate=25:duration={SECONDS}");
    let sound = format!("sine=frequency=440:duration={SECONDS}");
    let process = Process::command(Tool::Ffmpeg.program("ffmpeg")?)
        .args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-b:v", "600k", "-pix_fmt", "yuv420p"])
        .args(["-c:a", "aac", "-movflags", "+faststart"])
        .arg(&path)
        .log(workspace.log("clip"))
        .start()?;
    if !process.wait_exit(MAKING).await?.success() {
        bail!("ffmpeg could not make a clip: {}", process.log_tail(10));
    }
    let bytes = std::fs::read(&path).context("ffmpeg has made no clip")?;
    Ok((Video::get(&path, workspace).await?, bytes))
}

/// Decodes every distributed clip whole; how many they were, and what is wrong with them.
pub(super) async fn look(
    uploads: &[Upload],
    outcomes: &[Outcome],
    holder_url: &str,
    clip: &Video,
    workspace: &Workspace,
) -> (usize, Vec<String>) {
    let (mut count, mut wrong) = (0, Vec::new());
    let pairs = uploads.iter().zip(outcomes);
    let clips = pairs
        .filter(|(upload, outcome)| upload.content == Content::Clip && **outcome == Outcome::Distributed);
    for (upload, _) in clips {
        let base = format!("{holder_url}/{}/{}", upload.video, upload.flow);
        let flow =
            Flow { dash: format!("{base}/dash/manifest.mpd"), hls: format!("{base}/hls/manifest.m3u8") };
        match check(&flow, clip, workspace).await {
            Ok(_) => count += 1,
            Err(error) => wrong.push(format!("{}: {error:#}", upload.session)),
        }
    }
    (count, wrong)
}
