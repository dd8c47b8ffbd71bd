//! What checkpoints cost.

use std::ops::{AddAssign, Sub};
use std::time::Duration;

use super::checkpoint::Checkpoint;

/// What some checkpoints have cost. Sums end at the greatest number and do not wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// How many.
    pub checkpoints: u64,
    /// Nanoseconds from STOP to RESUME, in all.
    pub stopped: u64,
    /// Nanoseconds from a request to STOP, in all.
    pub waited: u64,
    /// Frames of the PVM that waited, in all.
    pub held: u64,
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Cost {
    /// Of one checkpoint.
    pub(super) fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            checkpoints: 1,
            stopped: nanoseconds(checkpoint.stopped),
            waited: nanoseconds(checkpoint.waited),
            held: checkpoint.held.into(),
        }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, more: Self) {
        self.checkpoints = self.checkpoints.saturating_add(more.checkpoints);
        self.stopped = self.stopped.saturating_add(more.stopped);
        self.waited = self.waited.saturating_add(more.waited);
        self.held = self.held.saturating_add(more.held);
    }
}

/// What is left of a sum without a part of it.
impl Sub for Cost {
    type Output = Self;

    fn sub(self, part: Self) -> Self {
        Self {
            checkpoints: self.checkpoints.saturating_sub(part.checkpoints),
            stopped: self.stopped.saturating_sub(part.stopped),
            waited: self.waited.saturating_sub(part.waited),
            held: self.held.saturating_sub(part.held),
        }
    }
}
