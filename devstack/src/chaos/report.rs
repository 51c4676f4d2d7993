//! What is told of a run: a table for people, JSON for everything else.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use devstack::workspace;
use serde_json::{Value, json};

use super::chronicle::{Struck, Upload};
use super::judge::{Outcome, Verdict};

/// What a fault did is looked for until so long after its end.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// Everything that the report tells of.
pub(super) struct Report<'a> {
    pub(super) seed: u64,
    pub(super) seconds: u64,
    pub(super) clients: usize,
    pub(super) struck: &'a [Struck],
    /// The times since when the service has said that it consumes.
    pub(super) consuming: &'a [Duration],
    pub(super) uploads: &'a [Upload],
    pub(super) verdict: &'a Verdict,
    pub(super) settled: Duration,
    pub(super) gateway_cpu: f64,
    pub(super) not_created: usize,
    /// Programs that ended by themselves and were started again.
    pub(super) own_ends: &'a [String],
    pub(super) left_out: &'a [String],
    pub(super) clips: usize,
    /// What was broken; empty when all is well.
    pub(super) problems: &'a [String],
}

/// Times that clients waited because of one kind of fault.
struct Recovery {
    count: usize,
    gaps: Vec<Duration>,
}

impl Report<'_> {
    fn recoveries(&self) -> BTreeMap<&'static str, Recovery> {
        let mut kinds = BTreeMap::new();
        for one in self.struck {
            let kind =
                kinds.entry(one.fault.kind()).or_insert_with(|| Recovery { count: 0, gaps: Vec::new() });
            kind.count += 1;
            let to = one.to.unwrap_or(one.from) + AFTERWARDS;
            let before = kind.gaps.len();
            kind.gaps.extend(self.uploads.iter().filter_map(|upload| upload.longest_gap(one.from, to)));
            if kind.gaps.len() == before {
                // Nobody outlived it: then it is the time until anybody's chunk was acked again.
                kind.gaps.extend(self.first_ack_after(one.from));
            }
        }
        kinds.values_mut().for_each(|kind| kind.gaps.sort_unstable());
        kinds
    }

    fn first_ack_after(&self, from: Duration) -> Option<Duration> {
        let later = self.uploads.iter().flat_map(|upload| &upload.acks).filter(|ack| **ack > from);
        later.min().map(|ack| *ack - from)
    }

    fn outcomes(&self) -> BTreeMap<String, usize> {
        let mut counted = BTreeMap::new();
        for outcome in &self.verdict.outcomes {
            *counted.entry(name(*outcome)).or_default() += 1;
        }
        counted
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut text = format!("{:<26} {:>6} {:>10} {:>10}\n", "fault", "times", "gap p50 s", "gap max s");
        for (kind, recovery) in self.recoveries() {
            let (p50, max) = (seconds(middle(&recovery.gaps)), seconds(recovery.gaps.last().copied()));
            let _ = writeln!(text, "{kind:<26} {:>6} {p50:>10} {max:>10}", recovery.count);
        }
        let _ = writeln!(text, "\n{:<26} {:>6}", "session", "times");
        for (outcome, count) in self.outcomes() {
            let _ = writeln!(text, "{outcome:<26} {count:>6}");
        }
        let _ = writeln!(
            text,
            "\n{} videos decoded, {} generations replayed, settled in {:.1} s, latest expiry after {:.1} s, \
             gateway at {:.0} % of a processor",
            self.clips,
            self.verdict.replays,
            self.settled.as_secs_f64(),
            Duration::from_millis(self.verdict.latest_expiry_ms).as_secs_f64(),
            self.gateway_cpu * 100.0,
        );
        for end in self.own_ends {
            let _ = writeln!(text, "started again: {end}");
        }
        for fault in self.left_out {
            let _ = writeln!(text, "left out: {fault}");
        }
        for problem in self.problems {
            let _ = writeln!(text, "BROKEN: {problem}");
        }
        text
    }

    /// For everything else.
    pub(super) fn json(&self) -> Value {
        let faults = self.recoveries().into_iter().map(|(kind, recovery)| {
            let gap = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
            let (p50, max) = (gap(middle(&recovery.gaps)), gap(recovery.gaps.last().copied()));
            json!({"kind": kind, "times": recovery.count, "gap_p50_s": p50, "gap_max_s": max})
        });
        let struck = self.struck.iter().map(|one| {
            let to = one.to.map(|to| to.as_secs_f64());
            json!({"from_s": one.from.as_secs_f64(), "to_s": to, "fault": one.fault.describe()})
        });
        json!({
            "seed": self.seed,
            "seconds": self.seconds,
            "clients": self.clients,
            "sessions": self.uploads.len(),
            "outcomes": self.outcomes(),
            "bytes": self.verdict.bytes,
            "videos_decoded": self.clips,
            "generations_replayed": self.verdict.replays,
            "settled_s": self.settled.as_secs_f64(),
            "latest_expiry_s": Duration::from_millis(self.verdict.latest_expiry_ms).as_secs_f64(),
            "gateway_cpu": self.gateway_cpu,
            "videos_not_created": self.not_created,
            "consuming_since_s": self.consuming.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(),
            "programs_started_again": self.own_ends,
            "left_out": self.left_out,
            "faults": faults.collect::<Vec<_>>(),
            "struck": struck.collect::<Vec<_>>(),
            "lost": self.verdict.lost,
            "duplicated": self.verdict.duplicated,
            "hung": self.verdict.hung,
            "problems": self.problems,
        })
    }

    /// Writes the JSON and says where.
    pub(super) fn write(&self) -> anyhow::Result<PathBuf> {
        let folder = folder()?;
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join("report.json");
        let text = serde_json::to_string_pretty(&self.json())?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// The line that everything comes down to, without its first two words.
    pub(super) fn sum(&self) -> String {
        format!(
            "{} sessions, {} faults, {} bytes, {} lost, {} duplicated, {} hung",
            self.uploads.len(),
            self.struck.len(),
            self.verdict.bytes,
            self.verdict.lost.len(),
            self.verdict.duplicated.len(),
            self.verdict.hung.len(),
        )
    }
}

/// `target/chaos`.
pub(super) fn folder() -> anyhow::Result<PathBuf> {
    Ok(workspace::target()?.join("chaos"))
}

fn name(outcome: Outcome) -> String {
    match outcome {
        Outcome::Distributed => "DISTRIBUTED".to_owned(),
        Outcome::Failed => "FAILED by the nemesis".to_owned(),
        Outcome::Cut(reason) => reason.to_owned(),
        Outcome::Wrong => "WRONG".to_owned(),
    }
}

fn middle(sorted: &[Duration]) -> Option<Duration> {
    sorted.get(sorted.len() / 2).copied()
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.2}", time.as_secs_f64()))
}
