//! The fast path of a segment in order: payload behind all that was compared before, with the same
//! bounds on both sides, and no control bit but ACK and PSH.
//!
//! It does what the general path would do, on the same state, and leaves everything that is not
//! as simple to it, a difference included. [`Stream::is_in_order`] says when a connection may take
//! it, once the general path has come to rest: then a P at the cursor waits for bytes that no S has
//! brought, whatever else arrives.

use super::verdict::REMEMBERED;
use super::{Stream, window};
use crate::compare::bytes::first_difference;
use crate::compare::history::{Entry, EntryNumber};
use crate::compare::hold::{FlowList, Hold, ListKind, NIL, Slot, SlotId};
use crate::flow::FlowId;
use crate::frame::{Frame, Ticks};
use crate::packet::serial::{at_or_before, before, distance, max};
use crate::packet::{Packet, TcpFlags};

/// What became of a segment.
pub(in crate::compare) enum Path<F> {
    /// It was taken in, and this many P left.
    Fast(u64),
    /// Likewise, and the oldest P that stays was found equal in part, which is to be noted.
    Part(u64),
    /// It is for the general path.
    General(F),
}

/// An arriving segment.
pub(in crate::compare) struct Arrival<'a, F> {
    pub frame: F,
    pub packet: &'a Packet,
    pub flow: FlowId,
    pub epoch: u32,
    pub now: Ticks,
}

/// Whether ACK is the only control bit with a meaning here.
#[inline(always)]
pub(super) fn is_plain(flags: TcpFlags) -> bool {
    are_plain([flags; 2])
}

/// The same of two segments.
#[inline(always)]
pub(super) fn are_plain([a, b]: [TcpFlags; 2]) -> bool {
    let meant = TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST | TcpFlags::ACK | TcpFlags::URG;
    ((a.0 ^ TcpFlags::ACK.0) | (b.0 ^ TcpFlags::ACK.0)) & meant.0 == 0
}

impl Stream {
    /// Whether nothing but P, S that they are compared with, and their order matters.
    pub(super) fn is_in_order(&self) -> bool {
        let ends = self.primary_fin.is_some() || self.secondary_fin.is_some();
        !self.diverged
            && !self.extras.unusual
            && !self.awaits_syn
            && !ends
            && self.established
            && self.client_reset.is_none()
            && self.seen_primary
            && self.seen_secondary
            && self.controls.is_empty()
            && self.deferred.is_empty()
            && self.leaves_in_order()
            && self.openings == 0
    }

    /// The general path has done what there was to do: says whether the fast path is open from here.
    pub(super) fn come_to_rest<F: Frame>(&mut self, hold: &Hold<F>) {
        self.fast = self.is_in_order() && self.find_frontier(hold);
        if self.fast {
            // The fast path gives up slots without a look at this mark.
            self.revisited = NIL;
        }
    }

    /// Makes the last complete witness the frontier; false if that takes long to find.
    #[inline(always)]
    pub(super) fn find_frontier<F: Frame>(&mut self, hold: &Hold<F>) -> bool {
        let mut last = self.frontier;
        if last == NIL {
            return self.find_frontier_from_the_end(hold);
        }
        let mut next = hold.next(ListKind::Flow, last);
        while next != NIL && hold.slot(next).complete {
            last = next;
            next = hold.next(ListKind::Flow, last);
        }
        self.frontier = last;
        true
    }

    #[inline(never)]
    fn find_frontier_from_the_end<F: Frame>(&mut self, hold: &Hold<F>) -> bool {
        const REACH: usize = 8;
        let mut last = self.witnesses.tail;
        for _ in 0..REACH {
            if last == NIL || hold.slot(last).complete {
                self.frontier = last;
                return true;
            }
            last = hold.previous(ListKind::Flow, last);
        }
        false
    }

    /// Takes in a P. The caller has seen [`Hold::primary_room`], and nothing is suspended.
    #[inline(always)]
    pub(crate) fn primary_in_order<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        arrival: Arrival<'_, F>,
    ) -> Path<F> {
        debug_assert!(hold.awaits_primary());
        let tcp = arrival.packet.tcp;
        let usual = is_plain(tcp.flags) && !arrival.packet.has_extras();
        if !self.fast || self.epoch != arrival.epoch || !usual {
            return Path::General(arrival.frame);
        }
        let seq = tcp.seq.wrapping_sub(self.primary_base);
        let len = arrival.packet.payload_len;
        if self.cursor == NIL {
            if !self.primaries.is_empty() || !self.acknowledged_by_both(tcp.flags, tcp.ack) {
                return Path::General(arrival.frame);
            }
            if len == 0 {
                self.pass(hold, arrival, None);
                return Path::Fast(1);
            }
            let witness = self.first_unused(hold);
            if witness != NIL {
                return self.meet_secondary(hold, arrival, witness, seq);
            }
        }
        // What comes again or only acknowledges may overtake what is held.
        if self.compared.is_some_and(|(_, to)| before(seq, to)) {
            return Path::General(arrival.frame);
        }
        let last = self.primaries.tail;
        if last != NIL {
            let last = hold.slot(last);
            if len == 0 || last.len == 0 || before(seq, last.end()) {
                return Path::General(arrival.frame);
            }
        }
        let (packet, flow) = (arrival.packet, arrival.flow);
        let id = match hold.insert_primary(arrival.frame, arrival.now) {
            Ok(id) => id,
            Err(frame) => return Path::General(frame),
        };
        let slot = hold.slot_mut(id);
        fill_primary(slot, packet, flow, seq);
        hold.push_back(ListKind::Flow, &mut self.primaries, id);
        if self.cursor == NIL {
            self.cursor = id;
        }
        Path::Fast(0)
    }

    /// The first S behind those that P have used up; where the last of them is not known any more,
    /// the first of all.
    #[inline(always)]
    pub(super) fn first_unused<F: Frame>(&self, hold: &Hold<F>) -> SlotId {
        match self.frontier {
            NIL => self.witnesses.head,
            frontier => hold.next(ListKind::Flow, frontier),
        }
    }

    /// A P that nothing waits before arrives after its S.
    #[inline(always)]
    fn meet_secondary<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        arrival: Arrival<'_, F>,
        witness: SlotId,
        seq: u32,
    ) -> Path<F> {
        let packet = arrival.packet;
        let slot = hold.slot(witness);
        let simple = !slot.complete
            && slot.seq == seq
            && slot.len == packet.payload_len
            && self.compared.is_none_or(|(_, to)| to == seq);
        if !simple {
            return self.meet_secondaries(hold, arrival, witness, seq);
        }
        let (s, at) = (hold.frame(witness), usize::from(slot.payload));
        if !is_equal(&arrival.frame, packet, s, at) {
            return Path::General(arrival.frame);
        }
        let arrived = slot.came();
        hold.unlink(ListKind::Flow, &mut self.witnesses, witness);
        self.newest_entry = hold.archive(witness, arrival.flow, self.last_entry());
        self.has_entries = true;
        self.extend_compared(seq, seq.wrapping_add(packet.payload_len));
        self.pass(hold, arrival, Some(arrived));
        Path::Fast(1)
    }

    /// Lets a P leave that never needed a slot.
    #[inline(always)]
    pub(super) fn pass<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        arrival: Arrival<'_, F>,
        witnessed: Option<Ticks>,
    ) {
        let tcp = arrival.packet.tcp;
        let mut frame = arrival.frame;
        if let Some(limit) = self.secondary_window {
            window::lower(&mut frame, arrival.packet.l4, tcp.flags, tcp.window, limit);
        }
        self.note_left(tcp.ack);
        hold.pass(frame, arrival.now, witnessed);
    }

    #[inline(always)]
    pub(super) fn note_left(&mut self, ack: u32) {
        if let Some(before) = self.primary_ack {
            let ahead = distance(before, ack);
            if ahead <= 0 {
                return;
            }
            self.note_client_end(ahead, ack);
        }
        self.primary_ack = Some(ack);
    }

    /// Takes in an S. The caller has seen [`Hold::secondary_is_full`], and nothing is suspended.
    #[inline(always)]
    pub(crate) fn secondary_in_order<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        arrival: Arrival<'_, F>,
    ) -> Path<F> {
        let (packet, tcp) = (arrival.packet, arrival.packet.tcp);
        let usual = is_plain(tcp.flags) && !packet.has_extras();
        if !self.fast || self.epoch != arrival.epoch || !usual {
            return Path::General(arrival.frame);
        }
        if packet.payload_len == 0 {
            if !self.primaries.is_empty() {
                return Path::General(arrival.frame);
            }
            self.note_acknowledged(tcp.ack, Some(tcp.window));
            return Path::Fast(0);
        }
        let seq = tcp.seq.wrapping_sub(self.secondary_base);
        let last = self.witnesses.tail;
        let overlaps = self.compared.is_some_and(|(_, to)| before(seq, to))
            || (last != self.frontier && last != NIL && before(seq, hold.slot(last).end()));
        if overlaps {
            return Path::General(arrival.frame);
        }
        debug_assert!(!hold.secondary_is_full());
        if self.cursor != NIL {
            return self.meet_primary(hold, arrival, seq);
        }
        if !self.primaries.is_empty() {
            return Path::General(arrival.frame);
        }
        let id = match hold.insert_secondary(arrival.frame, arrival.now) {
            Ok(id) => id,
            Err(frame) => return Path::General(frame),
        };
        self.note_acknowledged(tcp.ack, Some(tcp.window));
        self.append_witness(hold, id, packet, arrival.flow, seq);
        Path::Fast(0)
    }

    /// Gives an S its place behind the others.
    #[inline(always)]
    pub(super) fn append_witness<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        id: SlotId,
        packet: &Packet,
        flow: FlowId,
        seq: u32,
    ) {
        let slot = hold.slot_mut(id);
        slot.seq = seq;
        slot.len = packet.payload_len;
        slot.payload = packet.payload;
        slot.flow = Some(flow);
        slot.place = FlowList::Witness;
        hold.push_back(ListKind::Flow, &mut self.witnesses, id);
    }

    /// An S that no witness overlaps arrives after the P at the cursor.
    #[inline(always)]
    fn meet_primary<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        arrival: Arrival<'_, F>,
        seq: u32,
    ) -> Path<F> {
        let (packet, tcp) = (arrival.packet, arrival.packet.tcp);
        let id = self.cursor;
        let slot = hold.slot(id);
        let acknowledged = self.secondary_ack.map_or(tcp.ack, |ack| max(ack, tcp.ack));
        let simple = slot.seq == seq
            && slot.len == packet.payload_len
            && slot.verified == 0
            && is_plain(slot.flags)
            && self.primaries.head == id
            && at_or_before(slot.ack, acknowledged)
            && self.compared.is_none_or(|(_, to)| to == seq)
            && self.waits_from(hold, hold.next(ListKind::Flow, id), slot.end());
        if !simple {
            return self.meet_primaries(hold, arrival, seq);
        }
        let (p, at) = (hold.frame(id), usize::from(slot.payload));
        if !is_equal(&arrival.frame, packet, p, at) {
            return Path::General(arrival.frame);
        }
        let ack = slot.ack;
        self.note_acknowledged(tcp.ack, Some(tcp.window));
        if let Some(limit) = self.secondary_window {
            lower_window(hold, id, limit);
        }
        hold.unlink(ListKind::Flow, &mut self.primaries, id);
        self.note_left(ack);
        hold.release_met(id, arrival.now);
        self.leave_as_history(hold, arrival, seq);
        self.cursor = self.primaries.head;
        Path::Fast(1)
    }

    /// Keeps an S that came now and was found equal, in order. The caller has seen
    /// [`Hold::secondary_is_full`].
    #[inline(always)]
    pub(super) fn leave_as_history<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        arrival: Arrival<'_, F>,
        seq: u32,
    ) {
        let packet = arrival.packet;
        self.newest_entry = hold.keep_entry(Entry {
            frame: arrival.frame,
            arrived: arrival.now,
            flow: arrival.flow,
            before: self.last_entry(),
            seq,
            len: packet.payload_len,
            payload: packet.payload,
        });
        self.has_entries = true;
        self.extend_compared(seq, seq.wrapping_add(packet.payload_len));
    }

    /// What [`Stream::note_compared`] does where nothing is compared yet or the range goes on.
    #[inline(always)]
    pub(super) fn extend_compared(&mut self, seq: u32, end: u32) {
        let from = self.compared.map_or(seq, |(from, _)| from);
        let long = distance(from, end) > REMEMBERED;
        let from = if long {
            end.wrapping_sub(REMEMBERED as u32)
        } else {
            from
        };
        self.compared = Some((from, end));
    }

    #[inline(always)]
    pub(super) fn last_entry(&self) -> Option<EntryNumber> {
        self.has_entries.then_some(self.newest_entry)
    }

    /// Takes all that the fast path has left as history back among the witnesses, before the
    /// general path or a commit looks at them. It lies behind all other history and before the S that
    /// no P has used up.
    #[inline(always)]
    pub(super) fn restore<F: Frame>(&mut self, hold: &mut Hold<F>, flow: FlowId) {
        if self.has_entries {
            self.restore_entries(hold, flow);
        }
    }

    #[inline(never)]
    fn restore_entries<F: Frame>(&mut self, hold: &mut Hold<F>, flow: FlowId) {
        self.has_entries = false;
        let mut after = self.frontier;
        let mut newest = NIL;
        let mut entry = Some(self.newest_entry);
        while let Some((id, earlier)) = entry.and_then(|mark| hold.restore(flow, mark)) {
            if newest == NIL {
                newest = id;
                if after == NIL {
                    let seq = hold.slot(id).seq;
                    after = self.witnesses.tail;
                    while after != NIL && before(seq, hold.slot(after).seq) {
                        after = hold.previous(ListKind::Flow, after);
                    }
                }
            }
            hold.insert_after(ListKind::Flow, &mut self.witnesses, after, id);
            entry = earlier;
        }
        if newest != NIL {
            self.frontier = newest;
        }
    }

    /// Whether a P, if there is one, has nothing before a position from which on there is no S.
    #[inline(always)]
    fn waits_from<F: Frame>(&self, hold: &Hold<F>, id: SlotId, position: u32) -> bool {
        if id == NIL {
            return true;
        }
        let slot = hold.slot(id);
        is_plain(slot.flags) && slot.len > 0 && at_or_before(position, slot.seq)
    }

    #[inline(always)]
    pub(super) fn note_acknowledged(&mut self, ack: u32, window: Option<u16>) {
        if let Some(before) = self.secondary_ack {
            let ahead = distance(before, ack);
            if ahead < 0 {
                return;
            }
            self.note_client_end(ahead, ack);
        }
        self.secondary_ack = Some(ack);
        self.secondary_window = window;
    }
}

/// Copies what the comparison needs of a P's headers into its slot.
#[inline(always)]
pub(super) fn fill_primary<F>(slot: &mut Slot<F>, packet: &Packet, flow: FlowId, seq: u32) {
    slot.seq = seq;
    slot.len = packet.payload_len;
    slot.ack = packet.tcp.ack;
    slot.flags = packet.tcp.flags;
    slot.window = packet.tcp.window;
    slot.payload = packet.payload;
    slot.transport = packet.l4;
    slot.flow = Some(flow);
    slot.place = FlowList::Primary;
}

/// Lets a held P advertise no more than a window.
#[inline(always)]
pub(super) fn lower_window<F: Frame>(hold: &mut Hold<F>, id: SlotId, limit: u16) {
    let slot = hold.slot_mut(id);
    let (at, flags, own) = (slot.transport, slot.flags, slot.window);
    if let Some(frame) = &mut slot.frame {
        window::lower(frame, at, flags, own, limit);
    }
}

/// Whether a frame's payload equals as many bytes of another frame from `at` on.
#[inline(always)]
pub(in crate::compare) fn is_equal<F: Frame>(
    frame: &F,
    packet: &Packet,
    other: &F,
    at: usize,
) -> bool {
    let (from, len) = (usize::from(packet.payload), packet.payload_len as usize);
    first_difference(frame, from, other, at, len).is_none()
}
