//! The port that a pair's output leaves through, with the times of what waits for it.

use super::capture::Tap;
use super::clock::Clock;
use super::lane::Lane;
use super::stamps::Stamps;
use crate::compare::Release;
use crate::dpdk::{Mbuf, tsc};
use crate::monitor::capture::Place;
use crate::monitor::latency::Recorder;

/// The uplink, or the comparator's output port. Every frame that waits in the lane has a stamp.
pub struct Outlet {
    /// The port.
    pub lane: Lane,
    stamps: Stamps,
}

impl Outlet {
    /// Nothing waits yet.
    pub fn new(lane: Lane) -> Self {
        Self {
            lane,
            stamps: Stamps::new(),
        }
    }

    /// Puts a compared frame behind those that wait.
    #[inline]
    pub fn release(&mut self, release: Release<Mbuf>) {
        self.stamps
            .push(release.arrived, release.cleared, release.witnessed);
        self.lane.push(release.frame);
    }

    /// Puts a frame that was not compared behind those that wait.
    #[inline]
    pub fn pass(&mut self, frame: Mbuf) {
        self.stamps.push_silent();
        self.lane.push(frame);
    }

    /// Sends what waits; returns how many frames left.
    #[inline]
    pub fn flush(
        &mut self,
        epoch: u32,
        tap: &mut Tap,
        clock: Clock,
        latency: &mut Recorder,
    ) -> usize {
        let left = tap.flush(Place::Out, epoch, &mut self.lane);
        if left > 0 {
            self.stamps.left(left, tsc::now(), clock, latency);
        }
        left
    }

    /// Drops what waits and counts it, with `more` frames that would have come behind.
    pub fn give_up(&mut self, more: usize) {
        self.stamps = Stamps::new();
        self.lane.give_up(more);
    }
}
