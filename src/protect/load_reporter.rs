//! The secondary's reports that its VM has loaded a state (`docs/commit-evidence.md`).
//!
//! In: what the SVM's monitor says, epochs that the primary polls, stops of the SVM's ring, sessions. Out:
//! [`Message::Loaded`], [`Message::Witnesses`], questions to the monitor.

use super::coverage::Coverage;
use crate::link::{Endpoint, Message};

/// What is known of the SVM's last stop, and what the primary was sent.
#[derive(Debug, Default)]
pub(super) struct LoadReporter {
    coverage: Coverage,
    /// STOP came and no RESUME since; run state `colo` came, too.
    vm_stopped: bool,
    for_load: bool,
    /// What the primary was last sent in this session about whether reports may come.
    sent_able: Option<bool>,
}

impl LoadReporter {
    /// A session began: the primary knows nothing.
    pub(crate) fn session(&mut self) {
        self.coverage.forget();
        self.sent_able = None;
    }

    /// The PVM's ring is polled in this epoch.
    pub(crate) fn hear(&mut self, epoch: u32) {
        self.coverage.hear(epoch);
    }

    /// The SVM's ring has stopped.
    pub(crate) fn ring_stopped(&mut self) {
        self.coverage.ring_stopped();
    }

    /// The SVM's ring runs, and its monitor has reported everything before.
    pub(crate) fn all_reported(&mut self) {
        self.coverage.all_reported();
    }

    /// The monitor answers. A stop before is not known to it.
    pub(crate) fn connected(&mut self) {
        self.vm_stopped = false;
        self.coverage.may_run();
    }

    /// The monitor is gone.
    pub(crate) fn disconnected(&mut self) {
        self.vm_stopped = false;
    }

    /// STOP.
    pub(crate) fn stopped(&mut self) {
        (self.vm_stopped, self.for_load) = (true, false);
    }

    /// The VM was stopped for a load when it was asked why.
    pub(crate) fn stopped_for(&mut self, load: bool) {
        self.for_load |= load;
    }

    /// RESUME: reports a load if QEMU had stopped the VM for one. `takes_loads` says that it would be a state of this
    /// COLO's.
    pub(crate) fn resumed(&mut self, takes_loads: bool, link: &mut Endpoint) {
        let stopped = std::mem::take(&mut self.vm_stopped);
        if stopped && self.for_load && takes_loads {
            // A full queue means that the primary hears nothing anyway, and asks again.
            let _ = link.send(Message::Loaded(self.coverage.covers()));
        }
        self.coverage.may_run();
    }

    /// The primary must know whether a report may come: it waits for one, or holds what nobody proves. Where the
    /// queue is full now, this is sent later.
    pub(crate) fn send_able(&mut self, able: bool, link: &mut Endpoint) {
        if link.has_session()
            && self.sent_able != Some(able)
            && link.send(Message::Witnesses(able)).is_ok()
        {
            self.sent_able = Some(able);
        }
    }

    /// The next question whether the SVM runs. To be asked only while its ring does not.
    pub(crate) fn next_question(&mut self) -> Option<u32> {
        if self.vm_stopped {
            return None;
        }
        self.coverage.next_question()
    }

    /// The SVM ran when it was asked this.
    pub(crate) fn ran(&mut self, question: u32) {
        self.coverage.ran(question);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protect::tests::{carry, ends};

    /// What is reported of a stop, behind which RESUME comes twice.
    fn reported(stop: impl Fn(&mut LoadReporter), takes_loads: bool) -> Vec<Message> {
        let mut ends = ends();
        let mut reporter = LoadReporter::default();
        reporter.hear(3);
        reporter.all_reported();
        reporter.ring_stopped();
        reporter.hear(4);
        stop(&mut reporter);
        reporter.resumed(takes_loads, &mut ends[0]);
        reporter.resumed(takes_loads, &mut ends[0]);
        carry(&mut ends)
    }

    fn load(reporter: &mut LoadReporter) {
        reporter.stopped();
        reporter.stopped_for(true);
    }

    #[test]
    fn one_load_is_reported_once_with_what_was_heard_before_it() {
        assert_eq!(reported(load, true), [Message::Loaded(Some(3))]);
    }

    #[test]
    fn no_other_stop_is_reported() {
        assert_eq!(reported(load, false), []);
        assert_eq!(reported(LoadReporter::stopped, true), []);
        assert_eq!(reported(|reporter| reporter.stopped_for(true), true), []);
        let reconnects = |reporter: &mut LoadReporter| {
            load(reporter);
            reporter.disconnected();
        };
        assert_eq!(reported(reconnects, true), []);
    }

    #[test]
    fn whether_reports_may_come_is_said_once_in_a_session() {
        let mut ends = ends();
        let mut reporter = LoadReporter::default();
        for able in [true, true, false] {
            reporter.send_able(able, &mut ends[0]);
        }
        reporter.session();
        reporter.send_able(false, &mut ends[0]);
        let said = [true, false, false].map(Message::Witnesses);
        assert_eq!(carry(&mut ends), said);
    }
}
