//! The process's monotonic clock, as the domain counts it.

use std::sync::OnceLock;

use tokio::time::Instant;

use crate::domain::ids::Timestamp;

/// Milliseconds since this process first asked. Follows tokio's clock, so a test that stops time stops it here too.
pub fn now() -> Timestamp {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = *ORIGIN.get_or_init(Instant::now);
    Timestamp(Instant::now().saturating_duration_since(origin).as_millis() as u64)
}
