//! What the VMs' SYNs say apart from their numbers.
//!
//! A host may repeat a SYN with other options: Linux leaves out ECN (RFC 3168, 6.1.1.1), a Fast Open
//! cookie or MPTCP when there is no answer. So each P needs an S that says the same, whichever of the
//! SVM's it is, and one that lags behind is waited for.

use super::Stream;
use crate::compare::hold::SlotId;
use crate::compare::{Context, Numbers};
use crate::frame::Frame;
use crate::packet::{Isn, Packet};

/// How a P's SYN stands to the SVM's.
pub(super) enum Agreement {
    Agrees,
    /// All that the SVM has said the PVM has said as well, but not yet what this P says.
    Waits,
    Differs,
}

impl Stream {
    /// Notes what a SYN of the PVM says, if it belongs to this incarnation.
    pub(super) fn note_primary_opening<F: Frame>(&mut self, frame: &F, packet: &Packet) {
        if self
            .primary_syn
            .is_some_and(|syn| syn.number == packet.tcp.seq)
        {
            let digest = packet.syn_digest(frame.head());
            self.extras.primary_openings.note(digest);
        }
    }

    /// The same of the SVM.
    pub(super) fn note_secondary_opening<F: Frame>(&mut self, frame: &F, packet: &Packet) {
        if self
            .secondary_syn
            .is_some_and(|syn| syn.number == packet.tcp.seq)
        {
            let digest = packet.syn_digest(frame.head());
            self.extras.secondary_openings.note(digest);
        }
    }

    /// Compares a P's SYN with the SVM's.
    pub(super) fn compare_openings<F: Frame>(
        &mut self,
        cx: &Context<'_, F>,
        id: SlotId,
        [primary, secondary]: [Isn; 2],
    ) -> Agreement {
        let frame = cx.hold.frame(id);
        let packet = Packet::parse(frame.head(), frame.len());
        self.note_primary_opening(frame, &packet);
        // Nobody can translate the numbers of a signed segment; a checkpoint makes them equal.
        let is_translated = cx.numbers == Numbers::Translated && primary.number != secondary.number;
        if is_translated && packet.is_signed(frame.head()) {
            return Agreement::Differs;
        }
        let (own, others) = (
            &self.extras.primary_openings,
            &self.extras.secondary_openings,
        );
        if others.has(packet.syn_digest(frame.head())) {
            Agreement::Agrees
        } else if others.iter().all(|said| own.has(said)) {
            Agreement::Waits
        } else {
            Agreement::Differs
        }
    }
}
