//! Ends and beginnings of epochs, as a worker gets them.

use crate::frame::Ticks;

/// A change that concerns all frames before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Control {
    /// Counts the changes. A report carries it, so that the dispatcher knows the report's epoch.
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
