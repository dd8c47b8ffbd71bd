//! What a capture records of a node's state, and what has changed between two looks.

use crate::observability::capture::Note;
use crate::protect::{Reports, State};

/// What a capture looks at to find what has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The word for what the node does.
    pub state: State,
    /// The epoch.
    pub epoch: u32,
    /// The last epoch that began with a commit, as far as the node knows one now.
    pub committed: Option<u32>,
    /// It goes on without the other VM, whatever the monitor says.
    pub alone: bool,
    /// Held frames that were dropped because their VM is gone.
    pub discarded: u64,
    /// The secondary's reports of loads.
    pub reports: Reports,
    /// The secondary can report loads and is heard.
    pub witnessed: bool,
}

impl View {
    /// A view of a state machine that has only these.
    pub(super) fn plain(state: State, epoch: u32) -> Self {
        Self {
            state,
            epoch,
            committed: None,
            alone: false,
            discarded: 0,
            reports: Reports::default(),
            witnessed: false,
        }
    }

    /// Notes the changes from the view before.
    pub fn changes(&self, was: Option<&View>, mut note: impl FnMut(Note)) {
        let state = Note::State {
            state: self.state,
            epoch: self.epoch,
        };
        let Some(was) = was else {
            return note(state);
        };
        if was == self {
            return;
        }
        let reports = self.reports.number.wrapping_sub(was.reports.number);
        debug_assert!(reports <= 1, "each report is noted by itself");
        if reports > 0 {
            note(Note::Loaded {
                covers: self.reports.covers,
            });
        }
        if was.witnessed != self.witnessed {
            note(Note::Witness {
                able: self.witnessed,
            });
        }
        if was.discarded != self.discarded {
            note(Note::Discarded {
                frames: self.discarded,
            });
        }
        if self.alone && !was.alone {
            note(Note::Alone);
        }
        if let Some(epoch) = self.committed
            && was.committed != self.committed
        {
            note(Note::Commit { epoch });
        }
        if (was.state, was.epoch) != (self.state, self.epoch) {
            note(state);
        }
    }
}
