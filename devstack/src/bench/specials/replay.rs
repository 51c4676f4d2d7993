//! How fast the spool is replayed when ffmpeg processes are lost: from the first push of the new ones to the last.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::bench::cell::uploads;
use crate::bench::census;
use crate::bench::figures::rounded;
use crate::bench::ground::{Ground, Service};
use crate::bench::load::Load;

const CHUNK: usize = 1 << 20;
/// As many as are replayed at once by default.
const SESSIONS: usize = 4;
/// Chunks of each before its process is lost.
const CHUNKS: usize = 256;

pub(super) async fn measure(ground: &Ground) -> anyhow::Result<Value> {
    let service = Service::start(ground, 1).await?;
    let file = 1 << 30;
    let sessions = uploads(service.announce(SESSIONS, file).await?, 1, file);
    let mut load = Load::open(&service.sandbox.amqp_url, ground.content.clone(), CHUNK, sessions).await?;
    for _ in 0..CHUNKS {
        load.run(Duration::ZERO).await?;
    }
    service.drained(&load.progress()).await?;
    service.tell_sink("note", "").await?;
    service.tell_sink("forget", "").await?;
    // The next push of each finds no process.
    load.run(Duration::ZERO).await?;
    service.drained(&load.progress()).await?;
    census::check(&service, &load.progress(), &ground.content, CHUNK).await?;
    let (bytes, taken) = replayed(&service.sink_tells("arrivals").await?)?;
    drop(load);
    service.stop().await?;
    let mb_per_s = rounded(bytes as f64 / 1e6 / taken.as_secs_f64());
    Ok(json!({ "replay_mb_per_s": mb_per_s, "bytes": bytes, "seconds": rounded(taken.as_secs_f64()) }))
}

/// What came after the first push, and in what time.
fn replayed(arrivals: &str) -> anyhow::Result<(u64, Duration)> {
    let mut pushes: Vec<(u64, u64)> = Vec::new();
    let mut bytes = 0;
    let mut former: (&str, u64) = ("", 0);
    for line in arrivals.lines() {
        let mut words = line.split(' ');
        let session = words.next().unwrap_or_default();
        let number =
            |word: Option<&str>| word.and_then(|word| word.parse().ok()).context("a strange arrival");
        let (after, at): (u64, u64) = (number(words.next())?, number(words.next())?);
        let before = if former.0 == session { former.1 } else { 0 };
        pushes.push((at, after - before));
        bytes += after - before;
        former = (session, after);
    }
    pushes.sort_unstable();
    let (Some(first), Some(last)) = (pushes.first(), pushes.last()) else { bail!("nothing was replayed") };
    Ok((bytes - first.1, Duration::from_micros((last.0 - first.0).max(1))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_first_push_begins_the_time_and_counts_no_bytes() {
        let text = "a 10 1000\na 30 2000\nb 5 1500\n";
        assert_eq!(replayed(text).unwrap(), (25, Duration::from_micros(1_000)));
        assert!(replayed("").is_err());
    }
}
