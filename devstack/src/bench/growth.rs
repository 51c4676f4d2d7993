//! How cost grows: what a multiple of a load takes, from the processor time of one chunk and what the volume allows.

use super::cell::Cell;
use super::report::{Report, Summary};

/// The cells that it is told for, and chunks per second of the load that is multiplied.
const FROM: [(&str, f64); 2] = [("8k_100", 100.0), ("64k_100", 100.0)];
const TIMES: [f64; 4] = [1.0, 10.0, 100.0, 1_000.0];
const MICROS: f64 = 1e6;

/// A row for each load: its rate and bytes, cores of service, broker and database, and the share of the volume's
/// appends that it takes when none is shared.
pub(crate) fn rows(report: &Report) -> Vec<[String; 7]> {
    let known = |(name, rate): (&str, f64)| report.cell(name).map(|cell| (cell, rate));
    let each = |(cell, rate): (&Cell, f64)| TIMES.map(|times| row(cell, rate * times));
    FROM.into_iter().filter_map(known).flat_map(each).collect()
}

fn row(cell: &Cell, rate: f64) -> [String; 7] {
    let cpu = Summary::of(&cell.service).median.cpu_us;
    let cores = |micros: f64| format!("{:.2}", rate * micros / MICROS);
    let share = |disk: f64| format!("{:.0} %", rate / disk * 100.0);
    [
        format!("{} KiB", cell.scenario.bytes >> 10),
        format!("{rate}"),
        format!("{:.1}", rate * cell.scenario.bytes as f64 / MICROS),
        cores(cpu.service),
        cores(cpu.broker),
        cores(cpu.database),
        cell.disk().filter(|disk| *disk > 0.0).map_or_else(|| "-".to_owned(), share),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::time::Duration;

    use super::*;
    use crate::bench::cell::{CpuUs, Round};
    use crate::bench::plan::{Pace, Scenario};

    #[test]
    fn ten_times_the_load_takes_ten_times_the_cores() {
        let second = Duration::from_secs(1);
        let mut report = Report::new(Pace { rounds: 1, window: second, warm_up: second });
        let cpu_us = CpuUs { service: 150.0, ..CpuUs::default() };
        report.cells.push(Cell {
            scenario: Scenario::new(8 << 10, 100, 1),
            echo: Vec::new(),
            service: vec![Round { cpu_us, ..Round::default() }],
            disk_per_s: vec![2_000.0],
            peak_rss_kib: 0,
            run_rows_per_chunk: 0.0,
        });
        let rows = rows(&report);
        assert_eq!(rows.len(), TIMES.len());
        assert_eq!((rows[1][3].as_str(), rows[2][3].as_str()), ("0.15", "1.50"));
        assert_eq!(rows[1][6], "50 %");
    }
}
