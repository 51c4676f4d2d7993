//! The report: raw figures and the few that targets are set for, as `target/bench/report.json`.

use std::path::PathBuf;

use anyhow::Context;
use devstack::workspace;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::cell::{Cell, CpuUs, Round};
use super::figures::{median, rounded, spread};
use super::plan::Pace;

/// Rounds that lie farther apart than this share of their median are noisy: the processor's figures count then.
const NOISY: f64 = 0.2;
/// The cells whose ratio has a target.
const RATIOS: [&str; 7] = ["8k_1", "8k_10", "8k_100", "8k_500", "8k_5000", "64k_100", "1m_32"];

/// Medians over the rounds of one thing; the longest time of any.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Summary {
    #[serde(flatten)]
    pub(crate) median: Round,
    pub(crate) spread: f64,
    pub(crate) noisy: bool,
}

impl Summary {
    pub(crate) fn of(rounds: &[Round]) -> Self {
        let of = |value: fn(&Round) -> f64| rounded(median(rounds.iter().map(value)));
        let rates: Vec<f64> = rounds.iter().map(|round| round.chunks_per_s).collect();
        let median = Round {
            chunks_per_s: of(|round| round.chunks_per_s),
            mb_per_s: of(|round| round.mb_per_s),
            p50_ms: of(|round| round.p50_ms),
            p99_ms: of(|round| round.p99_ms),
            max_ms: rounded(rounds.iter().map(|round| round.max_ms).fold(0.0, f64::max)),
            cpu_us: CpuUs {
                service: of(|round| round.cpu_us.service),
                broker: of(|round| round.cpu_us.broker),
                database: of(|round| round.cpu_us.database),
                generator: of(|round| round.cpu_us.generator),
                sink: of(|round| round.cpu_us.sink),
            },
            drain_s: of(|round| round.drain_s),
        };
        let spread = rounded(spread(&rates));
        Summary { median, spread, noisy: spread > NOISY }
    }
}

impl Cell {
    /// Median of the disk's rounds, if it had any.
    pub(crate) fn disk(&self) -> Option<f64> {
        (!self.disk_per_s.is_empty()).then(|| rounded(median(self.disk_per_s.iter().copied())))
    }

    /// The service over the lower of echo and disk.
    pub(crate) fn ratio(&self) -> f64 {
        let echo = Summary::of(&self.echo).median.chunks_per_s;
        let limit = self.disk().map_or(echo, |disk| disk.min(echo));
        if limit > 0.0 { rounded(Summary::of(&self.service).median.chunks_per_s / limit) } else { 0.0 }
    }

    /// The processor time of all processes for a chunk of the echo, over that for one of the service, medians summed. It leaves
    /// out what the kernel does outside of any process, and processors that stand idle.
    pub(crate) fn cpu_ratio(&self) -> f64 {
        let [echo, service] =
            [&self.echo, &self.service].map(|rounds| Summary::of(rounds).median.cpu_us.total());
        if service > 0.0 { rounded(echo / service) } else { 0.0 }
    }

    /// Whether any of the three was.
    pub(crate) fn noisy(&self) -> bool {
        let disk = spread(&self.disk_per_s) > NOISY;
        disk || Summary::of(&self.echo).noisy || Summary::of(&self.service).noisy
    }

    fn json(&self) -> Value {
        json!({
            "name": self.scenario.to_string(),
            "scenario": self.scenario,
            "echo": Summary::of(&self.echo),
            "service": Summary::of(&self.service),
            "disk_appends_per_s": self.disk(),
            "ratio": self.ratio(),
            "cpu_ratio": self.cpu_ratio(),
            "noisy": self.noisy(),
            "peak_rss_kib": self.peak_rss_kib,
            "run_rows_per_chunk": rounded(self.run_rows_per_chunk),
            "rounds": { "echo": self.echo, "service": self.service, "disk_appends_per_s": self.disk_per_s },
        })
    }
}

/// Everything measured so far.
pub(crate) struct Report {
    pub(crate) pace: Pace,
    pub(crate) cells: Vec<Cell>,
    /// The figures of each special, by its name.
    pub(crate) specials: Map<String, Value>,
}

impl Report {
    pub(crate) fn new(pace: Pace) -> Self {
        Report { pace, cells: Vec::new(), specials: Map::new() }
    }

    pub(crate) fn cell(&self, name: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.scenario.to_string() == name)
    }

    /// Writes what there is: a run that is interrupted leaves the figures it has.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn write(&self) -> anyhow::Result<PathBuf> {
        let path = folder()?.join("report.json");
        let text = serde_json::to_string_pretty(&self.json()).context("no JSON")?;
        std::fs::write(&path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// As it is written.
    pub(crate) fn json(&self) -> Value {
        let ratios: Map<String, Value> =
            RATIOS.iter().map(|name| ((*name).to_owned(), json!(self.cell(name).map(Cell::ratio)))).collect();
        let special =
            |name: &str, figure: &str| self.specials.get(name).and_then(|all| all.get(figure)).cloned();
        json!({
            "machine": super::machine::describe(),
            "pace": {
                "rounds": self.pace.rounds,
                "window_s": self.pace.window.as_secs_f64(),
                "warm_up_s": self.pace.warm_up.as_secs_f64(),
            },
            "ratios": ratios,
            "noisy": self.cells.iter().filter(|cell| cell.noisy()).map(|cell| cell.scenario.to_string()).collect::<Vec<_>>(),
            "service_cpu_us_per_chunk_8k_100": self.service("8k_100").map(|round| round.cpu_us.service),
            "rss_mb_500": self.cell("8k_500").map(|cell| rounded(cell.peak_rss_kib as f64 * 1_024.0 / 1e6)),
            "p50_ms_8k_1": self.service("8k_1").map(|round| round.p50_ms),
            "ready_ms": special("ready", "ready_ms"),
            "bytes_per_idle_session": special("idle", "bytes_per_idle_session"),
            "p99_ratio_with_stalled_session": special("stalled", "p99_ratio_with_stalled_session"),
            "specials": self.specials,
            "cells": self.cells.iter().map(Cell::json).collect::<Vec<_>>(),
        })
    }

    fn service(&self, name: &str) -> Option<Round> {
        self.cell(name).map(|cell| Summary::of(&cell.service).median)
    }
}

/// `target/bench`, made if it is not there.
pub(crate) fn folder() -> anyhow::Result<PathBuf> {
    let folder = workspace::target()?.join("bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::time::Duration;

    use super::*;
    use crate::bench::plan::Scenario;

    fn rounds(rates: [f64; 3]) -> Vec<Round> {
        rates.map(|chunks_per_s| Round { chunks_per_s, ..Round::default() }).to_vec()
    }

    fn cell(disk: f64) -> Cell {
        Cell {
            scenario: Scenario::new(8 << 10, 100, 1),
            echo: rounds([1_000.0, 1_010.0, 990.0]),
            service: rounds([600.0, 400.0, 590.0]),
            disk_per_s: vec![disk; 3],
            peak_rss_kib: 1,
            run_rows_per_chunk: 1.0,
        }
    }

    #[test]
    fn a_ratio_is_that_of_medians_to_the_lower_limit() {
        assert!((cell(5_000.0).ratio() - 0.59).abs() < 1e-9);
        assert!((cell(800.0).ratio() - 590.0 / 800.0).abs() < 1e-3);
    }

    #[test]
    fn a_ratio_by_processor_time_is_that_of_all_processes_medians() {
        let rounds = |service, broker: [f64; 3]| {
            broker.map(|broker| Round {
                cpu_us: CpuUs { service, broker, ..CpuUs::default() },
                ..Round::default()
            })
        };
        let (echo, service) =
            (rounds(50.0, [90.0, 100.0, 150.0]).to_vec(), rounds(200.0, [90.0, 100.0, 300.0]).to_vec());
        assert!((Cell { echo, service, ..cell(1.0) }.cpu_ratio() - 0.5).abs() < 1e-9);
        assert!(cell(1.0).cpu_ratio().abs() < 1e-9, "without figures none");
    }

    #[test]
    fn rounds_that_lie_apart_are_called_noisy() {
        assert!(cell(5_000.0).noisy());
        assert!(!Summary::of(&cell(1.0).echo).noisy);
    }

    #[test]
    fn what_was_not_measured_is_null() {
        let second = Duration::from_secs(1);
        let mut report = Report::new(Pace { rounds: 3, window: second, warm_up: second });
        report.cells.push(cell(5_000.0));
        let json = report.json();
        assert_eq!(json["ratios"]["8k_100"], json!(0.59));
        assert_eq!(json["ratios"]["1m_32"], Value::Null);
        assert_eq!(json["bytes_per_idle_session"], Value::Null);
    }
}
