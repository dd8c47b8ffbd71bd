//! One checkpoint, and what asked for it.

use std::time::Duration;

use crate::flow::FlowKey;
use crate::protect::{CAUSES, Cause};

/// What asked for a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The node, for this cause.
    Cause(Cause),
    /// An operator, by the control socket.
    Ordered,
    /// Nothing: the VM has stopped to enter COLO.
    Begin,
    /// Nothing of this node.
    Qemu,
}

/// Number of origins.
pub(super) const ORIGINS: usize = CAUSES + 3;

impl Origin {
    /// All origins, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        let causes = Cause::all().map(Self::Cause);
        causes.chain([Self::Ordered, Self::Begin, Self::Qemu])
    }

    /// Its number, less than [`ORIGINS`].
    pub(super) fn index(self) -> usize {
        match self {
            Self::Cause(cause) => cause.index(),
            Self::Ordered => CAUSES,
            Self::Begin => CAUSES + 1,
            Self::Qemu => CAUSES + 2,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cause(cause) => cause.word(),
            Self::Ordered => "ordered",
            Self::Begin => "begin",
            Self::Qemu => "qemu",
        }
    }
}

/// A checkpoint that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// What asked for it.
    pub origin: Origin,
    /// The flow that it was asked for, in the direction of the output.
    pub flow: Option<FlowKey>,
    /// From the request's writing to STOP; zero where there was no request.
    pub waited: Duration,
    /// From STOP to RESUME.
    pub stopped: Duration,
    /// Frames of the PVM that waited when RESUME came.
    pub held: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origins_are_numbered_in_their_order_and_have_words_of_their_own() {
        assert!(Origin::all().map(Origin::index).eq(0..ORIGINS));
        let mut words: Vec<_> = Origin::all().map(Origin::word).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), ORIGINS);
    }
}
