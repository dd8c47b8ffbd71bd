//! The output port of a pair, with the times of the frames that wait for it.

use super::capture::Tap;
use super::clock::Clock;
use super::port_queue::PortQueue;
use super::stamps::Stamps;
use crate::compare::Release;
use crate::dpdk::{Mbuf, tsc};
use crate::observability::capture::Place;
use crate::observability::latency::Recorder;

/// The uplink, or the comparator's output port. Every frame that waits in the queue has a stamp.
pub(crate) struct Outlet {
    /// The port.
    pub queue: PortQueue,
    stamps: Stamps,
}

impl Outlet {
    /// Nothing waits yet.
    pub(crate) fn new(queue: PortQueue) -> Self {
        Self {
            queue,
            stamps: Stamps::new(),
        }
    }

    /// Queues a frame that was compared.
    #[inline]
    pub(crate) fn release(&mut self, release: Release<Mbuf>) {
        self.stamps
            .push(release.arrived, release.cleared, release.witnessed);
        self.queue.push(release.frame);
    }

    /// Queues a frame that was not compared.
    #[inline]
    pub(crate) fn pass(&mut self, frame: Mbuf) {
        self.stamps.push_silent();
        self.queue.push(frame);
    }

    /// Sends the frames that wait. Returns the number that left.
    #[inline]
    pub(crate) fn flush(
        &mut self,
        epoch: u32,
        tap: &mut Tap,
        clock: Clock,
        latency: &mut Recorder,
    ) -> usize {
        let left = tap.flush(Place::Out, epoch, &mut self.queue);
        if left > 0 {
            self.stamps.left(left, tsc::now(), clock, latency);
        }
        left
    }

    /// Drops and counts the frames that wait, and counts `more` frames that would have followed.
    pub(crate) fn give_up(&mut self, more: usize) {
        self.stamps = Stamps::new();
        self.queue.give_up(more);
    }
}
