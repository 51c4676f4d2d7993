//! When to try again.

use std::time::Duration;

/// Exponential backoff with jitter, between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait, and the least.
    pub min: Duration,
    /// No wait is longer.
    pub max: Duration,
}

impl Backoff {
    /// The wait before attempt `attempt` (0 is the first repetition). `chance` in 0..1 spreads replicas that failed
    /// together over the upper half of the wait.
    pub fn wait(&self, attempt: u32, chance: f64) -> Duration {
        let doubled = self.min.saturating_mul(1u32.checked_shl(attempt.min(20)).unwrap_or(u32::MAX));
        let full = doubled.min(self.max);
        full.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0).max(self.min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_never_leave_the_bounds() {
        let backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(30) };
        for attempt in 0..100 {
            for chance in [0.0, 0.5, 1.0, 7.0] {
                let wait = backoff.wait(attempt, chance);
                assert!(wait >= backoff.min && wait <= backoff.max);
            }
        }
        assert_eq!(backoff.wait(0, 1.0), backoff.min);
        assert_eq!(backoff.wait(50, 1.0), backoff.max);
    }
}
