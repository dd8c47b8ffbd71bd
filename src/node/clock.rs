//! Converts ticks of the TSC to nanoseconds and back.

use std::time::Duration;

use crate::frame::Ticks;

/// The TSC's rate, with the division done once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    hz: u64,
    /// Nanoseconds per tick, times 2^32.
    scale: u64,
}

impl Clock {
    /// A clock of `hz` ticks per second.
    pub(crate) fn new(hz: u64) -> Self {
        let hz = hz.max(1);
        Self {
            hz,
            scale: ((1_000_000_000u128 << 32) / u128::from(hz)) as u64,
        }
    }

    /// Nanoseconds of an interval.
    #[inline]
    pub(crate) fn ns(&self, ticks: Ticks) -> u64 {
        ((u128::from(ticks) * u128::from(self.scale)) >> 32) as u64
    }

    /// Ticks of a duration.
    pub(crate) fn ticks(&self, duration: Duration) -> Ticks {
        (duration.as_nanos() * u128::from(self.hz) / 1_000_000_000) as u64
    }
}
