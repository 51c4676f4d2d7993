//! What an upload costs in memory while nothing happens to it: one chunk each, then silence.

use std::time::Duration;

use anyhow::Context;
use devstack::wait_until;
use serde_json::{Value, json};

use crate::bench::cell::uploads;
use crate::bench::figures::rounded;
use crate::bench::ground::{Ground, Service};
use crate::bench::load::Load;
use crate::bench::{census, cost};

const CHUNK: usize = 8 << 10;
/// Sessions whose memory is counted.
const IDLE: usize = 10_000;
/// Sessions before them: what the process takes once, for whatever load, is not theirs.
const BEFORE: usize = 1_000;
const WARM_UP: Duration = Duration::from_secs(3);
/// A feed is released after a minute without bytes.
const RELEASED: Duration = Duration::from_secs(180);

pub(super) async fn measure(ground: &Ground) -> anyhow::Result<Value> {
    let service = Service::start(ground, 1).await?;
    let file = 1 << 30;
    let sessions = uploads(service.announce(BEFORE + IDLE, file).await?, 1, file);
    let url = &service.sandbox.amqp_url;
    let mut load = Load::open(url, ground.content.clone(), CHUNK, sessions).await?;
    let pid = service.replicas.first().context("no replica")?.process.pid();
    load.run_on(0..BEFORE, WARM_UP).await?;
    service.drained(&load.progress()).await?;
    let before = cost::resident_kib(pid)?;
    load.run_on(BEFORE..BEFORE + IDLE, Duration::ZERO).await?;
    service.drained(&load.progress()).await?;
    let fed = cost::resident_kib(pid)?;
    let nobody = async || feeds(&service).await.is_ok_and(|feeds| feeds == 0);
    wait_until("all feeds are released", RELEASED, nobody).await?;
    let released = cost::resident_kib(pid)?;
    census::check(&service, &load.progress(), &ground.content, CHUNK).await?;
    drop(load);
    service.stop().await?;
    let each = |now: u64| now.saturating_sub(before) * 1_024 / IDLE as u64;
    let mb = |kib: u64| rounded(kib as f64 * 1_024.0 / 1e6);
    Ok(json!({
        "sessions": IDLE,
        "bytes_per_idle_session": each(fed),
        "bytes_per_session_without_feed": each(released),
        "rss_mb_before": mb(before),
        "rss_mb_idle": mb(fed),
    }))
}

async fn feeds(service: &Service) -> anyhow::Result<i64> {
    let sql = "SELECT count(*) FROM uploader.session WHERE owner IS NOT NULL";
    let rows = service.query(sql, Vec::new()).await?;
    Ok(rows.first().context("no count")?.try_get_by_index(0)?)
}
