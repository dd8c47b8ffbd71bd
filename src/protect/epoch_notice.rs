//! What the secondary must still learn of the PVM's epoch.
//!
//! In: fences, commits, sessions. Out: [`Message::Epoch`] and [`Message::Runs`] on the link, as soon as it takes them. The
//! first one says what the second one does, too.

use crate::link::{Endpoint, Message};

/// The messages that are due.
#[derive(Debug, Default)]
pub(super) struct EpochNotice {
    /// The secondary must still get the epoch.
    epoch: bool,
    /// The secondary must still learn that the ring runs in the epoch.
    runs: bool,
    /// Offsets that the secondary must have before its VM loads another state.
    offsets: bool,
}

impl EpochNotice {
    /// The ring has stopped. Nothing is said of the next epoch before it runs again.
    pub(crate) fn fence(&mut self) {
        (self.epoch, self.runs) = (false, false);
    }

    /// A session began. The peer knows no epoch, and learns the next one when that is committed. `runs` says whether
    /// the ring does, `offsets` whether there are offsets to send first.
    pub(crate) fn session(&mut self, runs: bool, offsets: bool) {
        (self.epoch, self.runs, self.offsets) = (false, runs, offsets);
    }

    /// The peer was sent all offsets.
    pub(crate) fn offsets_sent(&mut self) {
        self.offsets = false;
    }

    /// The ring is polled from now on.
    pub(crate) fn ring_runs(&mut self) {
        self.runs = true;
    }

    /// The SVM has loaded the state with which the epoch began.
    pub(crate) fn committed(&mut self) {
        self.epoch = true;
    }

    /// Sends what is due, if the link takes it now.
    pub(crate) fn send(&mut self, epoch: u32, in_colo: bool, link: &mut Endpoint) {
        if self.epoch && !self.offsets && link.send(Message::Epoch(epoch)).is_ok() {
            (self.epoch, self.runs) = (false, false);
        }
        if self.runs && in_colo && link.has_session() && link.send(Message::Runs(epoch)).is_ok() {
            self.runs = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protect::tests::{carry, ends};

    /// What is said when a ring runs again, `committed` or not, behind a session that needs `offsets` or none.
    fn said(committed: bool, offsets: bool, then: impl Fn(&mut EpochNotice)) -> Vec<Message> {
        let mut ends = ends();
        let mut notice = EpochNotice::default();
        notice.session(false, offsets);
        notice.ring_runs();
        if committed {
            notice.committed();
        }
        notice.send(5, true, &mut ends[0]);
        then(&mut notice);
        notice.send(5, true, &mut ends[0]);
        carry(&mut ends)
    }

    #[test]
    fn an_epoch_says_that_the_ring_runs() {
        assert_eq!(said(true, false, |_| {}), [Message::Epoch(5)]);
        assert_eq!(said(false, false, |_| {}), [Message::Runs(5)]);
    }

    #[test]
    fn an_epoch_waits_for_the_offsets_of_a_takeover() {
        assert_eq!(said(true, true, |_| {}), [Message::Runs(5)]);
        assert_eq!(
            said(true, true, EpochNotice::offsets_sent),
            [Message::Runs(5), Message::Epoch(5)]
        );
    }

    #[test]
    fn nothing_is_said_of_an_epoch_that_has_ended() {
        assert_eq!(said(true, true, EpochNotice::fence), [Message::Runs(5)]);
    }

    #[test]
    fn a_full_link_gets_the_epoch_later() {
        let mut ends = ends();
        let mut notice = EpochNotice::default();
        while ends[0].send(Message::InputLost(1)).is_ok() {}
        notice.ring_runs();
        notice.committed();
        notice.send(5, true, &mut ends[0]);
        carry(&mut ends);
        ends.reverse();
        carry(&mut ends);
        ends.reverse();
        assert!(ends[0].has_control_room());
        notice.send(5, true, &mut ends[0]);
        assert_eq!(carry(&mut ends), [Message::Epoch(5)]);
    }
}
