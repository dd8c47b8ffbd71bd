//! Latency histograms of a poll core, and their way to a control thread.
//!
//! The poll core records into a [`Set`] that is its own. Two rings of one slot carry whole sets:
//! the control thread sends an empty one, the poll core swaps it in at its next
//! [`Recorder::publish`] and sends the full one back. Neither waits for the other, nothing is
//! allocated after [`exchange`], and every recorded value is counted exactly once.

use hdrhistogram::Histogram;
use rtrb::{Consumer, Producer, RingBuffer};
use serde::Serialize;

/// Greatest value of a histogram, 60 s in nanoseconds. A greater one counts as this.
pub const MAX_NS: u64 = 60_000_000_000;

/// Significant decimal digits of a reported value. Two keep a histogram at 30 KB, so that four of
/// them fit a core's second-level cache beside its frames.
const DIGITS: u8 = 2;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// From a frame's arrival from the PVM to its release.
    Hold,
    /// Between the arrivals of what the two VMs sent for the same place.
    Skew,
    /// From the moment when a frame may leave to its release.
    Release,
    /// From a divergence to the request for a checkpoint.
    Request,
}

impl Interval {
    /// All intervals, in the order of their values.
    pub const ALL: [Self; 4] = [Self::Hold, Self::Skew, Self::Release, Self::Request];

    /// The word for it; the summary's key is this and `_ns`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Skew => "skew",
            Self::Release => "release",
            Self::Request => "request",
        }
    }

    /// What is measured, in one sentence.
    pub const fn help(self) -> &'static str {
        match self {
            Self::Hold => "From a frame's arrival from the PVM to its release.",
            Self::Skew => "Between the arrivals of what the two VMs sent for the same place.",
            Self::Release => "From the moment when a frame may leave to its release.",
            Self::Request => "From a divergence to the request for a checkpoint.",
        }
    }
}

/// One histogram for each [`Interval`].
#[derive(Clone, Debug)]
pub struct Set {
    histograms: [Histogram<u64>; 4],
}

impl Default for Set {
    fn default() -> Self {
        Self::new()
    }
}

impl Set {
    /// An empty set, with all the memory that it will ever need.
    pub fn new() -> Self {
        Self {
            histograms: std::array::from_fn(|_| histogram()),
        }
    }

    /// Counts a value in nanoseconds.
    #[inline]
    pub fn record(&mut self, interval: Interval, ns: u64) {
        self.histograms[interval as usize].saturating_record(ns);
    }

    /// Counts the same value `times` times, as for a burst that leaves together.
    #[inline]
    pub fn record_times(&mut self, interval: Interval, ns: u64, times: u64) {
        self.histograms[interval as usize].saturating_record_n(ns, times);
    }

    /// Takes in all values of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.histograms.iter_mut().zip(&other.histograms) {
            add(mine, theirs);
        }
    }

    /// Forgets all values and keeps the memory.
    pub fn clear(&mut self) {
        self.histograms.iter_mut().for_each(Histogram::reset);
    }

    /// The figures of one interval.
    pub fn summary(&self, interval: Interval) -> LatencySummary {
        LatencySummary::of(&self.histograms[interval as usize])
    }

    /// The buckets of one interval.
    pub fn buckets(&self, interval: Interval) -> Buckets {
        Buckets::of(&self.histograms[interval as usize])
    }
}

pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_NS, DIGITS).expect("the bounds and digits are valid")
}

fn add(to: &mut Histogram<u64>, from: &Histogram<u64>) {
    to.add(from).expect("histograms of the same bounds");
}

/// Percentiles of a latency in nanoseconds, right to 1 %; all 0 when nothing was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LatencySummary {
    /// The median.
    pub p50: u64,
    /// 90 of 100 are not greater.
    pub p90: u64,
    /// 99 of 100 are not greater.
    pub p99: u64,
    /// 999 of 1000 are not greater.
    pub p999: u64,
    /// None is greater.
    pub max: u64,
    /// How many were recorded.
    pub count: u64,
}

impl LatencySummary {
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        // The bucket of the top value reaches beyond the bound.
        let quantile = |q| histogram.value_at_quantile(q).min(MAX_NS);
        Self {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: histogram.max().min(MAX_NS),
            count: histogram.len(),
        }
    }
}

/// Upper bounds of the [`Buckets`] in nanoseconds, the last one aside, which has none.
pub const BOUNDS: [u64; 26] = {
    const STEPS: [u64; 3] = [1, 2, 5];
    let mut bounds = [0; 26];
    // From 200 ns to 50 s.
    let (mut at, mut step, mut decade) = (0, 1, 100);
    while at < bounds.len() {
        bounds[at] = STEPS[step] * decade;
        at += 1;
        step += 1;
        if step == STEPS.len() {
            (step, decade) = (0, 10 * decade);
        }
    }
    bounds
};

/// A latency as a histogram of few buckets, right to 1 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    /// Values that are not greater than each of [`BOUNDS`].
    pub counts: [u64; BOUNDS.len()],
    /// All values.
    pub count: u64,
    /// Their sum in nanoseconds; one over [`MAX_NS`] is in it as that.
    pub sum: u64,
}

impl Buckets {
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        let mut buckets = Self::default();
        let mut at = 0;
        for seen in histogram.iter_recorded() {
            let value = seen.value_iterated_to();
            // A value at a bound shares its place with some behind it.
            let least = histogram.lowest_equivalent(value);
            while at < BOUNDS.len() && BOUNDS[at] < least {
                buckets.counts[at] = buckets.count;
                at += 1;
            }
            let count = seen.count_at_value();
            buckets.count += count;
            let middle = histogram.median_equivalent(value).min(MAX_NS);
            buckets.sum = buckets.sum.saturating_add(middle.saturating_mul(count));
        }
        buckets.counts[at..].fill(buckets.count);
        buckets
    }
}

/// Makes the poll core's and the control thread's ends of one exchange.
pub fn exchange() -> (Recorder, Reader) {
    let (empties_in, empties_out) = RingBuffer::new(1);
    let (fulls_in, fulls_out) = RingBuffer::new(1);
    let recorder = Recorder {
        current: Box::new(Set::new()),
        empties: empties_out,
        fulls: fulls_in,
    };
    let reader = Reader {
        total: Set::new(),
        spare: Some(Box::new(Set::new())),
        empties: empties_in,
        fulls: fulls_out,
    };
    (recorder, reader)
}

/// The poll core's end.
pub struct Recorder {
    current: Box<Set>,
    empties: Consumer<Box<Set>>,
    fulls: Producer<Box<Set>>,
}

impl Recorder {
    /// Counts a value in nanoseconds.
    #[inline]
    pub fn record(&mut self, interval: Interval, ns: u64) {
        self.current.record(interval, ns);
    }

    /// Counts the same value `times` times.
    #[inline]
    pub fn record_times(&mut self, interval: Interval, ns: u64, times: u64) {
        self.current.record_times(interval, ns, times);
    }

    /// Hands over the recorded values if the control thread has asked, which otherwise costs one load. A poll core
    /// calls it once in some rounds.
    #[inline]
    pub fn publish(&mut self) {
        if let Ok(empty) = self.empties.pop() {
            let full = std::mem::replace(&mut self.current, empty);
            if let Err(rtrb::PushError::Full(full)) = self.fulls.push(full) {
                // Only one set is ever on its way, so the slot is free; were it not, going on with
                // the full set would lose no value.
                self.current = full;
            }
        }
    }
}

/// The control thread's end, and the total of what came through it.
pub struct Reader {
    total: Set,
    /// The set that is not on its way.
    spare: Option<Box<Set>>,
    empties: Producer<Box<Set>>,
    fulls: Consumer<Box<Set>>,
}

impl Reader {
    /// Takes in what the poll core has handed over since the last call, and asks for more. A value
    /// shows up in the total at the second call after it was recorded.
    pub fn collect(&mut self) {
        self.take_in();
        if let Some(empty) = self.spare.take()
            && let Err(rtrb::PushError::Full(empty)) = self.empties.push(empty)
        {
            self.spare = Some(empty);
        }
    }

    /// Takes in everything: what is on its way, and what `recorder` still holds, once its poll core
    /// has ended.
    pub fn finish(&mut self, recorder: &mut Recorder) {
        self.take_in();
        self.total.merge(&recorder.current);
        recorder.current.clear();
    }

    /// All that came through.
    pub fn total(&self) -> &Set {
        &self.total
    }

    fn take_in(&mut self) {
        if let Ok(mut full) = self.fulls.pop() {
            self.total.merge(&full);
            full.clear();
            self.spare = Some(full);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn percentiles_are_right_to_one_percent() {
        let mut set = Set::new();
        for us in 1..=1000 {
            set.record(Interval::Hold, us * 1000);
        }
        let found = set.summary(Interval::Hold);
        assert_eq!(found.count, 1000);
        for (value, exact) in [
            (found.p50, 500_000),
            (found.p90, 900_000),
            (found.p99, 990_000),
            (found.p999, 999_000),
            (found.max, 1_000_000),
        ] {
            assert!(value.abs_diff(exact) * 100 <= exact, "{value} for {exact}");
        }
        assert_eq!(set.summary(Interval::Skew), LatencySummary::default());
    }

    #[test]
    fn a_bucket_has_what_is_not_greater_than_its_bound() {
        assert_eq!((BOUNDS[0], BOUNDS[25]), (200, 50_000_000_000));
        let mut set = Set::new();
        assert_eq!(set.buckets(Interval::Hold), Buckets::default());
        for (at, bound) in BOUNDS.into_iter().enumerate() {
            set.record(Interval::Hold, bound);
            set.record_times(Interval::Hold, bound * 11 / 10, 2);
            let found = set.buckets(Interval::Hold);
            let all = 3 * (at as u64 + 1);
            assert_eq!(found.count, all, "{bound}");
            assert_eq!(found.counts[at], all - 2, "{bound}");
        }
        set.record(Interval::Hold, u64::MAX);
        let found = set.buckets(Interval::Hold);
        assert_eq!(found.count - found.counts[25], 3);
        let exact: u64 = BOUNDS.iter().map(|bound| bound * 32 / 10).sum::<u64>() + MAX_NS;
        assert!(
            found.sum.abs_diff(exact) * 100 <= exact,
            "{found:?}, {exact}"
        );
    }

    #[test]
    fn values_beyond_the_bounds_saturate() {
        let mut set = Set::new();
        set.record(Interval::Skew, 0);
        set.record(Interval::Skew, u64::MAX);
        set.record_times(Interval::Skew, MAX_NS + 1, 3);
        let found = set.summary(Interval::Skew);
        assert_eq!((found.max, found.p99, found.count), (MAX_NS, MAX_NS, 5));
    }

    #[test]
    fn a_set_stays_small() {
        let bytes: usize = Set::new()
            .histograms
            .iter()
            .map(|histogram| histogram.distinct_values() * size_of::<u64>())
            .sum();
        assert!(bytes <= 128 << 10, "{bytes}");
    }

    #[test]
    fn no_value_is_lost_or_counted_twice_while_both_ends_run() {
        let (mut recorder, mut reader) = exchange();
        let stop = AtomicBool::new(false);
        let (mut recorder, recorded) = std::thread::scope(|scope| {
            let poller = scope.spawn(|| {
                let mut recorded = 0;
                while !stop.load(Ordering::Relaxed) {
                    recorder.record(Interval::Hold, recorded % 1000);
                    recorded += 1;
                    recorder.publish();
                }
                (recorder, recorded)
            });
            let mut exchanges = 0;
            while exchanges < 50 {
                let before = reader.total().summary(Interval::Hold).count;
                reader.collect();
                exchanges += u64::from(reader.total().summary(Interval::Hold).count > before);
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
            poller.join().expect("the poll core's thread")
        });
        reader.finish(&mut recorder);
        assert_eq!(reader.total().summary(Interval::Hold).count, recorded);
    }

    #[test]
    fn the_end_brings_in_what_is_on_its_way() {
        let (mut recorder, mut reader) = exchange();
        reader.collect();
        recorder.record(Interval::Request, 10);
        recorder.publish();
        recorder.record(Interval::Request, 20);
        reader.finish(&mut recorder);
        reader.finish(&mut recorder);
        assert_eq!(reader.total().summary(Interval::Request).count, 2);
    }
}
