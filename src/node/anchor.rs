//! Converts times of the TSC, which stamps events of a poll core, to `CLOCK_MONOTONIC`, which all processes of a host
//! share.
//!
//! Two nodes' records are put in order by these times. So the error must be below a frame's transit time between the
//! nodes.

use super::clock::Clock;
use crate::frame::Ticks;

/// Limit of the reads of both clocks.
const TRIES: usize = 8;
/// Between two reads of the TSC that are as close as this the thread has not lost its CPU.
const CLOSE_NS: u64 = 1_000;

/// A moment, read on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    ticks: Ticks,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub ns: u64,
}

impl Anchor {
    /// Reads both clocks. If the thread lost its CPU between two reads, every time would be shifted by that pause. So
    /// the TSC is read before and after, and the closest of some tries counts.
    pub(crate) fn take(
        clock: Clock,
        mut ticks: impl FnMut() -> Ticks,
        mut ns: impl FnMut() -> u64,
    ) -> Self {
        let mut best = None;
        for _ in 0..TRIES {
            let before = ticks();
            let ns = ns();
            let apart = ticks().saturating_sub(before);
            if best.is_none_or(|(least, _)| apart < least) {
                let ticks = before + apart / 2;
                best = Some((apart, Self { ticks, ns }));
            }
            if clock.ns(apart) <= CLOSE_NS {
                break;
            }
        }
        best.expect("both clocks are read at least once").1
    }

    /// The time of `CLOCK_MONOTONIC` at which the TSC stood at `at`, a moment before the anchor. The TSC's rate is
    /// known to some parts in 10^4 only, so `at` should not be long ago.
    pub(crate) fn time(&self, clock: Clock, at: Ticks) -> u64 {
        self.ns
            .saturating_sub(clock.ns(self.ticks.saturating_sub(at)))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A thread that is stopped for these nanoseconds before each of its reads, one after the other.
    fn anchor(stops: &[u64]) -> (Anchor, u64) {
        let clock = Clock::new(1_000_000_000);
        let (now, read) = (Cell::new(5_000_000_u64), Cell::new(0));
        let look = || {
            now.set(now.get() + 20 + stops.get(read.get()).copied().unwrap_or(0));
            read.set(read.get() + 1);
            now.get()
        };
        // Both clocks show the same number here, so that a shift is a difference of the two.
        (Anchor::take(clock, look, look), read.get() as u64)
    }

    #[test]
    fn a_lost_cpu_shifts_no_time() {
        for stop in 0..6 {
            let mut stops = [0; 6];
            stops[stop] = 10_000_000;
            let (anchor, _) = anchor(&stops);
            assert!(
                anchor.ns.abs_diff(anchor.ticks) <= 20,
                "stopped before read {stop}: {anchor:?}"
            );
        }
    }

    #[test]
    fn it_is_read_a_limited_number_of_times() {
        let stops: Vec<u64> = (1..200).rev().map(|n| n * 10_000).collect();
        let (anchor, reads) = anchor(&stops);
        assert_eq!(reads, 3 * TRIES as u64);
        let last = stops[3 * TRIES - 1] + 20;
        assert!(
            anchor.ns.abs_diff(anchor.ticks) <= last,
            "the closest counts"
        );
    }

    #[test]
    fn a_stamp_is_dated_by_its_distance() {
        let clock = Clock::new(2_000_000_000);
        let anchor = Anchor {
            ticks: 10_000,
            ns: 7_000,
        };
        assert_eq!(anchor.time(clock, 10_000), 7_000);
        assert_eq!(anchor.time(clock, 8_000), 6_000);
    }
}
