//! What a guest sent as one long frame to be cut, leaving in parts.
//!
//! Guests with offloads send up to 64 KB in a frame, and the two VMs seldom the same 64 KB: their
//! congestion windows differ. If such a P could leave only whole, and ended beyond what the SVM's
//! window lets it send, no acknowledgment would ever come that opens the window. So the part of
//! the oldest P that was found equal leaves as a frame of its own, just as its segments would on
//! the wire, and the rest waits in its place. Not at once: see [`crate::compare::partial`].

use std::num::NonZeroU16;

use super::{Stream, window};
use crate::compare::Context;
use crate::compare::hold::{Hold, NIL, SlotId};
use crate::frame::Frame;
use crate::packet::segmentation::{Piece, Segmentation};
use crate::packet::{Packet, TcpFlags};

impl Stream {
    /// The oldest P, if it is a long one that was found equal in part and waits for the rest.
    fn partly_equal<F: Frame>(&self, hold: &Hold<F>) -> Option<SlotId> {
        let oldest = self.primaries.head;
        if oldest == NIL || oldest != self.cursor || hold.slot(oldest).verified == 0 {
            return None;
        }
        Some(oldest).filter(|id| hold.frame(*id).offload().segment.is_some())
    }

    /// Has the flow looked at later if there is such a P.
    #[inline]
    pub(super) fn note_part<F: Frame>(&mut self, cx: &mut Context<'_, F>) {
        if !self.is_partial && self.partly_equal(cx.hold).is_some() {
            self.is_partial = cx.partial.note(cx.flow, cx.now);
        }
    }

    /// Lets its equal part leave, and whatever may leave then.
    pub fn part<F: Frame>(&mut self, cx: &mut Context<'_, F>) {
        self.is_partial = false;
        if self.diverged || self.epoch != cx.epoch {
            return;
        }
        let Some(id) = self.partly_equal(cx.hold) else {
            return;
        };
        if self.divide(cx, id, cx.hold.slot(id).verified) {
            *cx.released += 1;
            // With that, what repeats a byte of the part may leave before what is held still.
            self.advance(cx);
        }
        // The acknowledgment or the memory that it lacks may come.
        self.note_part(cx);
    }

    /// Divides a P behind its first `part` bytes, which were found equal. They may leave now by their order.
    /// False if the part may not leave.
    pub(super) fn divide<F: Frame>(
        &mut self,
        cx: &mut Context<'_, F>,
        id: SlotId,
        part: u32,
    ) -> bool {
        let slot = cx.hold.slot(id);
        debug_assert!(part <= slot.verified);
        let (seq, flags, ack) = (slot.seq, slot.flags, slot.ack);
        let (transport, own, verified) = (slot.transport, slot.window, slot.verified);
        let Some(size) = cx.hold.frame(id).offload().segment else {
            return false;
        };
        let whole = part == 0 || part >= slot.len || slot.opens;
        if whole
            || flags.intersects(TcpFlags::SYN | TcpFlags::RST | TcpFlags::URG)
            || self
                .is_urgent_at_secondary(seq, seq.wrapping_add(part))
                .is_some()
            || !self.acknowledged_by_both(flags, ack)
            || cx.hold.primary_room() == 0
        {
            return false;
        }
        let Some([mut front, rest]) = parts(cx.hold.frame(id), part, size) else {
            return false;
        };
        if let Some(limit) = self.secondary_window {
            window::lower(&mut front, transport, flags, own, limit);
        }
        self.raise_stamp(&mut front, self.primaries.head != id);
        self.note_left(ack);
        self.note_part_on_wire(seq, seq.wrapping_add(part));
        cx.hold.divide(id, front, rest, cx.now);
        let slot = cx.hold.slot_mut(id);
        slot.seq = slot.seq.wrapping_add(part);
        slot.len -= part;
        slot.verified = verified - part;
        cx.counts.divided += 1;
        true
    }
}

/// A frame as two, of which the first has so many bytes of payload; `None` where its headers do not
/// allow that or there is no memory.
fn parts<F: Frame>(frame: &F, first: u32, size: NonZeroU16) -> Option<[F; 2]> {
    let packet = Packet::parse(frame.head(), frame.len());
    if !frame.has_partial_checksum() {
        return None;
    }
    let plan = Segmentation::new(&packet, size)?;
    let part = |piece: &Piece| {
        let mut part = frame.excerpt(plan.headers(), piece.start, piece.len)?;
        plan.write_partial(piece, part.head_mut()?.get_mut(..plan.headers())?);
        Some(part)
    };
    let [front, rest] = plan.divide(first as usize)?;
    Some([part(&front)?, part(&rest)?])
}
