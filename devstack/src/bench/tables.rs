//! The report as tables: for the screen, and in Markdown for docs/PERFORMANCE.md.

use serde_json::Value;

use super::cell::Cell;
use super::report::{Report, Summary};

const HEAD: [&str; 18] = [
    "cell",
    "echo/s",
    "disk/s",
    "service/s",
    "MB/s",
    "ratio",
    "by CPU",
    "p50 ms",
    "p99 ms",
    "max ms",
    "echo p50",
    "service µs",
    "broker µs",
    "database µs",
    "generator µs",
    "sink µs",
    "drain s",
    "RSS MB",
];

fn row(cell: &Cell) -> Vec<String> {
    let (echo, service) = (Summary::of(&cell.echo).median, Summary::of(&cell.service).median);
    let name = if cell.noisy() { format!("{} noisy", cell.scenario) } else { cell.scenario.to_string() };
    let cpu = service.cpu_us;
    vec![
        name,
        format!("{:.0}", echo.chunks_per_s),
        cell.disk().map_or_else(|| "-".to_owned(), |disk| format!("{disk:.0}")),
        format!("{:.0}", service.chunks_per_s),
        format!("{:.1}", service.mb_per_s),
        format!("{:.2}", cell.ratio()),
        format!("{:.2}", cell.cpu_ratio()),
        format!("{:.1}", service.p50_ms),
        format!("{:.1}", service.p99_ms),
        format!("{:.0}", service.max_ms),
        format!("{:.1}", echo.p50_ms),
        format!("{:.0}", cpu.service),
        format!("{:.0}", cpu.broker),
        format!("{:.0}", cpu.database),
        format!("{:.0}", cpu.generator),
        format!("{:.0}", cpu.sink),
        format!("{:.1}", service.drain_s),
        format!("{:.0}", cell.peak_rss_kib as f64 * 1_024.0 / 1e6),
    ]
}

/// One cell, for the screen; the head comes with the first.
pub(crate) fn line(cell: &Cell, first: bool) -> String {
    let widths = HEAD.map(|name| name.chars().count().max(7));
    let line = |values: Vec<String>| {
        let place = |(at, value): (usize, &String)| match at {
            0 => format!("{value:<17}"),
            _ => format!("{value:>width$}", width = widths[at]),
        };
        values.iter().enumerate().map(place).collect::<Vec<_>>().join(" ")
    };
    let head = if first { line(HEAD.map(str::to_owned).to_vec()) + "\n" } else { String::new() };
    head + &line(row(cell))
}

/// What a load takes; see `growth`.
const GROWTH: [&str; 7] = [
    "chunk",
    "chunks/s",
    "MB/s",
    "cores of the service",
    "of the broker",
    "of the database",
    "volume's appends",
];

/// The figures of a special in one line.
pub(crate) fn special(name: &str, figures: &Value) -> String {
    format!("{name:<10} {figures}")
}

/// Everything, in Markdown.
pub(crate) fn markdown(report: &Report) -> String {
    let machine = super::machine::describe();
    let pace = report.pace;
    let mut text = format!(
        "{} rounds of {} s; {} build, {} x {}, {}, Linux {}, {}.\n\n",
        pace.rounds,
        pace.window.as_secs(),
        word(&machine["build"]),
        machine["cpus"],
        word(&machine["cpu"]),
        word(&machine["memory"]),
        word(&machine["kernel"]),
        word(&machine["volume"]),
    );
    text += &table(&["", "target", "measured", "holds"], &super::targets::rows(&report.json()));
    text += &table(&HEAD, &report.cells.iter().map(row).collect::<Vec<_>>());
    text += &table(&GROWTH, &super::growth::rows(report));
    for (name, figures) in &report.specials {
        text += &table(&[name.as_str(), ""], &flat(figures));
    }
    text
}

/// Nothing without rows.
fn table<R: AsRef<[String]>>(head: &[&str], rows: &[R]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let dashes = vec!["---"; head.len()].join(" | ");
    let lines = rows.iter().map(|row| format!("| {} |\n", row.as_ref().join(" | ")));
    format!("| {} |\n| {dashes} |\n{}\n", head.join(" | "), lines.collect::<String>())
}

/// Name and value of each figure; those of a group have its name before theirs.
fn flat(figures: &Value) -> Vec<[String; 2]> {
    let each = |(name, value): (&String, &Value)| match value {
        Value::Object(_) => {
            flat(value).into_iter().map(|[inner, value]| [format!("{name} {inner}"), value]).collect()
        }
        plain => vec![[name.clone(), plain.to_string()]],
    };
    figures.as_object().into_iter().flatten().flat_map(each).collect()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::Scenario;

    #[test]
    fn a_row_has_a_value_for_each_column() {
        let cell = Cell {
            scenario: Scenario::new(1 << 20, 32, 2),
            echo: Vec::new(),
            service: Vec::new(),
            disk_per_s: Vec::new(),
            peak_rss_kib: 2_000,
            run_rows_per_chunk: 1.0,
        };
        assert_eq!(row(&cell).len(), HEAD.len());
        assert!(line(&cell, true).starts_with("cell "));
    }
}
