//! Keepalives with a byte (RFC 9293, 3.8.4): a segment of one byte just below the end of what has left.
//!
//! Its byte is no data: a stack may send whatever lies about. So it is no witness, and it leaves if
//! the SVM has sent the same in this epoch (rule R5 names that exception), or if it is the stream's
//! own byte, as a retransmission is.

use super::Stream;
use super::fast_path::is_plain;
use super::verdict::Verdict;
use super::witnesses::difference;
use crate::compare::Context;
use crate::compare::divergence::Reason;
use crate::compare::hold::{Hold, SlotId};
use crate::frame::Frame;
use crate::packet::Packet;

/// The position of a keepalive and its byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    position: u32,
    byte: u8,
}

impl Stream {
    /// Where a keepalive stands: one before the next number that the guest will use.
    fn probe_position(&self) -> Option<u32> {
        let next = match (self.primary_fin, self.compared, self.primary_syn) {
            (Some(fin), ..) => fin.wrapping_add(1),
            (None, Some((_, to)), _) => to,
            (None, None, syn) => syn?.number.wrapping_sub(self.primary_base).wrapping_add(1),
        };
        Some(next.wrapping_sub(1))
    }

    /// Keeps in mind an S that may be a keepalive; false if it is none.
    #[inline]
    pub(super) fn note_probe<F: Frame>(
        &mut self,
        frame: &F,
        packet: &Packet,
        position: u32,
    ) -> bool {
        packet.payload_len == 1 && self.note_probe_of_one(frame, packet, position)
    }

    #[inline(never)]
    fn note_probe_of_one<F: Frame>(&mut self, frame: &F, packet: &Packet, position: u32) -> bool {
        if !is_plain(packet.tcp.flags) || self.probe_position() != Some(position) {
            return false;
        }
        let Some(byte) = byte_at(frame, usize::from(packet.payload)) else {
            return false;
        };
        self.probe = Some(Probe { position, byte });
        true
    }

    /// Whether a P may be a keepalive.
    pub(super) fn is_probe<F: Frame>(&self, hold: &Hold<F>, id: SlotId) -> bool {
        let slot = hold.slot(id);
        slot.len == 1 && is_plain(slot.flags) && self.probe_position() == Some(slot.seq)
    }

    /// What becomes of a P that is one, unless its byte is the stream's own.
    pub(super) fn probe_verdict<F: Frame>(
        &self,
        cx: &Context<'_, F>,
        id: SlotId,
    ) -> Option<Verdict> {
        let hold = &*cx.hold;
        if !self.is_probe(hold, id) {
            return None;
        }
        let slot = hold.slot(id);
        let position = slot.seq;
        let byte = byte_at(hold.frame(id), usize::from(slot.payload))?;
        if let Some(w) = self.covering(hold, position)
            && (difference(hold, id, w, position, 1).is_none()
                || self.has_masked(cx, position, byte))
        {
            return None;
        }
        Some(
            match self.probe.filter(|probe| probe.position == position) {
                Some(probe) if probe.byte == byte => Verdict::Complete,
                Some(_) => Verdict::Differs(Reason::Payload, None, position),
                None => Verdict::Waits,
            },
        )
    }
}

/// The byte of a frame at an offset.
fn byte_at<F: Frame>(frame: &F, offset: usize) -> Option<u8> {
    let mut rest = offset;
    for segment in frame.segments() {
        match segment.get(rest) {
            Some(byte) => return Some(*byte),
            None => rest -= segment.len(),
        }
    }
    None
}
