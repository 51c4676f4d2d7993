//! The video that is uploaded: the user's own, or one that ffmpeg makes once and that stays in the target folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use devstack::{Process, Tool, Workspace, wait_until, workspace};
use serde_json::Value;

use super::atoms::has_its_index_at_the_end;
use crate::progress::Step;

/// Length of the sample, in seconds.
const SAMPLE_SECONDS: u64 = 30;
/// The sample has at least this many bytes.
const SAMPLE_BYTES: u64 = 8_000_000;
/// The shared tables count bytes in an `integer`.
const LARGEST_FILE: u64 = 2_147_483_647;
const MAKING: Duration = Duration::from_secs(300);
const PROBING: Duration = Duration::from_secs(120);

/// A video file and what ffprobe says of it.
pub(crate) struct Video {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
}

impl Video {
    /// The file `own`, or the sample when that is empty.
    pub(crate) async fn get(own: &Path, workspace: &Workspace) -> anyhow::Result<Self> {
        let path = if own.as_os_str().is_empty() { sample(workspace).await? } else { own.to_owned() };
        // ffprobe would take some relative paths for options or protocols.
        let path = path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
        let meta = std::fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let bytes = meta.len();
        if !meta.is_file() || !(1..=LARGEST_FILE).contains(&bytes) {
            bail!("{} is no file of 1 to {LARGEST_FILE} bytes", path.display());
        }
        if has_its_index_at_the_end(&path) {
            bail!(
                "an mp4 with its index at the end cannot be streamed; `ffmpeg -i {} -c copy -movflags +faststart new.mp4` moves it",
                path.display()
            );
        }
        let seconds = judge(&path, workspace).await.with_context(|| path.display().to_string())?;
        Ok(Self { path, bytes, seconds })
    }
}

/// The duration in seconds of a file that has pictures, also when its bytes come without a name and in order, as
/// fflow's ffmpeg gets them: by its name alone a text can pass for a video.
async fn judge(path: &Path, workspace: &Workspace) -> anyhow::Result<f64> {
    let nameless = workspace.path().join("video");
    std::os::unix::fs::symlink(path, &nameless).context("cannot link the video")?;
    let nameless = nameless.to_string_lossy();
    let streamed = probe(&nameless, &["-seekable", "0"], workspace).await?;
    if !has_pictures(&streamed.facts) {
        bail!("it has no pictures, and fflow takes videos only");
    }
    let whole = probe(&nameless, &[], workspace).await?;
    duration(&whole.facts).context("its duration cannot be told")
}

/// What ffprobe found, and what it complained of.
pub(crate) struct Probed {
    pub(crate) facts: Value,
    pub(crate) complaints: String,
}

/// Runs ffprobe on a file or URL.
pub(crate) async fn probe(what: &str, options: &[&str], workspace: &Workspace) -> anyhow::Result<Probed> {
    let number = fastrand::u64(..);
    let (output, log) =
        (workspace.path().join(format!("probe-{number}.json")), workspace.log(&format!("probe-{number}")));
    let process = Process::command(Tool::Ffmpeg.program("ffprobe")?)
        .args([
            "-v",
            "error",
            "-show_entries",
            "format=duration:stream=codec_type,nb_read_frames",
            "-of",
            "json",
        ])
        .args(options)
        .arg("-o")
        .arg(&output)
        .arg(what)
        .log(&log)
        // What it is to look at is on this machine.
        .env_remove("http_proxy")
        .start()?;
    let status = process.wait_exit(PROBING).await?;
    let complaints = process.log_tail(20);
    if !status.success() {
        bail!("ffprobe fails ({status}): {}", complaints.replace(&format!("{what}: "), ""));
    }
    let text = std::fs::read_to_string(&output).context("ffprobe has written nothing")?;
    let facts = serde_json::from_str(&text).context("ffprobe has written no JSON")?;
    Ok(Probed { facts, complaints })
}

/// The duration that ffprobe found, in seconds.
pub(crate) fn duration(facts: &Value) -> Option<f64> {
    facts.get("format")?.get("duration")?.as_str()?.parse().ok()
}

fn has_pictures(facts: &Value) -> bool {
    let mut streams = facts.get("streams").and_then(Value::as_array).into_iter().flatten();
    streams.any(|stream| stream.get("codec_type").and_then(Value::as_str) == Some("video"))
}

/// Makes the sample unless it is there.
async fn sample(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let path = workspace::root()?.join("sample-30s.mp4");
    if std::fs::metadata(&path).is_ok_and(|meta| meta.len() >= SAMPLE_BYTES) {
        return Ok(path);
    }
    let unfinished = workspace.path().join("sample.mp4");
    make_sample(&unfinished, workspace).await?;
    let bytes = std::fs::metadata(&unfinished).context("ffmpeg has made no sample")?.len();
    if bytes < SAMPLE_BYTES {
        bail!("the sample that ffmpeg made has only {bytes} bytes");
    }
    std::fs::rename(&unfinished, &path).context("cannot keep the sample")?;
    Ok(path)
}

async fn make_sample(path: &Path, workspace: &Workspace) -> anyhow::Result<()> {
    let step = Step::parts("making a sample video", SAMPLE_SECONDS);
    let source = format!("testsrc2=size=1280x720:rate=30:duration={SAMPLE_SECONDS},noise=alls=10:allf=t");
    let tone = format!("sine=frequency=440:beep_factor=4:sample_rate=48000:duration={SAMPLE_SECONDS}");
    let process = Process::command(Tool::Ffmpeg.program("ffmpeg")?)
        .args(["-nostdin", "-v", "error", "-progress", "pipe:1", "-y", "-f", "lavfi", "-i", &source])
        .args([
            "-f", "lavfi", "-i", &tone, "-c:v", "libx264", "-preset", "veryfast", "-b:v", "2600k", "-g", "60",
        ])
        .args(["-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "128k", "-movflags", "+faststart"])
        .arg(path)
        .log(workspace.log("sample"))
        .start()?;
    let ended = async || {
        step.reach(seconds_made(&process.log_tail(40)).min(SAMPLE_SECONDS));
        !process.is_running()
    };
    wait_until("the sample is made", MAKING, ended).await?;
    if !process.exit_status().is_some_and(|status| status.success()) {
        bail!("ffmpeg could not make a sample: {}", process.log_tail(10));
    }
    step.done(&format!("{SAMPLE_SECONDS} s with sound"));
    Ok(())
}

/// How far ffmpeg has come, from its progress report.
fn seconds_made(report: &str) -> u64 {
    let last = report.lines().rev().find_map(|line| line.strip_prefix("out_time_us="));
    last.and_then(|micros| micros.trim().parse::<u64>().ok()).unwrap_or(0) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_report_is_read() {
        assert_eq!(seconds_made("out_time_us=1000000\nframe=9\nout_time_us=7500000\nprogress=continue"), 7);
        assert_eq!(seconds_made("out_time_us=N/A"), 0);
    }

    #[test]
    fn a_sound_alone_is_no_video() {
        let streams = |kinds: &[&str]| -> Vec<Value> {
            kinds.iter().map(|kind| serde_json::json!({ "codec_type": kind })).collect()
        };
        assert!(has_pictures(&serde_json::json!({"streams": streams(&["audio", "video"])})));
        assert!(!has_pictures(&serde_json::json!({"streams": streams(&["audio", "data"])})));
        assert!(!has_pictures(&serde_json::json!({})));
    }

    #[test]
    fn the_duration_is_read() {
        assert_eq!(duration(&serde_json::json!({"format": {"duration": "30.020000"}})), Some(30.02));
        assert_eq!(duration(&serde_json::json!({})), None);
    }
}
