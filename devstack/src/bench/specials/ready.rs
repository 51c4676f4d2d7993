//! From the start of a process until it says that it is ready, with all servers up.

use std::time::{Duration, Instant};

use anyhow::bail;
use devstack::{PortLease, Signal, http};
use serde_json::{Value, json};

use crate::bench::figures::{median, rounded};
use crate::bench::ground::{Ground, Service};

const STARTS: usize = 10;
const DEADLINE: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(15);
/// Between two questions.
const LOOK: Duration = Duration::from_millis(1);

pub(super) async fn measure(ground: &Ground) -> anyhow::Result<Value> {
    let service = Service::prepare(ground).await?;
    // The first one makes the spool: no start that a replica of a running farm would make.
    start(ground, &service).await?;
    let mut times = Vec::new();
    for _ in 0..STARTS {
        times.push(start(ground, &service).await?.as_secs_f64() * 1_000.0);
    }
    service.stop().await?;
    let longest = times.iter().copied().fold(0.0, f64::max);
    Ok(json!({ "ready_ms": rounded(median(times)), "longest_ms": rounded(longest), "starts": STARTS }))
}

async fn start(ground: &Ground, service: &Service) -> anyhow::Result<Duration> {
    let port = PortLease::take()?;
    let builder = service.describe(ground, &port)?;
    let url = format!("http://{}/readyz", port.address());
    let begun = Instant::now();
    let process = builder.start()?;
    while !http::get(&url, DEADLINE).await.is_ok_and(|answer| answer.status == 200) {
        if !process.is_running() || begun.elapsed() > DEADLINE {
            bail!("the service does not get ready:\n{}", process.log_tail(15));
        }
        tokio::time::sleep(LOOK).await;
    }
    let taken = begun.elapsed();
    process.stop(Signal::SIGTERM, STOP).await?;
    Ok(taken)
}
