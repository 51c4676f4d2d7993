//! What a hundred sessions feel of one whose fflow takes nothing and one whose finish takes its time.

use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::bench::cell::uploads;
use crate::bench::census;
use crate::bench::figures::{Times, median, rounded};
use crate::bench::ground::{Ground, Service};
use crate::bench::load::Load;
use crate::bench::plan::Pace;

const CHUNK: usize = 8 << 10;
const FILE: u64 = 1 << 30;
/// Those whose latency is told; the one that stalls comes after them, then one that finishes in each round.
const OTHERS: usize = 100;

pub(super) async fn measure(ground: &Ground, pace: Pace) -> anyhow::Result<Value> {
    let service = Service::start(ground, 1).await?;
    let mut sessions = uploads(service.announce(OTHERS + 1, FILE).await?, 1, FILE);
    let finishing = service.announce(pace.rounds, CHUNK as u64).await?;
    sessions.extend(uploads(finishing, 1, CHUNK as u64));
    let mut load = Load::open(&service.sandbox.amqp_url, ground.content.clone(), CHUNK, sessions).await?;
    load.counted = OTHERS;
    load.run_on(0..=OTHERS, pace.warm_up).await?;
    service.drained(&load.progress()).await?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..pace.rounds {
        without.push(p99(&mut load, pace.window).await?);
        service.drained(&load.progress()).await?;
        let last = OTHERS + 1 + round;
        let (stalled, finishing) = (load.session(OTHERS), load.session(last));
        let (stalled, finishing) = stalled.zip(finishing).context("no such sessions")?;
        service.tell_sink("stall", &format!("push/{stalled}\nfinish/{finishing}")).await?;
        load.run_on(last..=last, Duration::ZERO).await?;
        with.push(p99(&mut load, pace.window).await?);
        service.tell_sink("stall", "").await?;
        service.drained(&load.progress()).await?;
    }
    census::check(&service, &load.progress(), &ground.content, CHUNK).await?;
    drop(load);
    service.stop().await?;
    let (without, with) = (median(without), median(with));
    Ok(json!({
        "p99_ms_without": rounded(without),
        "p99_ms_with": rounded(with),
        "p99_ratio_with_stalled_session": rounded(with / without),
    }))
}

async fn p99(load: &mut Load, window: Duration) -> anyhow::Result<f64> {
    let heard = load.run_on(0..=OTHERS, window).await?;
    Ok(Times::new(heard.latencies).within(0.99))
}
