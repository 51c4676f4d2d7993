//! What the service is meant to reach on a quiet machine of two cores, beside what was measured.

use serde_json::Value;

enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};

/// Where the figure stands in the report, what it is, and its bound.
const TARGETS: [(&str, &str, Bound); 11] = [
    ("/ratios/8k_100", "ratio, 8 KiB, 100 sessions", AtLeast(0.60)),
    ("/ratios/8k_500", "ratio, 8 KiB, 500 sessions", AtLeast(0.60)),
    ("/ratios/8k_5000", "ratio, 8 KiB, 5,000 sessions", AtLeast(0.50)),
    ("/ratios/64k_100", "ratio, 64 KiB, 100 sessions", AtLeast(0.60)),
    ("/ratios/1m_32", "ratio, 1 MiB, 32 sessions", AtLeast(0.60)),
    ("/p50_ms_8k_1", "p50 reply latency of one session of 8 KiB, ms", AtMost(4.0)),
    ("/service_cpu_us_per_chunk_8k_100", "service's time per 8 KiB chunk, 100 sessions, µs", AtMost(150.0)),
    ("/rss_mb_500", "peak memory at 500 sessions of 8 KiB, MB", AtMost(64.0)),
    ("/bytes_per_idle_session", "memory of an idle session, bytes", AtMost(8_192.0)),
    ("/ready_ms", "start to ready, ms", AtMost(300.0)),
    (
        "/p99_ratio_with_stalled_session",
        "p99 of others with one stalled session, to that without",
        AtMost(1.2),
    ),
];

/// A row for each figure that was measured: what it is, target, figure, and whether it holds.
pub(crate) fn rows(report: &Value) -> Vec<[String; 4]> {
    let row = |(place, what, bound): &(&str, &str, Bound)| {
        let measured = report.pointer(place)?.as_f64()?;
        let (wanted, holds) = match bound {
            AtLeast(least) => (format!(">= {least}"), measured >= *least),
            AtMost(most) => (format!("<= {most}"), measured <= *most),
        };
        let holds = if holds { "yes" } else { "no" };
        Some([(*what).to_owned(), wanted, measured.to_string(), holds.to_owned()])
    };
    TARGETS.iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_has_no_row_and_bounds_include_their_edge() {
        let report = serde_json::json!({ "ratios": { "8k_100": 0.6, "8k_500": null }, "p50_ms_8k_1": 4.1 });
        let held: Vec<_> = rows(&report).into_iter().map(|[_, _, _, holds]| holds).collect();
        assert_eq!(held, ["yes", "no"]);
    }
}
