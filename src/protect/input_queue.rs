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
    pub fn new(window: u32) -> Self {
        // The window counts frames that were granted; heartbeats in between may let a few more come.
        let limit = window as usize * 2;
        Self {
            frames: VecDeque::with_capacity(limit),
            limit,
        }
    }

    /// Frames in here.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// The frames, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &F> {
        self.frames.iter().map(|mirrored| &mirrored.frame)
    }

    /// Takes in a frame; false if there is no room, and the frame is dropped.
    pub fn push(&mut self, frame: F, epoch: u32, after: u32, link: &mut Endpoint) -> bool {
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
    pub fn next(&mut self, epoch: u32, runs: bool, link: &mut Endpoint) -> Option<Next<F>> {
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
    pub fn clear(&mut self, link: &mut Endpoint) {
        self.frames.clear();
        link.set_backlog(0);
    }
}
