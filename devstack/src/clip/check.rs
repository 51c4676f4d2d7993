//! Looks at what came out, as a player would: both manifests over HTTP, every frame decoded.

use anyhow::{Context, bail};
use devstack::Workspace;
use serde_json::Value;

use super::upload::Flow;
use super::video::{Video, duration, probe};
use crate::progress::Step;

/// How much a duration may differ from the source's, in seconds.
const TOLERANCE: f64 = 0.5;

/// How long the two streams play, in seconds.
pub(crate) struct Durations {
    pub(crate) dash: f64,
    pub(crate) hls: f64,
}

/// Decodes both streams and compares their durations with the source's.
pub(crate) async fn check(flow: &Flow, video: &Video, workspace: &Workspace) -> anyhow::Result<Durations> {
    let step = Step::parts("checking with ffprobe", 2);
    step.say("DASH");
    let dash = check_one("DASH", &flow.dash, video, workspace).await?;
    step.part("HLS");
    let hls = check_one("HLS", &flow.hls, video, workspace).await?;
    step.done("every frame of both decodes");
    Ok(Durations { dash, hls })
}

async fn check_one(kind: &str, url: &str, video: &Video, workspace: &Workspace) -> anyhow::Result<f64> {
    let probed = probe(url, &["-count_frames"], workspace).await.with_context(|| url.to_owned())?;
    if !probed.complaints.is_empty() {
        bail!("{kind} does not decode cleanly: {}", probed.complaints);
    }
    if frames(&probed.facts) == 0 {
        bail!("{kind} has no frames");
    }
    match duration(&probed.facts) {
        Some(seconds) if (seconds - video.seconds).abs() <= TOLERANCE => Ok(seconds),
        Some(seconds) => bail!("{kind} plays {seconds:.2} s, the source {:.2} s", video.seconds),
        None => bail!("{kind} has no duration"),
    }
}

/// The frames of all streams that could be decoded.
fn frames(facts: &Value) -> u64 {
    let streams = facts.get("streams").and_then(Value::as_array).into_iter().flatten();
    let frames = streams.filter_map(|stream| stream.get("nb_read_frames")?.as_str()?.parse::<u64>().ok());
    frames.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_of_all_streams_are_counted() {
        let facts =
            serde_json::json!({"streams": [{"nb_read_frames": "900"}, {"nb_read_frames": "1400"}, {}]});
        assert_eq!(frames(&facts), 2300);
    }
}
