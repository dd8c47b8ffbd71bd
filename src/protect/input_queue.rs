//! Mirrored input that waits for an SVM which runs its epoch (rule R7).
//!
//! In: input frames of the link, the SVM's epoch. Out: frames for the SVM's ring, and those of an epoch that is over. The
//! other node is granted only as many frames as there is room for here.

use std::collections::VecDeque;

use crate::link::Endpoint;
use crate::packet::serial::before;

/// An input frame.
struct Mirrored<F> {
    frame: F,
    /// In which the PVM took it.
    epoch: u32,
    /// Control messages that it follows.
    after: u32,
}

/// A frame that waits no longer.
pub(super) enum Next<F> {
    /// The SVM runs its epoch.
    Due(F),
    /// Its epoch is over.
    Stale(F),
}

/// The frames that wait, in their order.
pub(super) struct InputQueue<F> {
    frames: VecDeque<Mirrored<F>>,
    limit: usize,
}

impl<F> InputQueue<F> {
    /// No frame waits. The other node may send `window` frames ahead.
    pub(crate) fn new(window: u32) -> Self {
        // The window counts frames that were granted; heartbeats in between may let a few more come.
        let limit = window as usize * 2;
        Self {
            frames: VecDeque::with_capacity(limit),
            limit,
        }
    }

    /// Frames in here.
    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// The frames, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &F> {
        self.frames.iter().map(|mirrored| &mirrored.frame)
    }

    /// Takes in a frame; false if there is no room, and the frame is dropped.
    pub(crate) fn push(&mut self, frame: F, epoch: u32, after: u32, link: &mut Endpoint) -> bool {
        if self.frames.len() == self.limit {
            return false;
        }
        self.frames.push_back(Mirrored {
            frame,
            epoch,
            after,
        });
        link.set_backlog(self.frames.len());
        true
    }

    /// The next frame that the SVM gets in this epoch if it runs, or that is too old for it.
    pub(crate) fn next(&mut self, epoch: u32, runs: bool, link: &mut Endpoint) -> Option<Next<F>> {
        let first = self.frames.front()?;
        let stale = before(first.epoch, epoch);
        if !stale && (first.epoch != epoch || !runs || !link.has_received(first.after)) {
            return None;
        }
        let frame = self.frames.pop_front()?.frame;
        link.set_backlog(self.frames.len());
        Some(match stale {
            true => Next::Stale(frame),
            false => Next::Due(frame),
        })
    }

    /// Drops all: their senders have no acknowledgment of them.
    pub(crate) fn clear(&mut self, link: &mut Endpoint) {
        self.frames.clear();
        link.set_backlog(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Message;
    use crate::protect::tests::{carry, ends};

    /// All that the SVM gets next in an epoch; an old frame by its number less 100.
    fn next(queue: &mut InputQueue<i32>, epoch: u32, runs: bool, link: &mut Endpoint) -> Vec<i32> {
        let next = || queue.next(epoch, runs, link);
        std::iter::from_fn(next)
            .map(|next| match next {
                Next::Due(frame) => frame,
                Next::Stale(frame) => frame - 100,
            })
            .collect()
    }

    #[test]
    fn input_waits_for_an_svm_that_runs_its_epoch() {
        let [_, mut end] = ends();
        let mut queue = InputQueue::new(4);
        for (frame, epoch) in [(1, 6), (2, 7), (3, 8), (4, 7)] {
            assert!(queue.push(frame, epoch, 0, &mut end));
        }
        assert_eq!(next(&mut queue, 7, false, &mut end), [-99]);
        assert_eq!(next(&mut queue, 7, true, &mut end), [2]);
        assert_eq!(next(&mut queue, 8, true, &mut end), [3, -96]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn input_waits_for_the_messages_that_it_follows() {
        let mut ends = ends();
        let mut queue = InputQueue::new(4);
        let after = ends[0].sent() + 1;
        assert!(queue.push(1, 7, after, &mut ends[1]));
        assert!(next(&mut queue, 7, true, &mut ends[1]).is_empty());
        ends[0].send(Message::Runs(7)).unwrap();
        carry(&mut ends);
        assert_eq!(next(&mut queue, 7, true, &mut ends[1]), [1]);
    }

    #[test]
    fn it_takes_no_more_than_twice_the_window() {
        let [_, mut end] = ends();
        let mut queue = InputQueue::new(2);
        let memory = queue.frames.capacity();
        assert_eq!((0..9).filter(|n| queue.push(*n, 7, 0, &mut end)).count(), 4);
        assert_eq!(queue.frames.capacity(), memory);
        queue.clear(&mut end);
        assert!(queue.push(9, 7, 0, &mut end));
    }
}
