//! One VM's frames on their way to one worker.

use rtrb::Producer;

use super::ring::{free, push_some};
use crate::frame::BURST;

/// Frames that may wait for the ring: a burst that waited before, and another one.
const WAITING: usize = 2 * BURST;

/// A ring of frames, and before it those that it has not taken yet.
pub(super) struct Lane<F> {
    ring: Producer<F>,
    waiting: Vec<F>,
}

impl<F> Lane<F> {
    pub(super) fn new(ring: Producer<F>) -> Self {
        Self {
            ring,
            waiting: Vec::with_capacity(WAITING),
        }
    }

    /// Frames that may come without being passed on.
    #[inline]
    pub(super) fn room(&self) -> usize {
        WAITING - self.waiting.len()
    }

    /// Frames that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether so many frames fit into the ring.
    #[inline]
    pub(super) fn takes(&self, n: usize) -> bool {
        free(&self.ring, n) >= n
    }

    /// Puts frames straight into the ring, which has room and before which none waits.
    #[inline]
    pub(super) fn pass(&mut self, frames: impl ExactSizeIterator<Item = F>) {
        debug_assert!(self.waiting.is_empty() && self.takes(frames.len()));
        push_some(&mut self.ring, frames.len(), frames);
    }

    /// Lets frames wait, for which there is room.
    pub(super) fn keep(&mut self, frames: impl Iterator<Item = F>) {
        self.waiting.extend(frames);
        debug_assert!(self.waiting.len() <= WAITING);
    }

    /// Moves the first `n` of those that wait into the ring, which has room.
    pub(super) fn flush(&mut self, n: usize) {
        debug_assert!(self.takes(n));
        push_some(&mut self.ring, n, self.waiting.drain(..n));
    }

    /// Frames that the ring holds at most.
    pub(super) fn capacity(&self) -> u32 {
        self.ring.buffer().capacity() as u32
    }
}
