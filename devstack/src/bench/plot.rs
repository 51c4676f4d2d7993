//! Throughput and latency over sessions as an SVG, drawn by hand: two panels, a line for each size of chunk.

use std::fmt::Write as _;

use super::cell::Cell;
use super::report::Summary;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 34.0;
/// Of the space for one panel, and of the plot in it.
const PANEL: f64 = WIDTH / 2.0;
const INNER: (f64, f64) = (PANEL - LEFT - 16.0, HEIGHT - TOP - 44.0);
const COLOURS: [&str; 3] = ["#1b6ca8", "#c0392b", "#2e8b57"];

/// One line: points of sessions and a value, and how it is drawn.
struct Line {
    name: String,
    colour: &'static str,
    dashed: bool,
    points: Vec<(f64, f64)>,
}

/// The picture of all cells with one replica.
pub(crate) fn draw(cells: &[Cell]) -> String {
    let single: Vec<&Cell> = cells.iter().filter(|cell| cell.scenario.replicas == 1).collect();
    let (mut rates, mut times) = (Vec::new(), Vec::new());
    let mut sizes: Vec<usize> = single.iter().map(|cell| cell.scenario.bytes).collect();
    sizes.dedup();
    for (bytes, colour) in sizes.into_iter().zip(COLOURS) {
        let of = |value: &dyn Fn(&Cell) -> f64| -> Vec<(f64, f64)> {
            let mine = single.iter().filter(|cell| cell.scenario.bytes == bytes);
            mine.map(|cell| (cell.scenario.sessions as f64, value(cell))).collect()
        };
        let name = format!("{} KiB", bytes >> 10);
        let line = |name: String, dashed, points| Line { name, colour, dashed, points };
        let service = of(&|cell| Summary::of(&cell.service).median.chunks_per_s);
        let echo = of(&|cell| Summary::of(&cell.echo).median.chunks_per_s);
        rates.push(line(name.clone(), false, service));
        rates.push(line(format!("{name} echo"), true, echo));
        times.push(line(format!("{name} p50"), false, of(&|cell| Summary::of(&cell.service).median.p50_ms)));
        times.push(line(format!("{name} p99"), true, of(&|cell| Summary::of(&cell.service).median.p99_ms)));
    }
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"10\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    svg += &panel(0.0, "chunks/s over sessions", &rates);
    svg += &panel(PANEL, "reply latency in ms over sessions", &times);
    svg + "</svg>\n"
}

/// One diagram with logarithmic axes.
fn panel(at: f64, title: &str, lines: &[Line]) -> String {
    let (x, y) = (Axis::over(lines, |point| point.0), Axis::over(lines, |point| point.1));
    let place = |point: (f64, f64)| {
        (at + LEFT + x.share(point.0) * INNER.0, TOP + (1.0 - y.share(point.1)) * INNER.1)
    };
    let mut svg = format!("<text x=\"{}\" y=\"16\" font-size=\"12\">{title}</text>\n", at + LEFT);
    for tick in x.ticks() {
        let (px, bottom) = (place((tick, y.low)).0, TOP + INNER.1);
        svg += &grid((px, TOP), (px, bottom));
        svg += &label((px, bottom + 14.0), "middle", tick);
    }
    for tick in y.ticks() {
        let (left, py) = (at + LEFT, place((x.low, tick)).1);
        svg += &grid((left, py), (left + INNER.0, py));
        svg += &label((left - 6.0, py + 3.0), "end", tick);
    }
    for (number, line) in lines.iter().enumerate() {
        svg += &curve(line, &place);
        svg += &key(line, at, number);
    }
    svg
}

fn grid(from: (f64, f64), to: (f64, f64)) -> String {
    let (x1, y1, x2, y2) = (from.0, from.1, to.0, to.1);
    format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#ddd\"/>\n")
}

fn label(at: (f64, f64), anchor: &str, value: f64) -> String {
    format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" fill=\"#555\">{value}</text>\n",
        at.0, at.1
    )
}

fn dash(line: &Line) -> &'static str {
    if line.dashed { " stroke-dasharray=\"4 3\"" } else { "" }
}

fn curve(line: &Line, place: &dyn Fn((f64, f64)) -> (f64, f64)) -> String {
    let (mut points, mut dots) = (String::new(), String::new());
    for (x, y) in line.points.iter().filter(|point| point.1 > 0.0).map(|point| place(*point)) {
        // Writing to a string does not fail.
        let _ = write!(points, "{x:.1},{y:.1} ");
        let _ = writeln!(dots, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{}\"/>", line.colour);
    }
    let (colour, points) = (line.colour, points.trim_end());
    format!("<polyline fill=\"none\" stroke=\"{colour}\" points=\"{points}\"{}/>\n{dots}", dash(line))
}

/// Its name below the panel.
fn key(line: &Line, at: f64, number: usize) -> String {
    let x = at + LEFT + 50.0 * number as f64 - 30.0;
    let y = HEIGHT - 10.0;
    format!(
        "<line x1=\"{x}\" y1=\"{0}\" x2=\"{1}\" y2=\"{0}\" stroke=\"{2}\"{3}/>\
         <text x=\"{x}\" y=\"{y}\" font-size=\"7\">{4}</text>\n",
        y - 9.0,
        x + 24.0,
        line.colour,
        dash(line),
        line.name
    )
}

/// A logarithmic axis over whole powers of ten.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn over(lines: &[Line], value: fn(&(f64, f64)) -> f64) -> Self {
        let all = || lines.iter().flat_map(|line| &line.points).map(value).filter(|value| *value > 0.0);
        let (least, most) = (all().fold(f64::MAX, f64::min), all().fold(f64::MIN_POSITIVE, f64::max));
        let low = 10f64.powf(least.min(most).log10().floor());
        let high = 10f64.powf(most.log10().ceil()).max(low * 10.0);
        Axis { low, high }
    }

    fn share(&self, value: f64) -> f64 {
        (value / self.low).log10() / (self.high / self.low).log10()
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let (from, to) = (self.low.log10().round() as i32, self.high.log10().round() as i32);
        (from..=to).map(|power| 10f64.powi(power))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cell::Round;
    use crate::bench::plan::Scenario;

    fn cell(sessions: usize, rate: f64) -> Cell {
        let round = Round { chunks_per_s: rate, p50_ms: 1.5, p99_ms: 20.0, ..Round::default() };
        let (echo, service) = (vec![round], vec![round]);
        let scenario = Scenario::new(8 << 10, sessions, 1);
        Cell { scenario, echo, service, disk_per_s: Vec::new(), peak_rss_kib: 0, run_rows_per_chunk: 0.0 }
    }

    #[test]
    fn an_axis_covers_whole_powers_of_ten() {
        let points = vec![(1.0, 30.0), (500.0, 4_000.0)];
        let lines = [Line { name: String::new(), colour: "", dashed: false, points }];
        let axis = Axis::over(&lines, |point| point.1);
        assert_eq!(axis.ticks().count(), 4);
        assert!((axis.share(100.0) - 1.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn the_picture_has_a_line_for_each_series_and_is_well_formed() {
        let svg = draw(&[cell(1, 500.0), cell(100, 4_000.0)]);
        assert_eq!(svg.matches("<polyline").count(), 4);
        assert_eq!(svg.matches('<').count(), svg.matches('>').count());
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
