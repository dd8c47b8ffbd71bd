//! The fast path of segments in order whose boundaries differ between the VMs: guests with TSO send the same bytes
//! in other frames.
//!
//! What was compared last is the cursor into both streams: the P at [`Stream::cursor`] with its `verified` bytes, or
//! the first S that is not used up with what lies before the end of `compared`. From there a frame that arrives is
//! compared with one frame of the other VM after the other, without a search and, where it is used up at once, without
//! a slot of its own.
//!
//! Nothing is changed before all of it was found equal and every P that it completes may leave. So whatever is not as
//! simple, a difference included, is left to the general path as it came.

use super::Stream;
use super::fast_path::{Arrival, Path, fill_primary, is_plain, lower_window};
use crate::compare::bytes::first_difference;
use crate::compare::hold::{Hold, ListKind, NIL, SlotId};
use crate::flow::FlowId;
use crate::frame::{Frame, Ticks};
use crate::packet::serial::{at_or_before, before, max, min};

/// How far a frame that arrives was found equal.
struct Reach {
    /// Position behind the last byte that was.
    at: u32,
    /// The first frame of the other VM that is not used up; [`NIL`] if all are.
    next: SlotId,
    /// When the last of the frames came that it was compared with.
    arrived: Ticks,
}

impl Stream {
    /// A P that nothing waits before, and that acknowledges nothing ahead of the SVM, arrives after S with other
    /// boundaries.
    #[inline(never)]
    pub(super) fn meet_secondaries<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        arrival: Arrival<'_, F>,
        first: SlotId,
        seq: u32,
    ) -> Path<F> {
        debug_assert!(self.primaries.is_empty() && self.cursor == NIL);
        let end = seq.wrapping_add(arrival.packet.payload_len);
        let Some(reach) = self.reach_of_primary(hold, &arrival, first, seq) else {
            return Path::General(arrival.frame);
        };
        let (flow, now) = (arrival.flow, arrival.now);
        if reach.at == end {
            self.archive_used_up(hold, flow, first, reach.next);
            self.extend_compared(seq, end);
            self.pass(hold, arrival, Some(reach.arrived));
            return Path::Fast(1);
        }
        let packet = arrival.packet;
        let id = match hold.insert_primary(arrival.frame, now) {
            Ok(id) => id,
            Err(frame) => return Path::General(frame),
        };
        self.archive_used_up(hold, flow, first, reach.next);
        self.extend_compared(seq, reach.at);
        let slot = hold.slot_mut(id);
        fill_primary(slot, packet, flow, seq);
        slot.verified = reach.at.wrapping_sub(seq);
        slot.witness(reach.arrived);
        hold.push_back(ListKind::Flow, &mut self.primaries, id);
        self.cursor = id;
        self.begins_in_order = true;
        self.wait_for_rest(0)
    }

    /// How far a P was found equal to S from `first` on; `None` where it is not as simple.
    #[inline(always)]
    fn reach_of_primary<F: Frame>(
        &self,
        hold: &Hold<F>,
        arrival: &Arrival<'_, F>,
        first: SlotId,
        seq: u32,
    ) -> Option<Reach> {
        let packet = arrival.packet;
        let end = seq.wrapping_add(packet.payload_len);
        if self.compared.is_some_and(|(_, to)| to != seq) {
            return None;
        }
        let mut reach = Reach {
            at: seq,
            next: first,
            arrived: 0,
        };
        while reach.at != end && reach.next != NIL {
            let (at, slot) = (reach.at, hold.slot(reach.next));
            let has_byte = at_or_before(slot.seq, at) && before(at, slot.end());
            if slot.complete || !has_byte {
                return None;
            }
            let to = min(slot.end(), end);
            let own = usize::from(packet.payload) + at.wrapping_sub(seq) as usize;
            let others = usize::from(slot.payload) + at.wrapping_sub(slot.seq) as usize;
            let n = to.wrapping_sub(at) as usize;
            let other = slot.frame.as_ref()?;
            if first_difference(&arrival.frame, own, other, others, n).is_some() {
                return None;
            }
            reach.at = to;
            reach.arrived = reach.arrived.max(slot.came());
            if to == slot.end() {
                reach.next = slot.following();
            }
        }
        Some(reach)
    }

    /// Makes history of the witnesses from `first` to before `next`.
    #[inline(always)]
    fn archive_used_up<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        flow: FlowId,
        first: SlotId,
        next: SlotId,
    ) {
        let mut id = first;
        while id != next {
            let behind = hold.next(ListKind::Flow, id);
            hold.unlink(ListKind::Flow, &mut self.witnesses, id);
            self.newest_entry = hold.archive(id, flow, self.last_entry());
            self.has_entries = true;
            id = behind;
        }
    }

    /// An S that no witness overlaps arrives after P with other boundaries.
    #[inline(never)]
    pub(super) fn meet_primaries<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        arrival: Arrival<'_, F>,
        seq: u32,
    ) -> Path<F> {
        let (packet, tcp, now) = (arrival.packet, arrival.packet.tcp, arrival.now);
        let end = seq.wrapping_add(packet.payload_len);
        let Some(reach) = self.reach_of_secondary(hold, &arrival, seq) else {
            return Path::General(arrival.frame);
        };
        self.note_acknowledged(tcp.ack, Some(tcp.window));
        let mut released = 0;
        while self.cursor != reach.next {
            let id = self.cursor;
            if let Some(limit) = self.secondary_window {
                lower_window(hold, id, limit);
            }
            let slot = hold.slot(id);
            let (ack, seq, end) = (slot.ack, slot.seq, slot.end());
            if slot.verified > 0 && !self.begins_in_order {
                // The general path began with it, and `compared` may begin behind its first byte.
                self.note_part_on_wire(seq, end);
            }
            hold.unlink(ListKind::Flow, &mut self.primaries, id);
            self.note_left(ack);
            hold.release_met(id, now);
            self.cursor = self.primaries.head;
            released += 1;
        }
        // None but the last has bytes left that S may witness.
        let mut waits = false;
        if self.cursor != NIL {
            let slot = hold.slot_mut(self.cursor);
            let verified = reach.at.wrapping_sub(slot.seq);
            waits = at_or_before(slot.seq, reach.at) && verified != slot.verified;
            if waits {
                self.begins_in_order |= slot.verified == 0;
                slot.verified = verified;
                slot.witness(now);
            }
        }
        if reach.at == end {
            self.leave_as_history(hold, arrival, seq);
        } else {
            self.extend_compared(seq, reach.at);
            let kept = hold.insert_secondary(arrival.frame, now);
            debug_assert!(kept.is_ok(), "the caller has seen that there is room");
            if let Ok(id) = kept {
                self.append_witness(hold, id, packet, arrival.flow, seq);
            }
        }
        match waits {
            true => self.wait_for_rest(released),
            false => Path::Fast(released),
        }
    }

    /// How far an S was found equal to P from the cursor on, and that all that it completes may leave; `None` where it
    /// is not as simple.
    #[inline(always)]
    fn reach_of_secondary<F: Frame>(
        &self,
        hold: &Hold<F>,
        arrival: &Arrival<'_, F>,
        seq: u32,
    ) -> Option<Reach> {
        let (packet, ack) = (arrival.packet, arrival.packet.tcp.ack);
        let end = seq.wrapping_add(packet.payload_len);
        let gate = self.secondary_ack.map_or(ack, |before| max(before, ack));
        let expected = self.compared.is_none_or(|(_, to)| to == seq);
        if !expected || self.primaries.head != self.cursor {
            return None;
        }
        let mut reach = Reach {
            at: seq,
            next: self.cursor,
            arrived: arrival.now,
        };
        while reach.next != NIL {
            let (at, slot) = (reach.at, hold.slot(reach.next));
            if !is_plain(slot.flags) || slot.len == 0 {
                return None;
            }
            if at == end {
                // It waits for bytes that no S has brought.
                return at_or_before(at, slot.seq).then_some(reach);
            }
            if slot.seq.wrapping_add(slot.verified) != at {
                return None;
            }
            let to = min(slot.end(), end);
            let own = usize::from(packet.payload) + at.wrapping_sub(seq) as usize;
            let others = usize::from(slot.payload) + slot.verified as usize;
            let n = to.wrapping_sub(at) as usize;
            let other = slot.frame.as_ref()?;
            if first_difference(&arrival.frame, own, other, others, n).is_some() {
                return None;
            }
            reach.at = to;
            if to != slot.end() {
                break;
            }
            if !at_or_before(slot.ack, gate) {
                return None;
            }
            reach.next = slot.following();
        }
        Some(reach)
    }

    /// The oldest P was found equal in part.
    #[inline(always)]
    fn wait_for_rest<F>(&mut self, released: u64) -> Path<F> {
        match self.is_partial {
            true => Path::Fast(released),
            false => Path::Part(released),
        }
    }
}
