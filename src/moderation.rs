//! Fewer wake-ups under load, as those by interrupts of a network card are moderated.
//!
//! A delivery, a finished sync, a statement's answer and a confirm each wake the actors' thread when they come. With many
//! chunks under way it would wake, do a little and fall asleep thousands of times a second, each time pushing aside the
//! program that was about to bring it more. So it asks what has come only now and then, and takes all of it. With few
//! chunks each would only be later.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

/// From so many chunks under way on, each of which waits for others anyway.
const MANY: usize = 32;
/// Short beside the milliseconds that each of many chunks is under way.
const INTERVAL: Duration = Duration::from_micros(500);

// Per thread, as the runtime's hook knows nothing but the thread in which it is called.
thread_local! {
    static UNDER_WAY: Cell<usize> = const { Cell::new(0) };
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// So many chunks wait for their answers now. To be called in the actors' thread.
pub fn under_way(chunks: usize) {
    UNDER_WAY.set(chunks);
}

/// What [`under_way`] was last told in this thread.
pub fn chunks() -> usize {
    UNDER_WAY.get()
}

/// To be called before this thread looks for events: with many chunks under way it waits until the last look is
/// half a millisecond ago.
pub fn pause() {
    if chunks() < MANY {
        return;
    }
    if let Some(rest) = LOOKED.get().and_then(|looked| INTERVAL.checked_sub(looked.elapsed())) {
        thread::sleep(rest);
    }
    LOOKED.set(Some(Instant::now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long two looks, one right after the other, take in a thread of their own.
    fn two_looks(chunks: usize) -> Duration {
        let looks = move || {
            under_way(chunks);
            let begun = Instant::now();
            pause();
            pause();
            begun.elapsed()
        };
        thread::spawn(looks).join().unwrap_or_default()
    }

    #[test]
    fn with_many_chunks_under_way_looks_are_an_interval_apart() {
        assert!(two_looks(MANY) >= INTERVAL);
    }

    #[test]
    fn few_chunks_are_not_kept_waiting() {
        // A thread may be held up at any time, but not at each of so many tries.
        assert!((0..100).any(|_| two_looks(MANY - 1) < INTERVAL));
    }

    #[test]
    fn what_one_thread_is_told_is_not_told_to_another() {
        under_way(MANY);
        assert_eq!((chunks(), thread::spawn(chunks).join().ok()), (MANY, Some(0)));
    }
}
