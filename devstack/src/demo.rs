//! `devstack demo`: a real video through a whole system on this machine, from chunks to playable DASH and HLS.

mod farm;
pub(crate) mod replica;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::builder::BoolishValueParser;
use devstack::{Workspace, tools, workspace};

use self::farm::Farm;
use crate::clip::{Durations, Flow, Upload, Video, check};
use crate::interrupts::Interrupts;
use crate::progress::Step;

const DEFAULT_CHUNK: u64 = 8192;
/// What the chunk road takes at most, in bytes.
const LARGEST_CHUNK: u64 = 10 * 1024 * 1024;

/// What the demo does, by options or environment. Sizes are text here, so that a wrong one, like everything that
/// goes wrong, is told in the demo's last line.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The video to upload: fragmented or faststart mp4, mpegts, mkv, webm, flv or avi; one is made by default
    #[arg(long, env = "VIDEO", default_value = "", hide_default_value = true)]
    video: OsString,
    /// Bytes in one chunk
    #[arg(long, env = "CHUNK", default_value = "8192")]
    chunk: String,
    /// Exit after the check instead of staying up until Ctrl-C
    #[arg(long = "exit", env = "DEMO_EXIT", num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    exit: String,
}

/// A demo that has come to its good end and is still up.
struct Outcome {
    bytes: u64,
    durations: Durations,
    farm: Farm,
}

/// Runs the demo; its last line says how it went.
pub(crate) async fn run(options: Options, interrupts: &mut Interrupts) -> ExitCode {
    let Err(error) = show(&options, interrupts).await else { return ExitCode::SUCCESS };
    let whole = format!("{error:#}");
    let why = whole.lines().next().unwrap_or_default();
    // Ends of logs go before the last line, which has to be one line.
    if why.len() < whole.len() {
        eprintln!("{whole}");
    }
    println!("DEMO FAILED: {why}");
    ExitCode::FAILURE
}

async fn show(options: &Options, interrupts: &mut Interrupts) -> anyhow::Result<()> {
    let chunk = chunk_size(&options.chunk).with_context(|| format!("CHUNK={}", options.chunk))?;
    let exit = parse_exit(&options.exit).with_context(|| format!("DEMO_EXIT={}", options.exit))?;
    tools::ensure(&tools::ALL)?;
    let workspace = Workspace::new("demo")?;
    let outcome = tokio::select! {
        outcome = whole_road(Path::new(&options.video), chunk, &workspace) => outcome,
        signal = interrupts.next() => bail!("interrupted by {signal}"),
    };
    let Outcome { bytes, durations, farm } = outcome.inspect_err(|_| tell_of_logs(&workspace))?;
    let line = format!("DEMO OK: {bytes} bytes, dash {:.2} s, hls {:.2} s", durations.dash, durations.hls);
    if exit {
        farm.stop().await?;
        drop(workspace);
        println!("{line}");
        return Ok(());
    }
    println!("Up until Ctrl-C.\n{line}");
    tokio::select! {
        _ = interrupts.next() => {}
        died = farm.death() => {
            tell_of_logs(&workspace);
            return Err(died);
        }
    }
    farm.stop().await
}

/// Everything up to the check of what came out.
async fn whole_road(own: &Path, chunk: u64, workspace: &Workspace) -> anyhow::Result<Outcome> {
    let video = Video::get(own, workspace).await?;
    let farm = Farm::start(workspace).await?;
    let road = async {
        let flow = upload(farm.gateway_url(), &video, chunk).await?;
        let durations = check(&flow, &video, workspace).await?;
        anyhow::Ok((flow, durations))
    };
    let (flow, durations) = tokio::select! {
        done = road => done?,
        died = farm.death() => return Err(died),
    };
    println!("{}", farm.addresses());
    println!("DASH          {}\nHLS           {}", flow.dash, flow.hls);
    println!("play it       ffplay {}", flow.dash);
    Ok(Outcome { bytes: video.bytes, durations, farm })
}

/// The whole video at full speed, then the wait for its streams.
async fn upload(gateway: &str, video: &Video, chunk: u64) -> anyhow::Result<Flow> {
    let mut upload = Upload::create(gateway, video, chunk).await?;
    let step = Step::bytes("uploading", video.bytes);
    let begun = std::time::Instant::now();
    upload.send_to(video.bytes, |position| step.reach(position)).await?;
    let seconds = begun.elapsed().as_secs_f64().max(0.001);
    let chunks = video.bytes.div_ceil(chunk);
    step.done(&format!("{} bytes in {chunks} chunks, {:.0} chunks/s", video.bytes, chunks as f64 / seconds));
    let step = Step::spin("processing");
    let flow = upload.distributed(|state| step.say(state)).await?;
    step.done("DISTRIBUTED");
    Ok(flow)
}

/// The workspace goes away; the logs of a failed demo stay.
fn tell_of_logs(workspace: &Workspace) {
    match keep_logs(workspace) {
        Ok(folder) => eprintln!("the logs are in {}", folder.display()),
        Err(error) => eprintln!("the logs could not be kept: {error:#}"),
    }
}

fn keep_logs(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let folder = workspace::root()?.join("last-failed-demo");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    for entry in std::fs::read_dir(workspace.path())? {
        let path = entry?.path();
        if let (Some(name), Some("log")) = (path.file_name(), path.extension().and_then(|end| end.to_str())) {
            std::fs::copy(&path, folder.join(name))?;
        }
    }
    Ok(folder)
}

/// An empty variable, as make passes on an unset one, means the default.
fn chunk_size(text: &str) -> anyhow::Result<u64> {
    if text.is_empty() {
        return Ok(DEFAULT_CHUNK);
    }
    let size: u64 = text.parse().context("not a number of bytes")?;
    if !(1..=LARGEST_CHUNK).contains(&size) {
        bail!("a chunk has 1 to {LARGEST_CHUNK} bytes");
    }
    Ok(size)
}

fn parse_exit(text: &str) -> anyhow::Result<bool> {
    use clap::builder::TypedValueParser;
    if text.is_empty() {
        return Ok(false);
    }
    let command = clap::Command::new("demo");
    BoolishValueParser::new().parse_ref(&command, None, text.as_ref()).context("not yes or no")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[derive(clap::Parser)]
    struct Arguments {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn options_win_over_nothing_and_an_exit_needs_no_value() {
        use clap::Parser;
        let given = Arguments::parse_from(["demo", "--video", "my file.mkv", "--chunk", "65536", "--exit"]);
        assert_eq!(given.options.video, "my file.mkv");
        assert_eq!(chunk_size(&given.options.chunk).unwrap(), 65_536);
        assert!(parse_exit(&given.options.exit).unwrap());
    }

    #[test]
    fn a_chunk_size_is_bounded_and_empty_means_the_default() {
        assert_eq!(chunk_size("").unwrap(), DEFAULT_CHUNK);
        assert_eq!(chunk_size("1").unwrap(), 1);
        assert!(chunk_size("0").is_err());
        assert!(chunk_size("10485761").is_err());
        assert!(chunk_size("8k").is_err());
    }

    #[test]
    fn an_exit_is_asked_for_by_any_yes() {
        assert!(parse_exit("1").unwrap() && parse_exit("true").unwrap());
        assert!(!parse_exit("").unwrap() && !parse_exit("0").unwrap());
        assert!(parse_exit("perhaps").is_err());
    }
}
