//! The output of a flow without a byte stream: UDP, ICMP, fragments, other protocols.
//!
//! A P is complete once an S with equal content was seen; P leave in the PVM's order. An S that has
//! no equal P yet waits, so reordering and delay at either side are no difference until the
//! timeout. Equal are the payload, options and extension headers, and of fragments the datagram that
//! they belong to.

use super::Context;
use super::bytes::first_difference;
use super::divergence::Reason;
use super::fragments::{Extent, Fragments};
use super::hold::{FlowList, Hold, List, ListKind, NIL, SlotId};
use super::stream::{Arrival, Path, is_equal};
use crate::frame::{Frame, Ticks};
use crate::packet::{Kind, Packet};

/// How many waiting counterparts are looked at for one datagram; beyond that a pair that is this
/// far out of order waits for the timeout.
const REACH: usize = 64;

/// The comparison of one flow.
#[derive(Default)]
pub(super) struct Datagrams {
    primaries: List,
    /// Those of them that have no counterpart yet.
    open: List,
    secondaries: List,
    fragments: Fragments,
}

impl Datagrams {
    /// Whether nothing of this flow waits.
    pub(super) fn is_quiet(&self) -> bool {
        self.primaries.is_empty() && self.secondaries.is_empty()
    }

    /// Whether it may keep an S where room is left only for flows with few waiting frames.
    pub(super) fn waits_little(&self) -> bool {
        self.secondaries.is_empty()
    }

    /// Whether its P that waits is the only one.
    pub(super) fn has_one(&self) -> bool {
        self.primaries.head == self.primaries.tail
    }

    /// Takes in a P that already has its slot, and lets leave what may.
    pub(super) fn primary<F: Frame>(
        &mut self,
        cx: &mut Context<'_, F>,
        id: SlotId,
        packet: &Packet,
    ) {
        fill(cx.hold, id, packet);
        fill_rest(cx.hold, id, packet);
        let slot = cx.hold.slot_mut(id);
        slot.flow = Some(cx.flow);
        slot.place = FlowList::Primary;
        cx.hold.push_back(ListKind::Flow, &mut self.primaries, id);
        cx.hold.push_back(ListKind::Open, &mut self.open, id);
        if cx.suspended {
            return;
        }
        self.fragments.refresh(cx.epoch, cx.now, cx.timeout);
        let may_meet = |s| self.may_meet(cx.hold, id, s);
        if let Some(s) = find_equal(cx.hold, self.secondaries, ListKind::Flow, id, may_meet) {
            cx.hold.unlink(ListKind::Flow, &mut self.secondaries, s);
            self.complete(cx, id, s);
        }
    }

    /// Takes in an S, and lets leave what may.
    pub(super) fn secondary<F: Frame>(
        &mut self,
        cx: &mut Context<'_, F>,
        frame: F,
        packet: &Packet,
        arrived: Ticks,
    ) {
        let Some(s) = cx.keep(frame, arrived) else {
            return;
        };
        fill(cx.hold, s, packet);
        fill_rest(cx.hold, s, packet);
        self.fragments.refresh(cx.epoch, cx.now, cx.timeout);
        let may_meet = |id| self.may_meet(cx.hold, id, s);
        if let Some(id) = find_equal(cx.hold, self.open, ListKind::Open, s, may_meet) {
            self.complete(cx, id, s);
            return;
        }
        let slot = cx.hold.slot_mut(s);
        slot.flow = Some(cx.flow);
        slot.place = FlowList::Witness;
        cx.hold.push_back(ListKind::Flow, &mut self.secondaries, s);
    }

    /// Takes in a P the fast path: it meets the first S that waits, or none waits. Nothing is
    /// suspended, and the caller has seen [`Hold::primary_room`].
    #[inline(always)]
    pub(super) fn primary_in_order<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        arrival: Arrival<'_, F>,
    ) -> Path<F> {
        let packet = arrival.packet;
        debug_assert!(hold.awaits_primary());
        if packet.has_extras() {
            return Path::General(arrival.frame);
        }
        let s = self.secondaries.head;
        if s != NIL {
            let arrived = hold.slot(s).arrived;
            if !self.primaries.is_empty() || !meets(hold, s, &arrival) {
                return Path::General(arrival.frame);
            }
            hold.unlink(ListKind::Flow, &mut self.secondaries, s);
            hold.remove(s);
            hold.pass(arrival.frame, arrival.now, Some(arrived));
            return Path::Fast(1);
        }
        let id = match hold.insert_primary(arrival.frame, arrival.now) {
            Ok(id) => id,
            Err(frame) => return Path::General(frame),
        };
        fill(hold, id, packet);
        let slot = hold.slot_mut(id);
        slot.flow = Some(arrival.flow);
        slot.place = FlowList::Primary;
        hold.push_back(ListKind::Flow, &mut self.primaries, id);
        hold.push_back(ListKind::Open, &mut self.open, id);
        Path::Fast(0)
    }

    /// Takes in an S the fast path: it meets the P that leaves next, or no P waits.
    #[inline(always)]
    pub(super) fn secondary_in_order<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        arrival: Arrival<'_, F>,
    ) -> Path<F> {
        let packet = arrival.packet;
        debug_assert!(!hold.secondary_is_full());
        if packet.has_extras() {
            return Path::General(arrival.frame);
        }
        let p = self.open.head;
        if p != NIL {
            let next = hold.next(ListKind::Flow, p);
            let last = next == NIL || !hold.slot(next).complete;
            if !last || self.primaries.head != p || !meets(hold, p, &arrival) {
                return Path::General(arrival.frame);
            }
            hold.unlink(ListKind::Flow, &mut self.primaries, p);
            hold.unlink(ListKind::Open, &mut self.open, p);
            hold.release_met(p, arrival.now);
            return Path::Fast(1);
        }
        let s = match hold.insert_secondary(arrival.frame, arrival.now) {
            Ok(s) => s,
            Err(frame) => return Path::General(frame),
        };
        fill(hold, s, packet);
        let slot = hold.slot_mut(s);
        slot.flow = Some(arrival.flow);
        slot.place = FlowList::Witness;
        hold.push_back(ListKind::Flow, &mut self.secondaries, s);
        Path::Fast(0)
    }

    /// Takes in a P and an S of equal headers, while nothing waits. Nothing is suspended, and the
    /// caller has seen [`Hold::primary_room`]. Returns both where they differ.
    #[inline(always)]
    pub(super) fn pair_in_order<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        arrival: Arrival<'_, F>,
        secondary: F,
    ) -> Result<(), (F, F)> {
        let packet = arrival.packet;
        let at = usize::from(packet.payload);
        if !self.is_quiet() || !is_equal(&arrival.frame, packet, &secondary, at) {
            return Err((arrival.frame, secondary));
        }
        hold.pass(arrival.frame, arrival.now, Some(arrival.now));
        Ok(())
    }

    /// Whether a P and an S are of the same datagram as far as that is known.
    fn may_meet<F: Frame>(&self, hold: &Hold<F>, p: SlotId, s: SlotId) -> bool {
        hold.slot(p).fragment == 0 || {
            let identification = |id: SlotId| hold.slot(id).ack;
            self.fragments
                .may_meet(identification(p), identification(s))
        }
    }

    fn complete<F: Frame>(&mut self, cx: &mut Context<'_, F>, id: SlotId, s: SlotId) {
        let slot = cx.hold.slot(id);
        if slot.fragment != 0 {
            let extent = Extent::new(slot.fragment, slot.len);
            self.fragments
                .meet(slot.ack, cx.hold.slot(s).ack, extent, cx.now);
        }
        let arrived = cx.hold.slot(s).arrived;
        cx.hold.remove(s);
        cx.hold.unlink(ListKind::Open, &mut self.open, id);
        let slot = cx.hold.slot_mut(id);
        slot.complete = true;
        slot.witness(arrived);
        while self.primaries.head != NIL && cx.hold.slot(self.primaries.head).complete {
            let id = self.primaries.head;
            self.leave(cx.hold, id);
            cx.hold.release(id, cx.now);
            *cx.released += 1;
        }
    }

    /// Takes the oldest P out of the flow.
    pub(super) fn leave<F: Frame>(&mut self, hold: &mut Hold<F>, id: SlotId) {
        hold.unlink(ListKind::Flow, &mut self.primaries, id);
        if !hold.slot(id).complete {
            hold.unlink(ListKind::Open, &mut self.open, id);
        }
        hold.slot_mut(id).place = FlowList::Nowhere;
    }

    /// Takes an S that a fence removes out of the flow.
    pub(super) fn forget<F: Frame>(&mut self, hold: &mut Hold<F>, id: SlotId) {
        if hold.slot(id).place == FlowList::Witness {
            hold.unlink(ListKind::Flow, &mut self.secondaries, id);
        }
        hold.slot_mut(id).place = FlowList::Nowhere;
    }

    /// Drops everything that the flow still keeps of the SVM.
    pub(super) fn clear<F: Frame>(&mut self, hold: &mut Hold<F>) {
        while self.secondaries.head != NIL {
            let id = self.secondaries.head;
            hold.unlink(ListKind::Flow, &mut self.secondaries, id);
            hold.remove(id);
        }
    }

    /// Why the oldest P of this flow still waits.
    pub(super) fn reason_of_wait<F: Frame>(&self, hold: &Hold<F>) -> Reason {
        // An S that waits beside it shows that both spoke, but not alike.
        if self.primaries.head != NIL
            && !self.secondaries.is_empty()
            && !hold.slot(self.primaries.head).complete
        {
            let (p, s) = (self.primaries.head, self.secondaries.head);
            match first_mismatch(hold, p, s) {
                None if !has_same_extras(hold, p, s) => Reason::Headers,
                _ => Reason::Payload,
            }
        } else {
            Reason::MissingSecondary
        }
    }

    /// The S that waits beside the oldest P.
    pub(super) fn counterpart(&self) -> Option<SlotId> {
        Some(self.secondaries.head).filter(|s| *s != NIL)
    }
}

/// Notes where the content to compare begins: behind the checksum of UDP and ICMP, which may be
/// partial and follows from the rest anyway.
fn fill<F: Frame>(hold: &mut Hold<F>, id: SlotId, packet: &Packet) {
    let slot = hold.slot_mut(id);
    slot.payload = packet.payload;
    slot.len = packet.payload_len;
    slot.fragment = packet.fragment;
    slot.seq = 0;
    slot.verified = u32::from(packet.kind == Kind::Icmp);
}

/// What the general path compares besides: of fragments the identification, which lies in the slot's
/// `ack`, and extras.
fn fill_rest<F: Frame>(hold: &mut Hold<F>, id: SlotId, packet: &Packet) {
    let identification = packet.identification(hold.frame(id).head());
    let slot = hold.slot_mut(id);
    slot.ack = identification;
    if packet.has_extras() {
        slot.mark_extras();
    }
}

/// Whether two datagrams have the same options, extension headers and bytes behind a UDP datagram.
fn has_same_extras<F: Frame>(hold: &Hold<F>, a: SlotId, b: SlotId) -> bool {
    if !hold.slot(a).has_extras() && !hold.slot(b).has_extras() {
        return true;
    }
    let (a, b) = (hold.frame(a), hold.frame(b));
    let [x, y] = [a, b].map(|frame| Packet::parse(frame.head(), frame.len()));
    let (own, others) = (x.surplus(a.head()), y.surplus(b.head()));
    own.len() == others.len()
        && x.has_same_network_options(a.head(), &y, b.head())
        && first_difference(a, own.start, b, others.start, own.len()).is_none()
}

/// Whether a datagram that arrives equals a whole one in a slot, without a checksum to leave out.
#[inline(always)]
fn meets<F: Frame>(hold: &Hold<F>, id: SlotId, arrival: &Arrival<'_, F>) -> bool {
    let slot = hold.slot(id);
    let at = usize::from(slot.payload);
    slot.len == arrival.packet.payload_len
        && !slot.has_extras()
        && is_equal(&arrival.frame, arrival.packet, hold.frame(id), at)
}

/// The first slot of a list with equal content that may meet this one, within [`REACH`].
fn find_equal<F: Frame>(
    hold: &Hold<F>,
    list: List,
    link: ListKind,
    id: SlotId,
    may_meet: impl Fn(SlotId) -> bool,
) -> Option<SlotId> {
    let mut other = list.head;
    for _ in 0..REACH {
        if other == NIL {
            break;
        }
        let is_equal =
            || first_mismatch(hold, id, other).is_none() && has_same_extras(hold, id, other);
        if may_meet(other) && is_equal() {
            return Some(other);
        }
        other = hold.next(link, other);
    }
    None
}

/// Offset in the payload of the first byte in which two datagrams differ.
pub(super) fn first_mismatch<F: Frame>(hold: &Hold<F>, a: SlotId, b: SlotId) -> Option<usize> {
    let (x, y) = (hold.slot(a), hold.slot(b));
    if x.fragment != y.fragment {
        return Some(0);
    }
    let common = x.len.min(y.len) as usize;
    let part = |from: usize, to: usize| {
        let (from, to) = (from.min(common), to.min(common));
        first_difference(
            hold.frame(a),
            x.payload as usize + from,
            hold.frame(b),
            y.payload as usize + from,
            to - from,
        )
        .map(|k| from + k)
    };
    let icmp = x.verified == 1;
    let different = if icmp {
        part(0, 2).or_else(|| part(4, common))
    } else {
        part(0, common)
    };
    different.or((x.len != y.len).then_some(common))
}
