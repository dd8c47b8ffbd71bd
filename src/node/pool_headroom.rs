//! Checks before each burst that the pool of a receiving port suffices.
//!
//! DPDK's vhost library drops a frame of several mbufs if the pool runs out in its middle. No P may be lost that way
//! (rule R8). So a ring is polled only while the pool has mbufs for a burst of the longest frames. Otherwise the frames
//! wait in the guest's ring.

use crate::dpdk::{Burst, Mempool};
use crate::frame::Frame;

/// Mbufs of a frame of 64 KB, at 2,048 bytes each.
const LONGEST: u32 = 33;
/// Mbufs that count as free but lie in the caches of other lcores.
const ELSEWHERE: u32 = 512;

/// A pool and a lower bound of its free mbufs.
pub(crate) struct PoolHeadroom {
    pool: Mempool,
    /// Mbufs that were free at the last count, less those taken since: a lower bound.
    free: u32,
    needed: u32,
}

impl PoolHeadroom {
    /// Mbufs come from this pool. If the pool is too small for a burst of long frames, the port is polled while half of
    /// it is free.
    pub(crate) fn new(pool: Mempool) -> Self {
        let burst = LONGEST * Burst::CAPACITY as u32 + ELSEWHERE;
        Self {
            needed: burst.min(pool.size() / 2),
            pool,
            free: 0,
        }
    }

    /// Whether a burst may be received. Counting walks over all lcores' caches, so it is done only when the lower bound
    /// is too low.
    #[inline]
    pub(crate) fn suffices(&mut self) -> bool {
        if self.free < self.needed {
            self.free = self.pool.available();
        }
        self.free >= self.needed
    }

    /// These frames were received.
    #[inline]
    pub(crate) fn used(&mut self, frames: &Burst) {
        let mbufs: usize = frames.iter().map(Frame::buffers).sum();
        self.free = self.free.saturating_sub(mbufs as u32);
    }
}
