//! How long after its answer a chunk is in fflow's hands.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::bench::cell::uploads;
use crate::bench::census;
use crate::bench::figures::Times;
use crate::bench::ground::{Ground, Service};
use crate::bench::load::{Load, Stored};
use crate::bench::plan::Pace;

const CHUNK: usize = 8 << 10;
/// Sessions at once: a farm with reserves, and one without.
const SESSIONS: [usize; 2] = [10, 100];

/// Of one session: bytes after a push, and when it came.
type Arrivals = HashMap<Uuid, Vec<(u64, Duration)>>;

pub(super) async fn measure(ground: &Ground, pace: Pace) -> anyhow::Result<Value> {
    let mut figures = Map::new();
    for sessions in SESSIONS {
        let times = lags(ground, sessions, pace).await?;
        let told =
            json!({ "p50_ms": times.within(0.5), "p99_ms": times.within(0.99), "max_ms": times.within(1.0) });
        figures.insert(format!("8k_{sessions}"), told);
    }
    Ok(Value::Object(figures))
}

async fn lags(ground: &Ground, sessions: usize, pace: Pace) -> anyhow::Result<Times> {
    let service = Service::start(ground, 1).await?;
    let file = 1 << 30;
    let announced = uploads(service.announce(sessions, file).await?, 1, file);
    let mut load = Load::open(&service.sandbox.amqp_url, ground.content.clone(), CHUNK, announced).await?;
    load.run(pace.warm_up).await?;
    service.drained(&load.progress()).await?;
    service.tell_sink("note", "").await?;
    load.noting = true;
    load.run(pace.window).await?;
    service.drained(&load.progress()).await?;
    census::check(&service, &load.progress(), &ground.content, CHUNK).await?;
    let arrivals = parse(&service.sink_tells("arrivals").await?)?;
    let times = compare(&load.stored, &arrivals)?;
    drop(load);
    service.stop().await?;
    Ok(times)
}

fn parse(text: &str) -> anyhow::Result<Arrivals> {
    let line = |line: &str| -> Option<(Uuid, (u64, Duration))> {
        let mut words = line.split(' ');
        let session = words.next()?.parse().ok()?;
        let bytes = words.next()?.parse().ok()?;
        Some((session, (bytes, Duration::from_micros(words.next()?.parse().ok()?))))
    };
    let mut arrivals = Arrivals::new();
    for text in text.lines() {
        let (session, arrival) = line(text).with_context(|| format!("a strange arrival: {text}"))?;
        arrivals.entry(session).or_default().push(arrival);
    }
    Ok(arrivals)
}

/// A push may come before the answer: then nothing was waited for.
fn compare(stored: &Stored, arrivals: &Arrivals) -> anyhow::Result<Times> {
    let lag = |(session, bytes, at): &(Uuid, u64, Duration)| -> anyhow::Result<u32> {
        let mine = arrivals.get(session).context("a session without arrivals")?;
        let place = mine.partition_point(|(fed, _)| fed < bytes);
        let (_, came) = mine.get(place).context("bytes that never arrived")?;
        Ok(u32::try_from(came.saturating_sub(*at).as_micros()).unwrap_or(u32::MAX))
    };
    Ok(Times::new(stored.iter().map(lag).collect::<anyhow::Result<_>>()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_chunk_arrives_with_the_first_push_that_reaches_its_end() {
        let session = Uuid::from_u128(1);
        let text = format!("{session} 100 5000\n{session} 300 9000\n");
        let at = |bytes, micros| (session, bytes, Duration::from_micros(micros));
        let times = compare(&vec![at(100, 6_000), at(200, 7_000)], &parse(&text).unwrap()).unwrap();
        assert!(times.within(0.0).abs() < 1e-9 && (times.within(1.0) - 2.0).abs() < 1e-9);
    }
}
