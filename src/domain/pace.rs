//! How much goes into one transaction, so that none takes long: what a row costs depends on tables that grow.

use std::time::Duration;

/// A transaction should take less; the next one is half as large when it did not, unless that does not make it shorter.
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
    /// Size and time of the last one that did what it should.
    last: Option<(usize, Duration)>,
}

impl Pace {
    /// Between `least` and `most` rows, at least one. What each transaction costs whatever its size is a reason for
    /// a higher `least`.
    pub fn new(least: usize, most: usize) -> Self {
        let most = most.max(1);
        Pace { size: most.min(FIRST), least: least.clamp(1, most), most, last: None }
    }

    /// Rows of the next transaction.
    pub fn size(self) -> usize {
        self.size
    }

    /// One with so many rows took so long. Of fewer than [`Pace::size`], a page's last ones, nothing can be told.
    pub fn took(&mut self, rows: usize, time: Duration) {
        if rows < self.size {
            return;
        }
        let size_matters = self.size_matters(time);
        self.last = Some((self.size, time));
        if time > LONG && size_matters {
            self.size = (self.size / 2).max(self.least);
        } else if time < SHORT || time > LONG {
            self.size = (self.size * 2).min(self.most);
        }
    }

    /// One failed; how long that took says only how long somebody waited.
    pub fn failed(&mut self) {
        (self.size, self.last) = ((self.size / 2).max(self.least), None);
    }

    /// Whether a smaller one is shorter, as far as the last two tell. On a machine that has too much to do every statement
    /// takes long, however few rows it is for: then small transactions only make it more of them.
    fn size_matters(self, time: Duration) -> bool {
        match self.last {
            Some((size, before)) if self.size < size => time < before * 3 / 4,
            Some((size, before)) if self.size > size => time > before * 3 / 2,
            Some(_) => self.size > self.least,
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes in turn, where each transaction takes what `cost` says, in milliseconds.
    fn sizes(mut pace: Pace, count: usize, cost: impl Fn(u64) -> u64) -> Vec<usize> {
        let next = |_| {
            let size = pace.size();
            pace.took(size, Duration::from_millis(cost(size as u64)));
            size
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn transactions_grow_while_they_are_short() {
        assert_eq!(sizes(Pace::new(1, 100), 5, |_| 10), [20, 40, 80, 100, 100]);
        assert_eq!(sizes(Pace::new(1, 100), 4, |rows| 2 * rows), [20, 40, 40, 40], "80 to 200 ms are well");
    }

    #[test]
    fn transactions_shrink_when_their_rows_make_them_long() {
        assert_eq!(sizes(Pace::new(1, 100), 5, |rows| 30 * rows), [20, 10, 5, 5, 5]);
        let beyond = sizes(Pace::new(1, 100), 40, |rows| 1000 * rows);
        assert_eq!(beyond[..5], [20, 10, 5, 2, 1]);
        assert!(beyond[5..].iter().all(|rows| *rows <= 2), "{beyond:?}");
    }

    #[test]
    fn transactions_that_are_long_whatever_their_size_do_not_become_more() {
        let all = sizes(Pace::new(10, 100), 40, |rows| 700 + rows);
        assert!(all.iter().sum::<usize>() > 40 * 60, "{all:?}");
    }

    #[test]
    fn neither_failures_nor_a_few_rows_tell_what_size_costs() {
        let mut pace = Pace::new(10, 100);
        pace.took(3, Duration::from_secs(1));
        assert_eq!(pace.size(), 20);
        for _ in 0..3 {
            pace.failed();
            assert_eq!(pace.size(), 10);
        }
        pace.took(10, Duration::from_millis(150));
        assert_eq!(pace.size(), 10);
    }

    #[test]
    fn a_pace_stays_within_its_bounds() {
        let mut pace = Pace::new(10, 15);
        assert_eq!(pace.size(), 15);
        pace.took(15, Duration::from_secs(1));
        assert_eq!(pace.size(), 10);
        assert_eq!(Pace::new(10, 0).size(), 1);
    }
}
