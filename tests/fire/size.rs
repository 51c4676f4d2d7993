//! How large a run is.

use std::time::Duration;

/// One of two values: the one that suits every change, or the full one of `FIRE=full`.
pub fn pick<T>(brief: T, full: T) -> T {
    if std::env::var("FIRE").is_ok_and(|size| size == "full") { full } else { brief }
}

/// Settings that make a brief run's outages as long, measured by them, as the full ones are by the defaults.
pub fn settings(brief: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    pick(brief.to_vec(), Vec::new())
}

/// A lease that ends within a brief outage, and a finish that is waited for as much shorter when its owner died.
pub const SHORT_LEASE: [(&str, &str); 3] =
    [("UPLOADER_LEASE", "3s"), ("UPLOADER_REPLICA_HEARTBEAT", "1s"), ("UPLOADER_FINISH_GRACE", "30s")];

/// An owner that dies between writing a finish down and asking for it leaves it to be waited for: five minutes by default.
pub const AFTER_A_DEATH: Duration = Duration::from_secs(420);
