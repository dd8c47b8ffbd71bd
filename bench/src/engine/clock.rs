//! The time stamp counter, whose reading costs less than what is measured.

use std::time::Instant;

/// The counter's value.
#[inline]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: RDTSC reads a register and is there on every x86-64.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        use std::sync::LazyLock;
        static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        BEGIN.elapsed().as_nanos() as u64
    }
}

/// A stretch of time by both clocks, from which the counter's rate follows.
pub struct Span {
    instant: Instant,
    ticks: u64,
}

impl Span {
    /// Begins now.
    pub fn begin() -> Self {
        Self {
            instant: Instant::now(),
            ticks: ticks(),
        }
    }

    /// Nanoseconds of one tick, from the beginning until now. The longer the span, the better.
    pub fn ns_per_tick(&self) -> f64 {
        self.instant.elapsed().as_nanos() as f64 / (ticks() - self.ticks) as f64
    }
}
