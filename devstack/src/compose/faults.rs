//! What is done to the containers.

use std::time::Duration;

use anyhow::{Context, bail};
use devstack::{retry_until, wait_until};

use super::engine::Engine;

const CALL: Duration = Duration::from_secs(60);
/// Three failed looks, one each 5 s, and the deadline of the first.
const ILL: Duration = Duration::from_secs(60);
const WELL: Duration = Duration::from_secs(120);
const FFLOWS: [&str; 3] = ["fflow-1", "fflow-2", "fflow-3"];

/// How long a replica takes from its container's start until it logs that it is ready.
pub(super) async fn start_time(engine: &Engine) -> anyhow::Result<Duration> {
    let replica = first(engine, "uploader").await?;
    let replica = replica.as_str();
    engine.docker(["restart", replica], CALL).await?;
    let started = engine.docker(["inspect", "--format", "{{.State.StartedAt}}", replica], CALL).await?;
    let ready = retry_until("the replica is ready", WELL, async || {
        let log = engine.said(replica, &started).await?;
        let line = log.lines().find(|line| line.contains(r#""message":"ready""#)).map(str::to_owned);
        line.context("it has not said so")
    })
    .await?;
    let at = ready.split_once(' ').map(|(at, _)| at).context("a line without its time")?;
    let span = seconds_of_day(at)? - seconds_of_day(&started)?;
    Ok(Duration::from_secs_f64(span.rem_euclid(86_400.0)))
}

/// The seconds since midnight of a time such as `2026-01-31T12:30:00.123Z`.
fn seconds_of_day(time: &str) -> anyhow::Result<f64> {
    let clock =
        time.split_once('T').map(|(_, clock)| clock.trim_end_matches('Z')).context("no time of day")?;
    let parts: Vec<f64> = clock.split(':').map(str::parse).collect::<Result<_, _>>()?;
    let [hours, minutes, seconds] = parts[..] else { bail!("{time} is no time") };
    Ok(hours * 3600.0 + minutes * 60.0 + seconds)
}

/// SIGKILL to a replica of uploader; says which.
pub(super) async fn kill_a_replica(engine: &Engine) -> anyhow::Result<String> {
    let replica = first(engine, "uploader").await?;
    kill(engine, &replica).await?;
    Ok(replica)
}

/// SIGKILL to the fflow that runs an ffmpeg; says which.
pub(super) async fn kill_the_fflow_at_work(engine: &Engine) -> anyhow::Result<String> {
    let fflow = retry_until("an ffmpeg runs", WELL, async || {
        for service in FFLOWS {
            for container in engine.containers(service).await? {
                if engine.docker(["top", &container, "-o", "pid,comm"], CALL).await?.contains("ffmpeg") {
                    return Ok(container);
                }
            }
        }
        bail!("none does")
    })
    .await?;
    kill(engine, &fflow).await?;
    Ok(fflow)
}

/// Starts killed containers and waits until all is well.
pub(super) async fn revive(engine: &Engine, killed: &[String]) -> anyhow::Result<()> {
    engine.docker(["start"].into_iter().chain(killed.iter().map(String::as_str)), CALL).await?;
    engine.start_all(&[]).await
}

/// Takes the standalone off the network until its health check has noticed, and puts it back.
pub(super) async fn cut_off_the_standalone(engine: &Engine) -> anyhow::Result<()> {
    let standalone = first(engine, "uploader-standalone").await?;
    let network = engine.network("internal");
    engine.docker(["network", "disconnect", &network, &standalone], CALL).await?;
    let ill = wait_until("the standalone is unhealthy", ILL, async || {
        health(engine, &standalone).await.is_ok_and(|health| health == "unhealthy")
    });
    ill.await?;
    engine.docker(["network", "connect", &network, &standalone], CALL).await?;
    wait_until("the standalone is healthy again", WELL, async || {
        health(engine, &standalone).await.is_ok_and(|health| health == "healthy")
    })
    .await
}

async fn health(engine: &Engine, container: &str) -> anyhow::Result<String> {
    engine.docker(["inspect", "--format", "{{.State.Health.Status}}", container], CALL).await
}

async fn kill(engine: &Engine, container: &str) -> anyhow::Result<()> {
    engine.docker(["kill", "--signal", "KILL", container], CALL).await.map(drop)
}

async fn first(engine: &Engine, service: &str) -> anyhow::Result<String> {
    let containers = engine.containers(service).await?;
    containers.into_iter().next().with_context(|| format!("no container of {service} runs"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_time_is_read_with_its_fraction() {
        assert!((seconds_of_day("2026-01-31T01:02:03.5Z").unwrap() - 3723.5).abs() < 1e-9);
        assert!(seconds_of_day("yesterday").is_err());
    }
}
