//! Single segments at an even pace, and the delay of each.
//!
//! Where this program's own core is taken from it, for a timer's interrupt or another program, it
//! sends little in arrears, which would be a burst, and says nothing of what was under way.

use dpdk_colo::dpdk::tsc;
use hdrhistogram::Histogram;

use super::{Course, Stretch};
use crate::line::LineError;

/// Segments whose times are kept; more than can be under way.
const KEPT: usize = 1024;
/// Segments under way at most: what is paced must not pile up without end.
const UNDER_WAY: u64 = 192;
/// Segments that may be in arrears; more are given up, where this program cannot keep the pace.
const ARREARS: u64 = 4;
/// A longer round than a second over this is one in which this program did not run: 10 µs.
const PAUSE: u64 = 100_000;

/// When segments were sent, and how long they took to leave.
pub struct Times {
    /// 0: nothing can be said.
    sent: [u64; KEPT],
    from_primary: bool,
    /// In ticks.
    pub delays: Histogram<u64>,
    /// Pauses of this program.
    pub pauses: u64,
    /// Segments of which nothing can be said.
    pub void: u64,
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
            pauses: 0,
            void: 0,
        }
    }

    /// Segment `number` of all has left.
    #[inline]
    pub fn left(&mut self, number: u64, now: u64) {
        match self.sent[number as usize % KEPT] {
            0 => self.void += 1,
            sent => self.delays.saturating_record(now.saturating_sub(sent)),
        }
    }

    /// `ticks` have passed since the last call. Returns whether this program did not run for a while.
    #[inline]
    pub fn look(&mut self, ticks: u64, hz: u64) -> bool {
        let paused = ticks > hz / PAUSE;
        if paused {
            self.pauses += 1;
            self.sent.fill(0);
        }
        paused
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
            if now >= due && self.cursors[0].sent < self.released + UNDER_WAY {
                due += interval;
                self.segment(times);
            }
            self.receive(now, Some(times))?;
            let then = std::mem::replace(&mut now, tsc::now());
            let paused = times.look(now.wrapping_sub(then), self.hz);
            if paused || now.saturating_sub(due) > ARREARS * interval {
                due = now;
            }
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
