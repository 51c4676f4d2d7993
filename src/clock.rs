//! The process's monotonic clock, as the domain counts it.

use std::cell::Cell;
use std::sync::OnceLock;

use tokio::time::Instant;

use crate::domain::ids::Timestamp;

thread_local! {
    /// Where this thread counts from instead, if somebody said so.
    static BEGINNING: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Milliseconds since this process first asked. Follows tokio's clock, so a test that stops time stops it here too.
pub fn now() -> Timestamp {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let origin = BEGINNING.get().unwrap_or_else(|| *ORIGIN.get_or_init(Instant::now));
    Timestamp(Instant::now().saturating_duration_since(origin).as_millis() as u64)
}

/// From now on this thread counts from this moment: a simulated world begins at 0 each time it is played.
#[doc(hidden)]
pub fn begin() {
    BEGINNING.set(Some(Instant::now()));
}
