//! The pool that a port receives into, looked at before each burst.
//!
//! DPDK's vhost library drops a frame of several mbufs when the pool runs out in its middle. A P must
//! not get lost that way (rule R8), so a ring is polled only while there is room for a whole burst
//! of the longest frames; otherwise it waits, and the guest with it.

use crate::dpdk::{Burst, Mempool};
use crate::frame::Frame;

/// Mbufs of a frame of 64 KB, at 2,048 bytes each.
const LONGEST: u32 = 33;
/// Mbufs that count as free but lie in the caches of other lcores.
const ELSEWHERE: u32 = 512;

/// What is known to be free.
pub struct Source {
    pool: Mempool,
    /// At least so many mbufs were free when last counted, less those taken since.
    free: u32,
    needed: u32,
}

impl Source {
    /// Mbufs come from this pool. One that is too small for a burst of long frames is polled as long
    /// as half of it is free.
    pub fn new(pool: Mempool) -> Self {
        let burst = LONGEST * Burst::CAPACITY as u32 + ELSEWHERE;
        Self {
            needed: burst.min(pool.size() / 2),
            pool,
            free: 0,
        }
    }

    /// Whether a burst may be received. Counting costs a walk over all lcores, so it is done only
    /// when what was free may be used up.
    #[inline]
    pub fn suffices(&mut self) -> bool {
        if self.free < self.needed {
            self.free = self.pool.available();
        }
        self.free >= self.needed
    }

    /// These frames were received.
    #[inline]
    pub fn used(&mut self, frames: &Burst) {
        let mbufs: usize = frames.iter().map(Frame::buffers).sum();
        self.free = self.free.saturating_sub(mbufs as u32);
    }
}
