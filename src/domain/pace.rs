//! How much goes into one transaction, so that none takes long: what a row costs depends on tables that grow.

use std::time::Duration;

/// A transaction should take less; the next one is half as large when it did not.
const LONG: Duration = Duration::from_millis(200);
/// After one that took less the next one may be twice as large.
const SHORT: Duration = Duration::from_millis(80);
/// Rows of the first transaction, at most.
const FIRST: usize = 20;

/// The size of the next transaction.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    size: usize,
    least: usize,
    most: usize,
}

impl Pace {
    /// Between `least` and `most` rows, at least one. What each transaction costs whatever its size is a reason for
    /// a higher `least`.
    pub fn new(least: usize, most: usize) -> Self {
        let most = most.max(1);
        Pace { size: most.min(FIRST), least: least.clamp(1, most), most }
    }

    /// Rows of the next transaction.
    pub fn size(self) -> usize {
        self.size
    }

    /// The last one took so long.
    pub fn took(&mut self, time: Duration) {
        if time > LONG {
            self.size = (self.size / 2).max(self.least);
        } else if time < SHORT {
            self.size = (self.size * 2).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_grow_while_they_are_short_and_shrink_when_they_are_long() {
        let mut pace = Pace::new(1, 100);
        let mut after = |millis: u64| {
            pace.took(Duration::from_millis(millis));
            pace.size()
        };
        assert_eq!([after(10), after(10), after(10), after(10)], [40, 80, 100, 100]);
        assert_eq!([after(100), after(300), after(300)], [100, 50, 25]);
        assert_eq!([after(900), after(900), after(900), after(900), after(900)], [12, 6, 3, 1, 1]);
    }

    #[test]
    fn a_pace_stays_within_its_bounds() {
        let mut pace = Pace::new(10, 15);
        assert_eq!(pace.size(), 15);
        pace.took(Duration::from_secs(1));
        assert_eq!(pace.size(), 10);
        assert_eq!(Pace::new(10, 0).size(), 1);
    }
}
