//! How far it is, on standard error: a bar for people, a line now and then for files.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock;
use crate::domain::ids::Timestamp;

/// Lines come no more often than this.
const LINES: Duration = Duration::from_secs(3);

/// A bar, or lines where nobody watches.
pub(super) struct Progress {
    bar: ProgressBar,
    total: u64,
    from: u64,
    begun: Timestamp,
    told: Timestamp,
    said: String,
}

impl Progress {
    /// Sending `total` bytes, `from` of which are there already.
    pub fn sending(total: i64, from: i64) -> Self {
        let template = "sending [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
        let (total, from) = (total.unsigned_abs(), from.unsigned_abs());
        Self::with(ProgressBar::new(total).with_position(from), template, total, from)
    }

    /// Waiting for the streams.
    pub fn waiting() -> Self {
        Self::with(
            ProgressBar::new_spinner(),
            "{spinner} waiting for the streams, {elapsed} {wide_msg}",
            0,
            0,
        )
    }

    fn with(bar: ProgressBar, template: &str, total: u64, from: u64) -> Self {
        bar.set_draw_target(target(std::io::stderr().is_terminal()));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(150));
        Progress { bar, total, from, begun: clock::now(), told: clock::now(), said: String::new() }
    }

    /// So many bytes are stored.
    pub fn reach(&mut self, stored: i64) {
        let stored = stored.unsigned_abs();
        self.bar.set_position(stored);
        if self.is_time_for_a_line() {
            eprintln!("{}", line(self.total, self.from, stored, self.begun.until(clock::now())));
        }
    }

    /// What it waits for.
    pub fn say(&mut self, what: &str) {
        self.bar.set_message(what.to_owned());
        if self.bar.is_hidden() && self.said != what {
            eprintln!("waiting for the streams: {what}");
            what.clone_into(&mut self.said);
        }
    }

    /// Something that must be seen, whether or not there is a bar.
    pub fn note(&self, what: &str) {
        self.bar.suspend(|| eprintln!("{what}"));
    }

    fn is_time_for_a_line(&mut self) -> bool {
        let now = clock::now();
        let due = self.bar.is_hidden() && self.told.until(now) >= LINES;
        if due {
            self.told = now;
        }
        due
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Bars are for terminals: in a file they would be noise.
fn target(is_terminal: bool) -> ProgressDrawTarget {
    if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

fn line(total: u64, from: u64, stored: u64, elapsed: Duration) -> String {
    let percent = stored.saturating_mul(100) / total.max(1);
    let mut line = format!("sent {} of {} ({percent} %)", HumanBytes(stored), HumanBytes(total));
    let rate = rate(stored.saturating_sub(from), elapsed);
    if let Some(seconds) = total.saturating_sub(stored).checked_div(rate) {
        let left = HumanDuration(Duration::from_secs(seconds));
        line.push_str(&format!(", {}/s, {left} left", HumanBytes(rate)));
    }
    line
}

/// Bytes in a second.
pub(super) fn rate(bytes: u64, elapsed: Duration) -> u64 {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1000) / millis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_share_rate_and_time_left() {
        let mib = 1 << 20;
        assert_eq!(
            line(10 * mib, 2 * mib, 6 * mib, Duration::from_secs(2)),
            "sent 6.00 MiB of 10.00 MiB (60 %), 2.00 MiB/s, 2 seconds left"
        );
        assert_eq!(
            line(10 * mib, 0, 0, Duration::from_secs(9)),
            "sent 0 B of 10.00 MiB (0 %)",
            "without progress nobody knows"
        );
    }

    #[test]
    fn bars_are_off_where_nobody_watches() {
        assert!(target(false).is_hidden());
    }
}
