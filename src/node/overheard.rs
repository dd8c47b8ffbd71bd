//! What the network has sent to a secondary since its primary was heard last, for a VM that takes over.
//!
//! A switch that has lost the port of a dead host sends the VM's frames to every port, so that a
//! secondary gets what clients send while nobody serves them. Given to the VM when it goes on, that
//! is input which comes a little late; without it each client would wait for its own timer. What
//! came before the primary's last word is dropped: the primary had it, too, and has mirrored
//! what its VM took.
//!
//! In: frames of the uplink, and word of the primary. Out: the frames, in order, once this node is
//! the primary; nothing of them reaches the VM before (rule R6).

use std::collections::VecDeque;

use crate::dpdk::{Burst, Mbuf};
use crate::frame::Ticks;

/// Frames that are kept; a further one takes the place of the oldest.
const FRAMES: usize = 256;

/// The frames and when they came; by default none, and room for none.
#[derive(Default)]
pub struct Overheard {
    frames: VecDeque<(Ticks, Mbuf)>,
}

impl Overheard {
    /// None yet. All memory is allocated here.
    pub fn new() -> Self {
        Self {
            frames: VecDeque::with_capacity(FRAMES),
        }
    }

    /// Takes in what came now; returns how many older ones were dropped for it.
    pub fn add(&mut self, burst: &mut Burst, now: Ticks) -> usize {
        let mut dropped = 0;
        for frame in burst.drain() {
            if self.frames.len() == FRAMES {
                self.frames.pop_front();
                dropped += 1;
            }
            self.frames.push_back((now, frame));
        }
        dropped
    }

    /// The primary was heard; returns how many were dropped.
    pub fn forget(&mut self) -> usize {
        let dropped = self.frames.len();
        self.frames.clear();
        dropped
    }

    /// Drops what came before a time; returns how many.
    pub fn expire(&mut self, oldest: Ticks) -> usize {
        let dropped = self.frames.partition_point(|(came, _)| *came < oldest);
        self.frames.drain(..dropped);
        dropped
    }

    /// Moves the oldest into an empty burst; returns how many.
    #[inline]
    pub fn give(&mut self, burst: &mut Burst) -> usize {
        while !burst.is_full()
            && let Some((_, frame)) = self.frames.pop_front()
        {
            // There is room.
            let _ = burst.push(frame);
        }
        burst.len()
    }
}
