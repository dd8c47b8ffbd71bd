//! What the secondary says of the states that its VM has loaded (`docs/commit-evidence.md`).

use crate::frame::Ticks;

/// The secondary's reports of loads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    /// How many there were.
    pub number: u32,
    /// What the last one covers: see [`Message::Loaded`](crate::link::Message::Loaded).
    pub covers: Option<u32>,
}

/// The reports, and whether more may come.
#[derive(Debug)]
pub(super) struct LoadReports {
    /// What the secondary has said in this session.
    able: Option<bool>,
    last: Reports,
    patience: Ticks,
}

impl LoadReports {
    /// None came so far. A ring waits for at most `patience` for one.
    pub(crate) fn new(patience: Ticks) -> Self {
        Self {
            able: None,
            last: Reports::default(),
            patience,
        }
    }

    /// A session began: what the peer said before does not count.
    pub(crate) fn session(&mut self) {
        self.able = None;
    }

    /// The secondary says whether it can report loads.
    pub(crate) fn hear_able(&mut self, able: bool) {
        self.able = Some(able);
    }

    /// The secondary reports a load.
    pub(crate) fn hear(&mut self, covers: Option<u32>) {
        self.last.number = self.last.number.wrapping_add(1);
        self.last.covers = covers;
    }

    /// Whether one may come, as far as the secondary has said.
    pub(crate) fn may_come(&self) -> bool {
        self.able != Some(false)
    }

    /// How long a ring waits for one.
    pub(crate) fn patience(&self) -> Ticks {
        self.patience
    }

    /// All so far.
    pub(crate) fn last(&self) -> Reports {
        self.last
    }
}
