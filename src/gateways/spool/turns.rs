//! How much is on its way to the volume at once.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes on their way at once. Syncs that overlap end together, and so do the transactions and answers that follow them: with
/// much more than this, volume and processors wait for each other in turn (docs/decisions/0019).
const AT_ONCE: usize = 8 << 20;
/// What one permit stands for.
const UNIT: usize = 1 << 10;

/// Turns for appends, in the order in which they were asked for.
#[derive(Debug)]
pub(super) struct Turns(Semaphore);

impl Turns {
    /// Nothing is on its way.
    pub fn new() -> Self {
        Turns(Semaphore::new(AT_ONCE / UNIT))
    }

    /// Waits until `bytes` more may be on their way; more than all that may be go alone. There always are
    /// turns again, so this never ends in `None`.
    pub async fn take(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let units = bytes.div_ceil(UNIT).min(AT_ONCE / UNIT);
        self.0.acquire_many(u32::try_from(units).ok()?).await.ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::FutureExt;

    use super::*;

    fn at_once(bytes: usize) -> usize {
        let turns = Turns::new();
        let had: Vec<_> = (0..1000).map_while(|_| turns.take(bytes).now_or_never()).collect();
        had.len()
    }

    #[test]
    fn large_chunks_go_some_at_a_time_and_small_ones_all() {
        assert_eq!(at_once(1 << 20), 8);
        assert_eq!(at_once(8 << 10), 1000, "more than are ever in flight");
        assert_eq!(at_once(100 << 20), 1, "larger than everything that may be on its way");
    }

    #[test]
    fn whoever_waits_comes_next() {
        let turns = Turns::new();
        let first = turns.take(AT_ONCE).now_or_never().unwrap();
        let mut second = Box::pin(turns.take(AT_ONCE));
        assert!((&mut second).now_or_never().is_none());
        assert!(turns.take(1).now_or_never().is_none());
        drop(first);
        let second = second.now_or_never();
        assert!(second.is_some());
        assert!(turns.take(1).now_or_never().is_none());
    }
}
