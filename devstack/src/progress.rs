//! Progress on standard error: bars for people, lines for files.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// One long step; tells when it begins and when it is done. One that is dropped before has failed.
pub(crate) struct Step {
    bar: ProgressBar,
    what: &'static str,
    begun: Instant,
}

impl Step {
    /// A step of unknown length.
    pub(crate) fn spin(what: &'static str) -> Self {
        Self::with(ProgressBar::new_spinner(), what, "{spinner} {prefix:<22} {elapsed_precise} {wide_msg}")
    }

    /// A step of `length` equal parts.
    pub(crate) fn parts(what: &'static str, length: u64) -> Self {
        let template = "{spinner} {prefix:<22} {elapsed_precise} [{bar:30}] {pos}/{len} {wide_msg}";
        Self::with(ProgressBar::new(length), what, template)
    }

    /// A step of `length` bytes.
    pub(crate) fn bytes(what: &'static str, length: u64) -> Self {
        let template = "{spinner} {prefix:<22} {elapsed_precise} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
        Self::with(ProgressBar::new(length), what, template)
    }

    fn with(bar: ProgressBar, what: &'static str, template: &str) -> Self {
        bar.set_draw_target(target(std::io::stderr().is_terminal()));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what);
        bar.enable_steady_tick(Duration::from_millis(150));
        if bar.is_hidden() {
            eprintln!("{what} ...");
        }
        Self { bar, what, begun: Instant::now() }
    }

    /// Moves the bar to `position`.
    pub(crate) fn reach(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// One part more, of which `message` tells.
    pub(crate) fn part(&self, message: &str) {
        self.bar.inc(1);
        self.say(message);
    }

    /// Shows `message` beside the bar.
    pub(crate) fn say(&self, message: &str) {
        self.bar.set_message(message.to_owned());
    }

    /// Ends the step well.
    pub(crate) fn done(self, result: &str) {
        self.bar.finish_and_clear();
        eprintln!("{:<22} {:>6.1} s  {result}", self.what, self.begun.elapsed().as_secs_f64());
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Bars are for terminals: in a file they would be noise.
fn target(is_terminal: bool) -> ProgressDrawTarget {
    if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_off_where_nobody_watches() {
        assert!(target(false).is_hidden());
    }
}
