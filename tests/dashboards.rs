//! What the dashboard and the alerts ask for is what the service tells.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use devstack::tools::{self, Tool};
use uploader_v4::metrics::{ALL, Kind};

const DASHBOARD: &str = include_str!("../docker/grafana/uploader-v4.json");
const ALERTS: &str = include_str!("../docker/prometheus/alerts.yml");

/// Every name of a series that a text has.
fn asked(text: &str) -> BTreeSet<String> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split(|letter: char| !is_word(letter))
        .filter(|word| word.starts_with("uploader_"))
        .map(str::to_owned)
        .collect()
}

/// Every name of a series that the service has.
fn told() -> BTreeSet<String> {
    let series = |metric: &uploader_v4::metrics::Metric| match metric.kind {
        Kind::Histogram(_) => {
            ["_bucket", "_sum", "_count"].map(|suffix| format!("{}{suffix}", metric.name)).to_vec()
        }
        Kind::Counter | Kind::Gauge => vec![metric.name.to_owned()],
    };
    ALL.iter().flat_map(series).collect()
}

#[test]
fn dashboard_and_alerts_name_metrics_that_exist() {
    let expressions: String = ALERTS.lines().filter(|line| line.trim_start().starts_with("expr:")).collect();
    for (what, text) in [("dashboard", DASHBOARD), ("alerts", expressions.as_str())] {
        let unknown: Vec<String> = asked(text).difference(&told()).cloned().collect();
        assert!(unknown.is_empty(), "{what}: {unknown:?}");
        assert!(asked(text).len() > 5, "{what}: no names were found");
    }
    // What the texts of the alerts point at may be a histogram as a whole.
    let names: BTreeSet<String> = ALL.iter().map(|metric| metric.name.to_owned()).chain(told()).collect();
    let unknown: Vec<String> = asked(ALERTS).difference(&names).cloned().collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn every_metric_is_on_the_dashboard() {
    let shown = asked(DASHBOARD);
    let hidden: Vec<&str> = ALL
        .iter()
        .map(|metric| metric.name)
        .filter(|name| !shown.iter().any(|shown| shown.starts_with(name)))
        .collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

#[test]
fn the_dashboard_is_a_dashboard() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "panel ids are unique");
        if panel["type"] != "row" {
            let targets = panel["targets"].as_array().unwrap();
            assert!(targets.iter().all(|target| !target["expr"].as_str().unwrap().is_empty()));
        }
    }
}

#[test]
fn prometheus_accepts_the_rules_and_they_fire_when_they_should() {
    tools::ensure(&[Tool::Prometheus]).unwrap();
    let promtool = Tool::Prometheus.program("promtool").unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/prometheus");
    let checks: [&[&str]; 3] = [
        &["check", "rules", "alerts.yml"],
        &["check", "config", "prometheus.yml"],
        &["test", "rules", "alerts.test.yml"],
    ];
    for arguments in checks {
        let ran = Command::new(&promtool).args(arguments).current_dir(&folder).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "promtool {arguments:?}: {said}");
    }
}

/// The expressions of the dashboard, with Grafana's own variables filled in, are expressions.
#[test]
fn the_dashboards_queries_can_be_read() {
    tools::ensure(&[Tool::Prometheus]).unwrap();
    let promtool = Tool::Prometheus.program("promtool").unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let queries = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| {
        panel["targets"].as_array().into_iter().flatten().map(|target| target["expr"].as_str().unwrap())
    });
    let rules: Vec<serde_json::Value> = queries
        .map(|query| query.replace("$__rate_interval", "5m").replace("$instance", ".+"))
        .enumerate()
        .map(|(number, expr)| serde_json::json!({"record": format!("query:{number}"), "expr": expr}))
        .collect();
    assert!(rules.len() > 20);
    // JSON is YAML.
    let file = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queries.yml");
    std::fs::write(&path, file).unwrap();
    let ran = Command::new(promtool).args(["check", "rules"]).arg(&path).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
