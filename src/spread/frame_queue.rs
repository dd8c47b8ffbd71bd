//! One VM's frames between the dispatcher and one worker.

use rtrb::Producer;

use super::ring::{free, push_some};
use crate::frame::BURST;

/// Frames that may wait for the ring: one burst from earlier, and another one.
const WAITING: usize = 2 * BURST;

/// A ring of frames, and the frames that wait for it.
pub(super) struct FrameQueue<F> {
    ring: Producer<F>,
    waiting: Vec<F>,
}

impl<F> FrameQueue<F> {
    pub(super) fn new(ring: Producer<F>) -> Self {
        Self {
            ring,
            waiting: Vec::with_capacity(WAITING),
        }
    }

    /// Frames that may still be queued.
    #[inline]
    pub(super) fn room(&self) -> usize {
        WAITING - self.waiting.len()
    }

    /// Frames that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether `n` frames fit into the ring.
    #[inline]
    pub(super) fn fits(&self, n: usize) -> bool {
        free(&self.ring, n) >= n
    }

    /// Puts frames straight into the ring. They must fit, and none may wait.
    #[inline]
    pub(super) fn push(&mut self, frames: impl ExactSizeIterator<Item = F>) {
        debug_assert!(self.waiting.is_empty() && self.fits(frames.len()));
        push_some(&mut self.ring, frames.len(), frames);
    }

    /// Queues frames, no more than [`FrameQueue::room`].
    pub(super) fn enqueue(&mut self, frames: impl Iterator<Item = F>) {
        self.waiting.extend(frames);
        debug_assert!(self.waiting.len() <= WAITING);
    }

    /// Moves the first `n` waiting frames into the ring. They must fit.
    pub(super) fn flush(&mut self, n: usize) {
        debug_assert!(self.fits(n));
        push_some(&mut self.ring, n, self.waiting.drain(..n));
    }

    /// Slots of the ring.
    pub(super) fn capacity(&self) -> u32 {
        self.ring.buffer().capacity() as u32
    }
}
