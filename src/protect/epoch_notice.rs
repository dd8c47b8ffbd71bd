//! What the secondary must still be told of the PVM's epoch.
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
    /// The ring has stopped. Nothing is told of the next epoch before it runs again.
    pub fn fence(&mut self) {
        (self.epoch, self.runs) = (false, false);
    }

    /// A session began. The peer knows no epoch, and learns the next one when that is committed. `runs` says whether
    /// the ring does, `offsets` whether there are offsets to send first.
    pub fn session(&mut self, runs: bool, offsets: bool) {
        (self.epoch, self.runs, self.offsets) = (false, runs, offsets);
    }

    /// The peer was sent all offsets.
    pub fn offsets_sent(&mut self) {
        self.offsets = false;
    }

    /// The ring is polled from now on.
    pub fn ring_runs(&mut self) {
        self.runs = true;
    }

    /// The SVM has loaded the state with which the epoch began.
    pub fn committed(&mut self) {
        self.epoch = true;
    }

    /// Sends what is due, if the link takes it now.
    pub fn send(&mut self, epoch: u32, in_colo: bool, link: &mut Endpoint) {
        if self.epoch && !self.offsets && link.send(Message::Epoch(epoch)).is_ok() {
            (self.epoch, self.runs) = (false, false);
        }
        if self.runs && in_colo && link.has_session() && link.send(Message::Runs(epoch)).is_ok() {
            self.runs = false;
        }
    }
}
