//! Fewer wake-ups under load, as those by interrupts of a network card are moderated.
//!
//! A delivery, a finished sync, a statement's answer and a confirm each wake the actors' thread when they come. With many
//! chunks under way it would wake, do a little and fall asleep thousands of times a second, each time pushing aside the
//! program that was about to bring it more. So it waits a moment, once out of work, before it asks what has come, and
//! takes all of it. With few chunks each would only be later.

use std::cell::Cell;
use std::thread;
use std::time::Duration;

/// From so many chunks under way on, each of which waits for others anyway.
const MANY: usize = 32;
/// Short beside the milliseconds that each of many chunks is under way.
const PAUSE: Duration = Duration::from_micros(500);

thread_local! {
    /// Per thread, as the runtime's hook knows nothing but the thread in which it is called.
    static UNDER_WAY: Cell<usize> = const { Cell::new(0) };
}

/// So many chunks wait for their answers now. To be called in the actors' thread.
pub fn under_way(chunks: usize) {
    UNDER_WAY.set(chunks);
}

/// What [`under_way`] was last told in this thread.
pub fn chunks() -> usize {
    UNDER_WAY.get()
}

/// Waits a moment if many chunks are under way. To be called when this thread is out of work.
pub fn pause() {
    if let Some(pause) = pause_with(chunks()) {
        thread::sleep(pause);
    }
}

fn pause_with(chunks: usize) -> Option<Duration> {
    (chunks >= MANY).then_some(PAUSE)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn few_chunks_are_not_kept_waiting() {
        assert_eq!(pause_with(0), None);
        assert_eq!(pause_with(MANY - 1), None);
        assert_eq!(pause_with(MANY), Some(PAUSE));
    }

    #[test]
    fn what_one_thread_is_told_makes_it_wait_and_no_other() {
        under_way(MANY);
        let begun = Instant::now();
        pause();
        assert!(begun.elapsed() >= PAUSE);
        assert!(matches!(thread::spawn(chunks).join(), Ok(0)));
    }
}
