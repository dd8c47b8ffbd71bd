//! What the network has sent to a secondary since its primary was heard last, for a VM that takes over.
//!
//! A switch that has lost the port of a dead host sends the VM's frames to every port, so that a
//! secondary gets what clients send while nobody serves them. Given to the VM when it goes on, that
//! is input which comes a little late; without it each client would wait for its own timer. What
//! came before the primary's last frame is dropped: the primary had it, too, and has mirrored
//! what its VM took.
//!
//! In: frames of the uplink, and the times at which the primary was heard. Out: the frames, in order, once this node is
//! the primary; nothing of them reaches the VM before (rule R6).

use std::collections::VecDeque;

use crate::frame::Ticks;

/// Frames that are kept; a further one takes the place of the oldest.
const FRAMES: usize = 256;

/// The frames and when they came; by default none, and room for none.
pub(crate) struct StandbyBacklog<F> {
    frames: VecDeque<(Ticks, F)>,
}

impl<F> Default for StandbyBacklog<F> {
    fn default() -> Self {
        Self {
            frames: VecDeque::new(),
        }
    }
}

impl<F> StandbyBacklog<F> {
    /// None yet. All memory is allocated here.
    pub(crate) fn new() -> Self {
        Self {
            frames: VecDeque::with_capacity(FRAMES),
        }
    }

    /// Frames in here.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Takes in what came now; returns how many older ones were dropped for it.
    pub(crate) fn add(&mut self, frames: impl Iterator<Item = F>, now: Ticks) -> usize {
        let mut dropped = 0;
        for frame in frames {
            if self.frames.len() == FRAMES {
                self.frames.pop_front();
                dropped += 1;
            }
            self.frames.push_back((now, frame));
        }
        dropped
    }

    /// The primary was heard; returns how many were dropped.
    pub(crate) fn forget(&mut self) -> usize {
        let dropped = self.frames.len();
        self.frames.clear();
        dropped
    }

    /// Drops what came before a time; returns how many.
    pub(crate) fn expire(&mut self, oldest: Ticks) -> usize {
        let dropped = self.frames.partition_point(|(came, _)| *came < oldest);
        self.frames.drain(..dropped);
        dropped
    }

    /// Takes out the oldest.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<F> {
        self.frames.pop_front().map(|(_, frame)| frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(mut backlog: StandbyBacklog<usize>) -> Vec<usize> {
        std::iter::from_fn(|| backlog.next()).collect()
    }

    #[test]
    fn the_newest_are_kept_in_order_and_no_memory_is_added() {
        let mut backlog = StandbyBacklog::new();
        let memory = backlog.frames.capacity();
        assert_eq!(backlog.add(0..FRAMES, 1), 0);
        assert_eq!(backlog.add(FRAMES..FRAMES + 3, 2), 3);
        assert_eq!(backlog.frames.capacity(), memory);
        assert!(rest(backlog).into_iter().eq(3..FRAMES + 3));
    }

    #[test]
    fn what_is_too_late_or_the_primary_had_is_gone() {
        let mut backlog = StandbyBacklog::new();
        for came in 1..=4 {
            backlog.add([came as usize].into_iter(), came);
        }
        assert_eq!((backlog.expire(1), backlog.expire(3)), (0, 2));
        assert_eq!(rest(backlog), [3, 4]);
        let mut backlog = StandbyBacklog::new();
        backlog.add([7, 8].into_iter(), 1);
        assert_eq!((backlog.forget(), backlog.forget()), (2, 0));
        backlog.add([9].into_iter(), 2);
        assert_eq!(rest(backlog), [9]);
        assert!(rest(StandbyBacklog::default()).is_empty());
    }
}
