//! Urgent data (RFC 9293, 3.8.5; RFC 6093).
//!
//! An urgent pointer names a position of the stream: the segment's sequence number plus the pointer. VMs
//! may cut their streams into different segments, so positions are compared, not pointers. A P that
//! announces a position needs an S that has announced it; a P may not carry the byte before a position
//! that the SVM has announced unless the PVM has announced it, too.

use super::Stream;
use super::verdict::Verdict;
use crate::compare::divergence::Reason;
use crate::compare::hold::{Hold, SlotId};
use crate::frame::Frame;
use crate::packet::serial::before;
use crate::packet::{Packet, TcpFlags};

/// Offset of the urgent pointer in the TCP header (RFC 9293, 3.1).
const POINTER: usize = 18;

/// The position that a segment of these bytes announces, if it announces one, in sequence numbers.
fn announced(head: &[u8], transport: u16, flags: TcpFlags, seq: u32) -> Option<u32> {
    if !flags.contains(TcpFlags::URG) {
        return None;
    }
    let at = usize::from(transport) + POINTER;
    let pointer = head.get(at..).and_then(<[u8]>::first_chunk)?;
    Some(seq.wrapping_add(u32::from(u16::from_be_bytes(*pointer))))
}

impl Stream {
    /// Notes the position that an S announces. `shift` leads from its numbers to positions.
    pub(super) fn note_secondary_urgent<F: Frame>(
        &mut self,
        frame: &F,
        packet: &Packet,
        shift: u32,
    ) {
        let tcp = packet.tcp;
        let at = announced(
            frame.head(),
            packet.l4,
            tcp.flags,
            tcp.seq.wrapping_sub(shift),
        );
        if let Some(at) = at {
            self.extras.secondary_urgent.note(at);
        }
    }

    /// Notes the position that a P announces, once it was found equal or has left.
    pub(super) fn note_primary_urgent<F: Frame>(&mut self, hold: &Hold<F>, id: SlotId) {
        if let Some(at) = announced_by(hold, id) {
            self.extras.primary_urgent.note(at);
        }
    }

    /// Whether a P without urgent data has a byte that the SVM sent as such.
    pub(super) fn is_urgent_at_secondary(&self, seq: u32, end: u32) -> Option<u32> {
        let within = |at: u32| !before(at, seq) && before(at, end);
        self.extras.secondary_urgent.iter().find(|at| {
            (within(*at) || within(at.wrapping_sub(1))) && !self.extras.primary_urgent.has(*at)
        })
    }

    /// What is wrong with the urgent data of a P whose payload was found equal.
    pub(super) fn examine_urgent<F: Frame>(
        &mut self,
        hold: &Hold<F>,
        id: SlotId,
    ) -> Option<Verdict> {
        let slot = hold.slot(id);
        let (seq, end) = (slot.seq, slot.end());
        let Some(at) = announced_by(hold, id) else {
            let at = self.is_urgent_at_secondary(seq, end)?;
            let w = self.covering(hold, at.wrapping_sub(1));
            return Some(Verdict::Differs(Reason::Urgent, w, at.wrapping_sub(1)));
        };
        if self.extras.secondary_urgent.has(at) {
            self.extras.primary_urgent.note(at);
            return None;
        }
        let last = at.wrapping_sub(1);
        if before(last, seq) || !before(last, end) {
            return Some(Verdict::Waits);
        }
        // The SVM has sent the byte itself, and not as urgent.
        Some(Verdict::Differs(
            Reason::Urgent,
            self.covering(hold, last),
            last,
        ))
    }
}

fn announced_by<F: Frame>(hold: &Hold<F>, id: SlotId) -> Option<u32> {
    let slot = hold.slot(id);
    if !slot.flags.contains(TcpFlags::URG) {
        return None;
    }
    let syn = u32::from(slot.flags.contains(TcpFlags::SYN));
    let seq = slot.seq.wrapping_sub(syn);
    announced(hold.frame(id).head(), slot.transport, slot.flags, seq)
}
