//! The verdict: each upload against what the service, fflow and the nemesis say of it. Pure, so that tests can show
//! that every check can fail.

use std::collections::HashMap;
use std::time::Duration;

use peers::recording::RecordedFlow;

use super::chronicle::{Content, End, Struck, Upload, noise};
use super::database::{Row, Truth};
use super::explain;

/// Strikes after which a session is given up.
const STRIKES: usize = 3;

/// How an upload came out, in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Outcome {
    Distributed,
    /// Given up for what the nemesis did to its generations.
    Failed,
    /// Ended early for its client, by a fault that is named; expired and cleaned.
    Cut(&'static str),
    /// A promise was broken.
    Wrong,
}

/// What came of everything.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) outcomes: Vec<Outcome>,
    /// Acked bytes that did not become a video, or not all of them.
    pub(super) lost: Vec<String>,
    /// Bytes that an ffmpeg got which it should not have got, or not there.
    pub(super) duplicated: Vec<String>,
    /// What did not end, or without any reason.
    pub(super) hung: Vec<String>,
    /// Bytes of the files that were distributed.
    pub(super) bytes: u64,
    /// Generations beyond the first, of all sessions.
    pub(super) replays: u64,
    /// The longest time from a cut upload's last activity to its expiry, in milliseconds.
    pub(super) latest_expiry_ms: u64,
}

/// What an upload is judged by.
pub(super) struct Evidence<'a> {
    pub(super) uploads: &'a [Upload],
    pub(super) truth: &'a Truth,
    pub(super) flows: &'a [RecordedFlow],
    pub(super) struck: &'a [Struck],
    /// The times since when the service has said that it consumes.
    pub(super) consuming: &'a [Duration],
}

/// Judges every upload.
pub(super) fn judge(evidence: &Evidence<'_>) -> Verdict {
    let mut by_session: HashMap<&str, Vec<&RecordedFlow>> = HashMap::new();
    for flow in evidence.flows {
        by_session.entry(flow.name.split('~').next().unwrap_or_default()).or_default().push(flow);
    }
    let mut verdict = Verdict::default();
    for upload in evidence.uploads {
        let flows = by_session.remove(upload.session.as_str()).unwrap_or_default();
        let outcome = one(evidence, upload, &flows, &mut verdict);
        verdict.outcomes.push(outcome);
    }
    for (session, flows) in by_session {
        // The greedy uploads of the nemesis never send enough for a flow.
        verdict.duplicated.push(format!("{session}: {} flows of a session that no client has", flows.len()));
    }
    verdict
}

fn one(evidence: &Evidence<'_>, upload: &Upload, flows: &[&RecordedFlow], verdict: &mut Verdict) -> Outcome {
    let wrongly_fed = wrongly_fed(upload, flows);
    let mut outcome = match &upload.end {
        None => {
            verdict.hung.push(format!("{}: its client still waits", upload.session));
            Outcome::Wrong
        }
        Some(End::Whole) => whole(evidence, upload, flows, verdict),
        Some(End::Broken { .. }) => broken(evidence, upload, flows, verdict),
    };
    if !wrongly_fed.is_empty() {
        verdict.duplicated.extend(wrongly_fed);
        outcome = Outcome::Wrong;
    }
    outcome
}

/// An upload whose last byte was acked.
fn whole(
    evidence: &Evidence<'_>,
    upload: &Upload,
    flows: &[&RecordedFlow],
    verdict: &mut Verdict,
) -> Outcome {
    let row = evidence.truth.sessions.get(&upload.session).cloned().unwrap_or_default();
    verdict.replays += row.generation.saturating_sub(1);
    let statuses = evidence.truth.flows.get(&upload.flow);
    let statuses = statuses.map_or(("gone", "gone"), |(flow, video)| (flow.as_str(), video.as_str()));
    let complaint = match (row.state.as_str(), statuses) {
        ("DONE", ("DISTRIBUTED", "DISTRIBUTED")) => {
            let finished = flows.iter().any(|flow| flow.finished && flow.bytes == upload.total);
            if finished || upload.content == Content::Clip {
                verdict.bytes += upload.total;
                return Outcome::Distributed;
            }
            "DISTRIBUTED, but no finished generation got every byte".to_owned()
        }
        ("FAILED", ("HIDDEN", "BLOCKED")) if failure_is_explained(evidence, upload, flows) => {
            return Outcome::Failed;
        }
        (state, (flow, video)) => {
            format!("acked to its last byte, but {state}, flow {flow}, video {video}: {}", row.last_error)
        }
    };
    verdict.lost.push(format!("{}: {complaint}", upload.session));
    Outcome::Wrong
}

/// An upload that ended early for its client.
fn broken(
    evidence: &Evidence<'_>,
    upload: &Upload,
    flows: &[&RecordedFlow],
    verdict: &mut Verdict,
) -> Outcome {
    let none = Row::default();
    let row = evidence.truth.sessions.get(&upload.session).unwrap_or(&none);
    // Also an upload that goes on, or waits to expire, is fed, and may be given up.
    if row.state == "FAILED" && row.committed >= upload.acked && failure_is_explained(evidence, upload, flows)
    {
        return Outcome::Failed;
    }
    let Some(reason) = explain::broken(upload, evidence.struck) else {
        verdict.hung.push(format!("{}: nothing explains {:?}", upload.session, upload.end));
        return Outcome::Wrong;
    };
    // The answer to the last chunk may be what was cut: then the file is whole without its client knowing.
    let expected = if row.committed == upload.total { ["DONE", "FAILED"] } else { ["EXPIRED", "EXPIRED"] };
    if !expected.contains(&row.state.as_str()) {
        verdict
            .hung
            .push(format!("{}: {reason}, but {:?} and not {}", upload.session, row.state, expected[0]));
        return Outcome::Wrong;
    }
    if row.committed < upload.acked {
        let told = format!("{}: {} bytes acked, {} stored", upload.session, upload.acked, row.committed);
        verdict.lost.push(told);
        return Outcome::Wrong;
    }
    if row.state == "EXPIRED" {
        verdict.latest_expiry_ms = verdict.latest_expiry_ms.max(row.outlived_ms);
        let outlived = Duration::from_millis(row.outlived_ms);
        if let Some(late) = explain::late_expiry(upload, outlived, evidence.consuming, evidence.struck) {
            let told =
                format!("{}: expired {outlived:.1?} after its last chunk, {late:.1?} late", upload.session);
            verdict.hung.push(told);
            return Outcome::Wrong;
        }
    }
    Outcome::Cut(reason)
}

/// Every generation got a beginning of the file, in order, each byte once; a finished one got all of it.
fn wrongly_fed(upload: &Upload, flows: &[&RecordedFlow]) -> Vec<String> {
    let Content::Noise(seed) = upload.content else { return Vec::new() };
    let file = noise(seed, upload.total);
    let mut wrong = Vec::new();
    let mut names: Vec<_> = flows.iter().map(|flow| flow.name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        wrong.push(format!("{}: a name was created twice", upload.session));
    }
    let sha256 = sha256(&file);
    for flow in flows {
        let begins = flow.body.as_ref().is_some_and(|body| file.starts_with(body));
        if !begins {
            wrong.push(format!("{}: {} bytes that do not begin the file", flow.name, flow.bytes));
        }
        if flow.concurrent_pushes_seen {
            wrong.push(format!("{}: two pushes at once", flow.name));
        }
        if flow.finished && flow.sha256 != sha256 {
            wrong.push(format!(
                "{}: finished with {} of {} bytes, SHA-256 {} is not the file's",
                flow.name, flow.bytes, upload.total, flow.sha256
            ));
        }
    }
    wrong
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The nemesis hit at least as many generations as it takes to be given up.
fn failure_is_explained(evidence: &Evidence<'_>, upload: &Upload, flows: &[&RecordedFlow]) -> bool {
    let unfinished = flows.iter().filter(|flow| !flow.finished).count();
    let (from, slack) = (upload.begun, Duration::MAX);
    let strikes_at_fflow = |struck: &&Struck| {
        ["fflow replica killed", "ffmpeg killed", "fflow answers wrongly", "connections cut"]
            .contains(&struck.fault.kind())
            && struck.meets(from, slack, Duration::ZERO)
    };
    match upload.content {
        Content::Noise(_) => unfinished >= STRIKES,
        Content::Clip => evidence.struck.iter().filter(strikes_at_fflow).count() >= STRIKES,
    }
}

#[cfg(test)]
mod tests;
