//! `devstack compose-test`: docker/compose.yml on a real engine, with uploads through it while its parts die.

mod engine;
mod faults;
mod scenes;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use devstack::{Tool, Workspace, tools, workspace};

use self::engine::Engine;
use self::scenes::Tally;
use crate::clip::Video;
use crate::interrupts::Interrupts;

/// Runs the test; its last line says how it went.
pub(crate) async fn run(interrupts: &mut Interrupts) -> ExitCode {
    let begun = Instant::now();
    match test(interrupts).await {
        Ok(tally) => {
            println!("COMPOSE OK: {tally}, {:.0} s", begun.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let whole = format!("{error:#}");
            let why = whole.lines().next().unwrap_or_default();
            if why.len() < whole.len() {
                eprintln!("{whole}");
            }
            println!("COMPOSE FAILED: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn test(interrupts: &mut Interrupts) -> anyhow::Result<Tally> {
    tools::ensure(&[Tool::Ffmpeg])?;
    let workspace = Workspace::new("compose")?;
    let engine = Engine::find(&workspace).await?;
    let outcome = tokio::select! {
        outcome = up_and_through(&engine, &workspace) => outcome,
        signal = interrupts.next() => Err(anyhow::anyhow!("interrupted by {signal}")),
    };
    if outcome.is_err() {
        tell_of_logs(&engine).await;
    }
    let down = engine.take_down().await;
    let tally = outcome?;
    down?;
    Ok(tally)
}

async fn up_and_through(engine: &Engine, workspace: &Workspace) -> anyhow::Result<Tally> {
    let video = Video::get(&PathBuf::new(), workspace).await?;
    engine.build().await?;
    engine.up().await?;
    scenes::play(engine, &video, workspace).await
}

/// The containers go away; what they said stays.
async fn tell_of_logs(engine: &Engine) {
    match keep_logs(engine).await {
        Ok(file) => eprintln!("what the containers said is in {}", file.display()),
        Err(error) => eprintln!("the containers' logs could not be kept: {error:#}"),
    }
}

async fn keep_logs(engine: &Engine) -> anyhow::Result<PathBuf> {
    let file = workspace::root()?.join("last-failed-compose.log");
    let logs = engine.logs().await?;
    if logs.is_empty() {
        bail!("there are none");
    }
    std::fs::write(&file, logs).context("cannot write them")?;
    Ok(file)
}
