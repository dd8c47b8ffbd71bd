//! Times of the frames that wait for a port, which are recorded when the frames leave.
//!
//! Frames of a burst mostly have the same times. So neighbours with equal times form a run, which is recorded at once.

use super::clock::Clock;
use crate::dpdk::Burst;
use crate::frame::Ticks;
use crate::observability::latency::{Interval, Recorder};

/// Consecutive frames with the same times: of their arrival, their release, and their counterparts' arrival.
#[derive(Clone, Copy, Default)]
struct Run {
    arrived: Ticks,
    cleared: Ticks,
    witnessed: Option<Ticks>,
    /// Not compared: nothing to record.
    silent: bool,
    frames: u32,
}

impl Run {
    #[inline]
    fn is_like(&self, other: &Self) -> bool {
        self.arrived == other.arrived
            && self.cleared == other.cleared
            && self.witnessed == other.witnessed
            && self.silent == other.silent
    }
}

/// Times of the frames in a port's burst, in order.
pub(crate) struct Stamps {
    runs: [Run; Burst::CAPACITY],
    len: usize,
}

impl Stamps {
    /// None.
    pub(crate) fn new() -> Self {
        Self {
            runs: [Run::default(); Burst::CAPACITY],
            len: 0,
        }
    }

    /// Adds the times of a released frame.
    #[inline]
    pub(crate) fn push(&mut self, arrived: Ticks, cleared: Ticks, witnessed: Option<Ticks>) {
        self.add(Run {
            arrived,
            cleared,
            witnessed,
            silent: false,
            frames: 1,
        });
    }

    /// Adds a frame that was not compared.
    #[inline]
    pub(crate) fn push_silent(&mut self) {
        self.add(Run {
            silent: true,
            frames: 1,
            ..Run::default()
        });
    }

    #[inline]
    fn add(&mut self, run: Run) {
        if let Some(last) = self.runs[..self.len].last_mut()
            && last.is_like(&run)
        {
            last.frames += run.frames;
        } else if let Some(next) = self.runs.get_mut(self.len) {
            *next = run;
            self.len += 1;
        }
    }

    /// The first `n` frames left at `now`.
    #[inline]
    pub(crate) fn left(&mut self, n: usize, now: Ticks, clock: Clock, latency: &mut Recorder) {
        let (mut left, mut whole) = (n as u32, 0);
        for run in &mut self.runs[..self.len] {
            let frames = run.frames.min(left);
            record(run, frames.into(), now, clock, latency);
            left -= frames;
            run.frames -= frames;
            if run.frames > 0 {
                break;
            }
            whole += 1;
        }
        self.runs.copy_within(whole..self.len, 0);
        self.len -= whole;
    }
}

#[inline]
fn record(run: &Run, times: u64, now: Ticks, clock: Clock, latency: &mut Recorder) {
    if run.silent || times == 0 {
        return;
    }
    let since = |then: Ticks| clock.ns(now.saturating_sub(then));
    latency.record_times(Interval::Hold, since(run.arrived), times);
    latency.record_times(Interval::Release, since(run.cleared), times);
    if let Some(witnessed) = run.witnessed {
        let skew = clock.ns(witnessed.abs_diff(run.arrived));
        latency.record_times(Interval::Skew, skew, times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observability::latency::{Set, exchange};

    /// What was recorded so far.
    fn total(recorder: &mut Recorder) -> Set {
        let (_, mut reader) = exchange();
        reader.finish(recorder);
        reader.total().clone()
    }

    fn clock() -> Clock {
        Clock::new(1_000_000_000)
    }

    #[test]
    fn every_frame_counts_once_however_the_port_takes_them() {
        let (mut recorder, _reader) = exchange();
        let mut stamps = Stamps::new();
        for frame in 0..32 {
            stamps.push(100 + frame / 8, 200, (frame % 2 == 0).then_some(90));
        }
        for n in [0, 1, 2, 6, 20, 3] {
            stamps.left(n, 300, clock(), &mut recorder);
        }
        assert_eq!(stamps.len, 0);
        let total = total(&mut recorder);
        let counts = [Interval::Hold, Interval::Release, Interval::Skew]
            .map(|interval| total.summary(interval).count);
        assert_eq!(counts, [32, 32, 16]);
        assert_eq!(total.summary(Interval::Release).max, 100);
    }

    #[test]
    fn a_frame_that_was_not_compared_keeps_its_place_and_records_nothing() {
        let (mut recorder, _reader) = exchange();
        let mut stamps = Stamps::new();
        stamps.push_silent();
        stamps.push_silent();
        stamps.push(10, 10, None);
        stamps.left(1, 20, clock(), &mut recorder);
        stamps.left(2, 40, clock(), &mut recorder);
        let hold = total(&mut recorder).summary(Interval::Hold);
        assert_eq!((hold.count, hold.max), (1, 30));
    }
}
