//! The general path of a plain segment: one without extras and with no control bit but ACK and PSH that has
//! a meaning, on a connection that was in order when it came.
//!
//! Such a segment opens and ends nothing and changes none of what [`Stream::is_in_order`] asks for but the
//! order on the wire. What it can change is compared as for any other segment; the rest is not asked again.

use super::fast_path::is_plain;
use super::{Stream, fill};
use crate::compare::Context;
use crate::compare::hold::{FlowList, Hold, ListKind, NIL, SlotId};
use crate::frame::{Frame, Ticks};
use crate::packet::Packet;

impl Stream {
    /// Whether a segment is plain and its connection in order.
    #[inline(always)]
    pub(super) fn goes_on_plainly(&self, epoch: u32, packet: &Packet) -> bool {
        self.fast && self.epoch == epoch && is_plain(packet.tcp.flags) && !packet.has_extras()
    }

    /// Takes in a P that already has its slot, as [`Stream::primary`] does.
    #[inline]
    pub(super) fn plain_primary<F: Frame>(
        &mut self,
        cx: &mut Context<'_, F>,
        id: SlotId,
        packet: &Packet,
    ) {
        debug_assert!(self.is_in_order());
        self.catch_up(cx.hold);
        self.restore(cx.hold, cx.flow);
        self.append(cx, id, packet, self.primary_base);
        self.advance(cx);
        self.come_to_rest_in_order(cx.hold);
    }

    /// Takes in an S, as [`Stream::secondary`] does.
    #[inline]
    pub(super) fn plain_secondary<F: Frame>(
        &mut self,
        cx: &mut Context<'_, F>,
        frame: F,
        packet: &Packet,
        arrived: Ticks,
    ) {
        debug_assert!(self.is_in_order());
        self.catch_up(cx.hold);
        self.restore(cx.hold, cx.flow);
        let tcp = packet.tcp;
        self.note_acknowledged(tcp.ack, Some(tcp.window));
        let seq = tcp.seq.wrapping_sub(self.secondary_base);
        if packet.payload_len > 0 && !self.note_probe(&frame, packet, seq) {
            self.witness(cx, frame, packet, self.secondary_base, arrived);
        }
        self.advance(cx);
        self.come_to_rest_in_order(cx.hold);
    }

    /// Gives a P its place behind the others.
    #[inline(always)]
    pub(super) fn append<F: Frame>(
        &mut self,
        cx: &mut Context<'_, F>,
        id: SlotId,
        packet: &Packet,
        base: u32,
    ) {
        fill(cx.hold, id, packet, base);
        cx.hold.slot_mut(id).flow = Some(cx.flow);
        cx.hold.slot_mut(id).place = FlowList::Primary;
        cx.hold.push_back(ListKind::Flow, &mut self.primaries, id);
        if self.cursor == NIL {
            self.cursor = id;
        }
        self.note_arrival(cx, id);
    }

    /// [`Stream::come_to_rest`] after a plain segment: of what held the connection in order only this may
    /// have changed.
    #[inline(always)]
    fn come_to_rest_in_order<F: Frame>(&mut self, hold: &Hold<F>) {
        let is_in_order = !self.diverged && self.leaves_in_order();
        debug_assert_eq!(is_in_order, self.is_in_order());
        self.fast = is_in_order && self.find_frontier(hold);
        if self.fast {
            self.revisited = NIL;
        }
    }
}
