//! Writes to a metric's series. A series' handle is looked up once in a thread: a chunk writes a score of them, and looking one
//! up by its name and labels costs more than writing it. A thread that is ending writes nothing any more.

use std::cell::RefCell;

use metrics::{Counter, Gauge, Histogram, IntoF64, Label, counter, gauge, histogram};

use super::EXPOSITION;
use super::definitions::Metric;

thread_local! {
    static COUNTERS: Known<Counter> = const { Known::new() };
    static GAUGES: Known<Gauge> = const { Known::new() };
    static HISTOGRAMS: Known<Histogram> = const { Known::new() };
}

/// Values of labels stand in the order of the metric's definition.
impl Metric {
    /// A counter grows.
    pub(super) fn add<const N: usize>(&self, values: [&'static str; N], many: u64) {
        let find = |labels| counter!(self.name, labels);
        let _ = COUNTERS.try_with(|known| known.write(self, values, find, |counter| counter.increment(many)));
    }

    /// A gauge is what is said.
    pub(super) fn set<const N: usize>(&self, values: [&'static str; N], value: f64) {
        let find = |labels| gauge!(self.name, labels);
        let _ = GAUGES.try_with(|known| known.write(self, values, find, |gauge| gauge.set(value)));
    }

    /// A gauge grows, or shrinks by what is less than nothing.
    pub(super) fn change<const N: usize>(&self, values: [&'static str; N], by: f64) {
        let find = |labels| gauge!(self.name, labels);
        let _ = GAUGES.try_with(|known| known.write(self, values, find, |gauge| gauge.increment(by)));
    }

    /// A histogram has one more sample.
    pub(super) fn observe<const N: usize>(&self, values: [&'static str; N], sample: impl IntoF64) {
        let find = |labels| histogram!(self.name, labels);
        let record = |histogram: &Histogram| histogram.record(sample);
        let _ = HISTOGRAMS.try_with(|known| known.write(self, values, find, record));
    }
}

/// A metric's name and its labels' values by where they lie. The same word at another address takes one more entry, for the
/// same series.
#[derive(PartialEq, Eq)]
struct Place([*const str; 3]);

impl Place {
    fn of<const N: usize>(metric: &Metric, values: [&'static str; N]) -> Self {
        let mut values = values.into_iter();
        Place([metric.name, values.next().unwrap_or_default(), values.next().unwrap_or_default()])
    }
}

/// The series that this thread has written to: as many as there are metrics and words for their labels.
struct Known<H>(RefCell<Vec<(Place, H)>>);

impl<H> Known<H> {
    const fn new() -> Self {
        Known(RefCell::new(Vec::new()))
    }

    /// Before anything is exported nothing is written, and nothing remembered.
    fn write<const N: usize>(
        &self,
        metric: &Metric,
        values: [&'static str; N],
        find: impl FnOnce(Vec<Label>) -> H,
        write: impl FnOnce(&H),
    ) {
        const { assert!(N <= 2, "a place has room for two values") };
        if EXPOSITION.get().is_none() {
            return;
        }
        let place = Place::of(metric, values);
        let mut known = self.0.borrow_mut();
        if let Some((_, handle)) = known.iter().find(|(other, _)| *other == place) {
            return write(handle);
        }
        debug_assert_eq!(metric.labels.len(), N, "{}", metric.name);
        let labels =
            metric.labels.iter().zip(values).map(|(name, value)| Label::from_static_parts(name, value));
        let handle = find(labels.collect());
        write(&handle);
        known.push((place, handle));
    }
}
