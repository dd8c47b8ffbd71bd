//! What ends and begins epochs, as a worker is told of it.

use crate::frame::Ticks;

/// A change that concerns all frames before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Control {
    /// Counts the changes; the two sides know by it of which epoch the other speaks.
    pub generation: u32,
    pub change: Change,
}

/// The changes, as [`crate::compare::Comparator`] names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Fence,
    Discard,
    Commit(Ticks),
}
