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

/// How many controls, from the last on, the control that follows them makes superfluous, and the
/// control to put in their place. No frame lies between any of them.
///
/// Nothing is held after a commit or a discard, and a fence finds nothing to drop when one came
/// before. So five controls say all that any number of them in a row can say: fence, commit,
/// discard, commit, fence.
pub(super) fn merge(before: &[Change], next: Change) -> (usize, Change) {
    use Change::{Commit, Discard, Fence};
    match (before, next) {
        ([.., Discard, Commit(_)], Discard) | ([.., Commit(_), Fence], Commit(_)) => (2, next),
        ([.., Fence], Fence | Discard)
        | ([.., Discard], Discard)
        | ([.., Commit(_)], Commit(_)) => (1, next),
        ([.., Discard], Fence) => (1, Discard),
        _ => (0, next),
    }
}

#[cfg(test)]
mod tests {
    use super::Change::{Commit, Discard, Fence};
    use super::*;

    /// What a comparator holds, told by the fewest facts that the changes act on.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct Held {
        fenced: bool,
        pending: bool,
        held: bool,
        flows: bool,
        released: bool,
    }

    impl Held {
        fn apply(&mut self, change: Change) {
            match change {
                Fence => (self.fenced, self.pending) = (true, false),
                Discard => {
                    *self = Self {
                        fenced: true,
                        released: self.released,
                        ..Self::default()
                    }
                }
                Commit(_) => {
                    self.released |= self.held;
                    (self.fenced, self.held) = (false, false);
                }
            }
        }
    }

    #[test]
    fn any_row_of_controls_comes_down_to_five_that_do_the_same() {
        // All rows of nine, as numbers to the base of three.
        for row in 0..3usize.pow(9) {
            let changes = (0..9).map(|i| [Fence, Discard, Commit(7)][row / 3usize.pow(i) % 3]);
            let full = Held {
                pending: true,
                held: true,
                flows: true,
                ..Held::default()
            };
            let (mut all, mut few) = (full, full);
            let mut merged = Vec::new();
            for change in changes {
                all.apply(change);
                let (n, change) = merge(&merged, change);
                merged.truncate(merged.len() - n);
                merged.push(change);
                assert!(merged.len() <= 5, "{merged:?}");
            }
            merged.iter().for_each(|change| few.apply(*change));
            assert_eq!(few, all, "{merged:?}");
        }
    }
}
