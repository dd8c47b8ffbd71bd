//! A segment that leaves in parts.
//!
//! Guests with offloads send up to 64 KB in a frame, and the two VMs seldom the same 64 KB: their
//! congestion windows differ. If such a P could leave only whole, and ended beyond what the SVM's
//! window lets it send, no acknowledgment would ever come that opens the window. The same holds for a
//! short segment that the SVM repeats with other boundaries after a loss, and for a FIN behind data that
//! the SVM may not send yet. So the part of the oldest P that was found equal leaves as a segment of its
//! own, and the rest waits in its place. Not at once: see [`crate::compare::partial`].

use std::num::NonZeroU16;

use super::fast_path::is_plain;
use super::{Stream, window};
use crate::compare::Context;
use crate::compare::hold::{Hold, NIL, SlotId};
use crate::frame::{Frame, Ticks};
use crate::packet::segmentation::{Piece, Segmentation};
use crate::packet::{Packet, TcpFlags, checksum, is_signed};

/// The part of the timeout for which a segment that the node would not cut waits for its rest before it
/// leaves in part: longer than the SVM is behind as a rule, and shorter than its retransmission timer.
const WAITS: Ticks = 64;

impl Stream {
    /// The oldest P, if it was found equal in part and waits for the rest.
    fn partly_equal<F: Frame>(&self, hold: &Hold<F>) -> Option<SlotId> {
        let oldest = self.primaries.head;
        if oldest == NIL || oldest != self.cursor || hold.slot(oldest).verified == 0 {
            return None;
        }
        Some(oldest).filter(|id| hold.slot(*id).len > 1)
    }

    /// Notes whether such a P is looked at later.
    pub(crate) fn set_partial(&mut self, noted: bool) {
        self.is_partial = noted;
    }

    /// Has the flow looked at later if there is such a P.
    #[inline]
    pub(super) fn note_part<F: Frame>(&mut self, cx: &mut Context<'_, F>) {
        if !self.is_partial && self.partly_equal(cx.hold).is_some() {
            self.is_partial = cx.partial.note(cx.flow, cx.now);
        }
    }

    /// Lets its equal part leave, and whatever may leave then.
    pub(crate) fn part<F: Frame>(&mut self, cx: &mut Context<'_, F>) {
        self.is_partial = false;
        self.catch_up(cx.hold);
        if self.diverged || self.epoch != cx.epoch {
            return;
        }
        let Some(id) = self.partly_equal(cx.hold) else {
            return;
        };
        let slot = cx.hold.slot(id);
        let compared = slot.witnessed().unwrap_or(slot.arrived);
        let is_short = cx.hold.frame(id).offload().segment.is_none();
        if is_short && cx.now.saturating_sub(compared) < cx.timeout / WAITS {
            self.note_part(cx);
            return;
        }
        // A FIN that waits keeps the last byte: a segment without data would be a bare acknowledgment.
        let part = slot.verified.min(slot.len - 1);
        if self.divide(cx, id, part) {
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
        let whole = part == 0 || part >= slot.len || slot.opens || slot.has_extras();
        if whole
            || !is_plain(TcpFlags(flags.0 & !TcpFlags::FIN.0))
            || self
                .is_urgent_at_secondary(seq, seq.wrapping_add(part))
                .is_some()
            || !self.acknowledged_by_both(flags, ack)
            || cx.hold.primary_room() == 0
        {
            return false;
        }
        let Some([mut front, rest]) = parts(cx.hold.frame(id), part) else {
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

/// Divides a segment behind its first `first` bytes of payload; `None` where its headers do not allow that,
/// where it is signed (RFC 2385, RFC 5925) or its checksum is wrong, and where there is no memory.
fn parts<F: Frame>(frame: &F, first: u32) -> Option<[F; 2]> {
    let packet = Packet::parse(frame.head(), frame.len());
    if is_signed(packet.tcp_options(frame.head())) {
        return None;
    }
    let is_partial = frame.has_partial_checksum();
    if !is_partial && checksum::verify(&packet, frame.segments()) != Some(true) {
        return None;
    }
    let whole = NonZeroU16::new(packet.payload_len.try_into().ok()?)?;
    let size = frame.offload().segment.unwrap_or(whole);
    let plan = Segmentation::new(&packet, size)?;
    let part = |piece: &Piece| {
        let mut part = frame.excerpt(plan.headers(), piece.start, piece.len)?;
        let payload = (!is_partial).then(|| checksum::behind(part.segments(), plan.headers()));
        let headers = part.head_mut()?.get_mut(..plan.headers())?;
        match payload {
            Some(sum) => plan.write(piece, headers, sum),
            None => plan.write_partial(piece, headers),
        }
        Some(part)
    };
    let [front, rest] = plan.divide(first as usize)?;
    Some([part(&front)?, part(&rest)?])
}
