//! Single segments at an even pace, and the delay of each.

use dpdk_colo::dpdk::tsc;
use hdrhistogram::Histogram;

use super::{Course, Stretch};
use crate::line::LineError;

/// Segments whose times are kept; more than can be under way.
const KEPT: usize = 1024;
/// Segments under way at most: what is paced must not pile up without end.
const UNDER_WAY: u64 = 192;
/// How far the pace may be behind before what was missed is given up, in seconds over this.
const LATE: u64 = 1000;

/// When segments were sent, and how long they took to leave.
pub struct Times {
    sent: [u64; KEPT],
    from_primary: bool,
    /// In ticks.
    pub delays: Histogram<u64>,
    /// Times at which the pace could not be kept.
    pub missed: u64,
}

impl Times {
    /// Nothing was sent; `from_primary`: delays count from the primary's frame and not from the
    /// later one.
    pub fn new(from_primary: bool) -> Self {
        let delays = Histogram::new_with_max(1 << 40, 3);
        Self {
            sent: [0; KEPT],
            from_primary,
            delays: delays.expect("three digits up to 2^40 are within the crate's bounds"),
            missed: 0,
        }
    }

    /// Segment `number` of all has left.
    #[inline]
    pub fn left(&mut self, number: u64, now: u64) {
        self.delays
            .saturating_record(now.saturating_sub(self.sent[number as usize % KEPT]));
    }
}

impl Course {
    /// Sends one segment each `interval` ticks for a time, and waits until all have left. All that
    /// was sent before must have left.
    pub fn pace(
        &mut self,
        ticks: u64,
        interval: u64,
        times: &mut Times,
    ) -> Result<Stretch, LineError> {
        let (began, before) = (tsc::now(), self.released);
        let (mut now, mut due) = (began, began);
        while now.wrapping_sub(began) < ticks {
            if now.saturating_sub(due) > self.hz / LATE {
                due = now;
                times.missed += 1;
            }
            if now >= due && self.cursors[0].sent < self.released + UNDER_WAY {
                due += interval;
                self.segment(times);
            }
            self.receive(now, Some(times))?;
            now = tsc::now();
        }
        let stretch = self.stretch(now.wrapping_sub(began), before, 0);
        while self.released < self.cursors[0].sent {
            self.receive(tsc::now(), Some(times))?;
        }
        Ok(stretch)
    }

    /// Sends both frames of the next segment, either VM's first.
    #[inline]
    fn segment(&mut self, times: &mut Times) {
        let first = self.random.below(2);
        let slot = self.cursors[0].sent as usize % times.sent.len();
        for vm in [first, 1 - first] {
            while !self.next(vm) {}
        }
        let mut sent = [0; 2];
        for vm in [first, 1 - first] {
            sent[vm] = tsc::now();
            while !self.lines[vm].out.is_empty() {
                self.lines[vm].flush();
            }
        }
        times.sent[slot] = if times.from_primary {
            sent[0]
        } else {
            sent[1 - first]
        };
    }
}
