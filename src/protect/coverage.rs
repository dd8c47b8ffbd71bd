//! What a report of a load covers: the last epoch of the PVM's of which the secondary had heard while the SVM
//! still ran, before it was stopped for that load (`docs/commit-evidence.md`).
//!
//! In: epochs that the primary says it polls, stops of the SVM's ring, and the monitor's events. A
//! ring that runs stops before its VM does, so its stop says what was heard before. Where none runs the monitor
//! is asked whether the VM runs: it did behind what was heard before the question.

use crate::packet::serial::before;

/// Messages about the PVM's epochs, and which of them came before stops that the monitor has still to report.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    /// The last epoch in which the primary said that it polls the PVM's ring.
    heard: Option<u32>,
    /// The same when the SVM stopped, of the oldest stop that the monitor has not reported.
    covers: Option<u32>,
    /// The monitor has reported everything before the ring's last start.
    all_reported: bool,
    /// A question may have another answer than the last one.
    due: bool,
    /// Questions so far, and what was heard before the last one.
    questions: u32,
    asked: Option<u32>,
}

impl Coverage {
    /// The PVM's ring is polled in this epoch.
    pub(crate) fn hear(&mut self, epoch: u32) {
        self.heard = Some(epoch);
        self.due = true;
    }

    /// Another primary, or the same from the start.
    pub(crate) fn forget(&mut self) {
        (self.heard, self.covers, self.asked) = (None, None, None);
    }

    /// The SVM's ring has stopped.
    pub(crate) fn ring_stopped(&mut self) {
        if std::mem::take(&mut self.all_reported) {
            self.covers = self.heard;
        }
    }

    /// The ring runs, and the monitor has reported everything before.
    pub(crate) fn all_reported(&mut self) {
        self.all_reported = true;
    }

    /// The SVM may run where it did not when it was asked.
    pub(crate) fn may_run(&mut self) {
        self.due = true;
    }

    /// The next question whether the SVM runs. To be asked only while its ring does not.
    pub(crate) fn next_question(&mut self) -> Option<u32> {
        if !self.due || self.heard.is_none() || self.heard == self.covers {
            return None;
        }
        self.due = false;
        self.questions = self.questions.wrapping_add(1);
        self.asked = self.heard;
        Some(self.questions)
    }

    /// The SVM ran when it was asked this, and the monitor has reported every stop before.
    pub(crate) fn ran(&mut self, question: u32) {
        if question != self.questions {
            return;
        }
        if let Some(asked) = self.asked.take()
            && self.covers.is_none_or(|covers| before(covers, asked))
        {
            self.covers = Some(asked);
        }
    }

    /// What a report of the stop that the monitor reports now covers.
    pub(crate) fn covers(&self) -> Option<u32> {
        self.covers
    }
}
