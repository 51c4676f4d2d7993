//! From single values to the figures that are reported.

use std::time::Duration;

/// The middle value; the mean of the two in the middle of an even number; 0 of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// How far values lie apart, as a share of their median; 0 of none.
pub(crate) fn spread(values: &[f64]) -> f64 {
    let middle = median(values.iter().copied());
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    if middle > 0.0 { (most - least) / middle } else { 0.0 }
}

/// Times of many, from the shortest to the longest.
pub(crate) struct Times {
    sorted: Vec<u32>,
}

impl Times {
    /// Of microseconds, in any order.
    pub(crate) fn new(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        Times { sorted: micros }
    }

    /// The time, in milliseconds, that a `share` of all do not exceed; 0 of none.
    pub(crate) fn within(&self, share: f64) -> f64 {
        let last = self.sorted.len().saturating_sub(1);
        let at = (last as f64 * share).ceil() as usize;
        self.sorted.get(at.min(last)).map_or(0.0, |&micros| f64::from(micros) / 1_000.0)
    }
}

/// Microseconds for each of `count`.
pub(crate) fn each_us(spent: Duration, count: usize) -> f64 {
    spent.as_secs_f64() * 1e6 / count.max(1) as f64
}

/// Rounded to what is worth telling.
pub(crate) fn rounded(value: f64) -> f64 {
    let digits = if value.abs() >= 100.0 { 1.0 } else { 1_000.0 };
    (value * digits).round() / digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median([]).abs() < 1e-9);
    }

    #[test]
    fn a_spread_is_told_of_the_median() {
        assert!((spread(&[90.0, 100.0, 120.0]) - 0.3).abs() < 1e-9);
    }

    #[test]
    fn shares_of_times() {
        let times = Times::new((1..=1_000).rev().map(|n| n * 1_000).collect());
        assert!((times.within(0.5) - 501.0).abs() < 1e-9);
        assert!((times.within(0.99) - 991.0).abs() < 1e-9);
        assert!((times.within(1.0) - 1_000.0).abs() < 1e-9);
        assert!(Times::new(Vec::new()).within(0.5).abs() < 1e-9);
    }
}
