//! What the janitor of this replica did last, and when it runs next.

use std::time::SystemTime;

use serde::{Serialize, Serializer};

use crate::messages::JanitorReport;

/// The janitor as `/readyz` shows it. Times are RFC 3339, of this host's clock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct JanitorStatus {
    /// Whether it is at work now.
    pub running: bool,
    /// When it runs next, unless it is at work.
    #[serde(serialize_with = "rfc3339")]
    pub next_run_at: Option<SystemTime>,
    /// When a run last ended without an error.
    #[serde(serialize_with = "rfc3339")]
    pub last_success_at: Option<SystemTime>,
    /// The last run; none yet after a start.
    pub last_run: Option<LastRun>,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastRun {
    /// When it ended.
    #[serde(serialize_with = "rfc3339")]
    pub ended_at: Option<SystemTime>,
    /// What it did.
    #[serde(flatten)]
    pub report: JanitorReport,
}

impl JanitorStatus {
    pub(super) fn waits(&mut self, next: SystemTime) {
        (self.running, self.next_run_at) = (false, Some(next));
    }

    pub(super) fn runs(&mut self) {
        (self.running, self.next_run_at) = (true, None);
    }

    pub(super) fn ran(&mut self, report: JanitorReport, ended: SystemTime) {
        self.running = false;
        if report.error.is_none() {
            self.last_success_at = Some(ended);
        }
        self.last_run = Some(LastRun { ended_at: Some(ended), report });
    }
}

fn rfc3339<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| humantime::format_rfc3339_millis(time).to_string()).serialize(serializer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    #[test]
    fn a_failed_run_leaves_the_last_success_as_it_was() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut status = JanitorStatus::default();
        status.runs();
        status.ran(JanitorReport { videos_deleted: 3, ..JanitorReport::default() }, at(10));
        status.waits(at(20));
        status.runs();
        status.ran(JanitorReport { error: Some("away".to_owned()), ..JanitorReport::default() }, at(30));
        status.waits(at(40));
        let shown = serde_json::to_value(&status).unwrap();
        assert_eq!(shown["running"], false);
        assert_eq!(shown["last_success_at"], "1970-01-01T00:00:10.000Z");
        assert_eq!(shown["next_run_at"], "1970-01-01T00:00:40.000Z");
        assert_eq!(shown["last_run"]["ended_at"], "1970-01-01T00:00:30.000Z");
        assert_eq!(shown["last_run"]["error"], "away");
        assert_eq!(shown["last_run"]["duration_ms"], 0);
    }
}
