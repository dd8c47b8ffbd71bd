//! What a pair keeps whatever its role is.

use super::ports::{Burst, Ports};
use super::standby::StandbyBacklog;
use crate::frame::Ticks;

/// Times that a driver keeps.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How long input for a guest that takes none is kept while nothing is protected.
    pub patience: Ticks,
    /// How late what the network has sent may reach a VM that takes over.
    pub latest: Ticks,
}

/// What a driver counts besides its state machine and its ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rounds in which input waited for the guest, for headers or for the link.
    pub input_waits: u64,
    /// Frames of the network that a secondary got and did not need.
    pub input_ignored: u64,
}

/// What a takeover moves from one driver to the other, as it is.
pub(super) struct PairState<B: Burst> {
    /// Stops of the guest's ring that the state machine knows of.
    generation: u64,
    /// Frames that were received in this step of the round; empty between two steps.
    pub rx: B,
    /// Input that the guest's ring has not taken yet.
    pub input: B,
    /// Input that came while nobody served the VM.
    pub backlog: StandbyBacklog<B::Frame>,
    pub times: Times,
    pub counts: Counts,
}

impl<B: Burst> PairState<B> {
    /// A pair that is polled from now on, at a fence of this generation.
    pub(crate) fn new(generation: u64, times: Times, backlog: StandbyBacklog<B::Frame>) -> Self {
        Self {
            generation,
            rx: B::default(),
            input: B::default(),
            backlog,
            times,
            counts: Counts::default(),
        }
    }

    /// Passes a quiescent point; returns how often the ring has stopped since the one before.
    #[inline]
    pub(crate) fn stops(&mut self, ports: &mut impl Ports<Burst = B>) -> u64 {
        let generation = ports.quiesce();
        let stops = generation.wrapping_sub(self.generation);
        self.generation = generation;
        stops
    }

    /// Frames that are in here.
    pub(crate) fn frames(&self) -> usize {
        self.rx.len() + self.input.len() + self.backlog.len()
    }
}
