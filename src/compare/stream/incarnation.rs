//! Where a connection begins anew: with a SYN on the same ports, and with a commit.

use super::Stream;
use super::reuse::Begun;
use super::witnesses::known_to;
use crate::compare::hold::{FlowList, Hold, ListKind, NIL, SlotId};
use crate::compare::{Context, Numbers};
use crate::frame::{Frame, Ticks};
use crate::packet::{Isn, Packet};

impl Stream {
    /// Begins the first incarnation with a P's SYN.
    pub(super) fn open<F: Frame>(&mut self, cx: &mut Context<'_, F>, id: SlotId) {
        let packet = Packet::parse(cx.hold.frame(id).head(), cx.hold.frame(id).len());
        let syn = Isn::of(&packet, cx.hold.frame(id).head());
        self.primary_syn = Some(syn);
        self.note_primary_opening(cx.hold.frame(id), &packet);
        self.primary_begun = Begun::of(&packet.tcp);
        if cx.numbers == Numbers::OwnIsn {
            self.primary_base = syn.number;
        }
    }

    /// The PVM still speaks for an incarnation before the one that the SVM's SYN opened: what the
    /// SVM has sent belongs to the next.
    pub(super) fn postpone<F: Frame>(&mut self, hold: &mut Hold<F>) {
        let deferred = std::mem::take(&mut self.controls);
        self.clear(hold);
        *self = Self {
            deferred,
            extras: self.extras.carried(),
            epoch: self.epoch,
            diverged: self.diverged,
            ..Self::default()
        };
        let mut s = deferred.head;
        while s != NIL {
            hold.slot_mut(s).place = FlowList::Deferred;
            s = hold.next(ListKind::Flow, s);
        }
    }

    /// Begins the next incarnation (port reuse): everything of the last one has left.
    pub(super) fn reopen<F: Frame>(&mut self, cx: &mut Context<'_, F>, id: SlotId) {
        cx.hold.slot_mut(id).opens = false;
        let mut deferred = std::mem::take(&mut self.deferred);
        self.clear(cx.hold);
        *self = Self {
            primaries: self.primaries,
            cursor: self.cursor,
            epoch: self.epoch,
            arriving_isn: self.arriving_isn,
            openings: self.openings - 1,
            arriving: self.arriving,
            former_isn: self.secondary_syn.map(|syn| syn.number),
            former: self.secondary_begun,
            extras: self.extras.carried(),
            seen_primary: true,
            awaits_syn: true,
            ..Self::default()
        };
        self.open(cx, id);
        while deferred.head != NIL {
            let s = deferred.head;
            let packet = Packet::parse(cx.hold.frame(s).head(), cx.hold.frame(s).len());
            if self.opens_next(&packet) {
                self.deferred = deferred;
                return;
            }
            let arrived = cx.hold.slot(s).came();
            cx.hold.unlink(ListKind::Flow, &mut deferred, s);
            let frame = cx.hold.remove(s);
            self.compare_secondary(cx, frame, &packet, arrived);
        }
    }

    /// After a commit the SVM runs with the PVM's state, so what is known of the SVM is what is known of the PVM.
    pub(super) fn refresh<F: Frame>(&mut self, cx: &mut Context<'_, F>) {
        if self.epoch == cx.epoch {
            return;
        }
        self.epoch = cx.epoch;
        // R2: a difference holds the flow's output until the commit, which this is.
        self.diverged = false;
        self.awaits_syn = false;
        self.synchronized = self.primary_syn.is_some();
        self.seen_secondary = self.seen_primary;
        self.secondary_syn = self.primary_syn;
        self.secondary_base = self.primary_base;
        // R4: an acknowledgment of an earlier epoch counts only as far as the PVM's has left.
        self.secondary_ack = self.primary_ack;
        self.secondary_window = None;
        self.secondary_fin = self.primary_fin;
        self.extras.refresh();
        self.secondary_begun = self.primary_begun;
        self.secondary_begun.ended = self.primary_fin.is_some() || !self.resets.is_empty();
        (self.client_reset, self.probe) = (None, None);
        self.forget_uncompared(cx.hold);
    }

    /// A commit lets a P leave that no S was compared with; its bytes become history.
    pub(crate) fn commit<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        id: SlotId,
        numbers: Numbers,
        now: Ticks,
    ) {
        self.catch_up(hold);
        self.fast = false;
        if let Some(flow) = hold.slot(id).flow {
            self.restore(hold, flow);
        }
        if hold.slot(id).opens {
            hold.slot_mut(id).opens = false;
            self.clear(hold);
            let packet = Packet::parse(hold.frame(id).head(), hold.frame(id).len());
            let syn = Isn::of(&packet, hold.frame(id).head());
            *self = Self {
                primaries: self.primaries,
                cursor: self.cursor,
                epoch: self.epoch,
                arriving_isn: self.arriving_isn,
                openings: self.openings - 1,
                extras: self.extras.carried(),
                arriving: self.arriving,
                primary_begun: Begun::of(&packet.tcp),
                seen_primary: true,
                primary_syn: Some(syn),
                primary_base: if numbers == Numbers::OwnIsn {
                    syn.number
                } else {
                    0
                },
                ..Self::default()
            };
            self.note_primary_opening(hold.frame(id), &packet);
        }
        let (seq, end, len) = (hold.slot(id).seq, hold.slot(id).end(), hold.slot(id).len);
        self.leave(hold, id);
        if len == 0 || self.is_probe(hold, id) {
            return;
        }
        self.forget_uncompared(hold);
        self.note_compared(seq, end);
        let first = self.reaching_from_the_end(hold, seq);
        if known_to(hold, first, seq, end) == end {
            return;
        }
        let after = self.swallow(hold, first, seq, end);
        let share = hold.frame(id).share();
        let (payload, flow) = (hold.slot(id).payload, hold.slot(id).flow);
        let has_extras = hold.slot(id).has_extras();
        if let Ok(w) = hold.insert_secondary(share, now) {
            let slot = hold.slot_mut(w);
            (slot.seq, slot.len, slot.payload, slot.flow) = (seq, len, payload, flow);
            slot.place = FlowList::Witness;
            slot.complete = true;
            if has_extras {
                slot.mark_extras();
            }
            hold.insert_after(ListKind::Flow, &mut self.witnesses, after, w);
            hold.retire(w);
        }
    }
}
