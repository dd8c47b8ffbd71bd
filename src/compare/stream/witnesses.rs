//! The S that P are compared with: sorted by position, kept as history once a P has used them up.

use super::Stream;
use crate::compare::Context;
use crate::compare::bytes::first_difference;
use crate::compare::divergence::Reason;
use crate::compare::hold::{FlowList, Hold, ListKind, NIL, SlotId};
use crate::frame::{Frame, Ticks};
use crate::packet::Packet;
use crate::packet::serial::{at_or_before, before, max, min};

/// How many witnesses are looked at for one that waits.
const REACH: usize = 64;

impl Stream {
    /// Whether no S waits for its P. Of a long list that is not asked: it then counts as if one did.
    pub(super) fn is_used_up<F: Frame>(&self, hold: &Hold<F>) -> bool {
        let mut w = self.witnesses.tail;
        for _ in 0..REACH {
            if w == NIL || !hold.slot(w).complete {
                break;
            }
            w = hold.previous(ListKind::Flow, w);
        }
        w == NIL
    }

    /// Whether it may keep an S where room is left only for flows with few waiting frames. Before the connection is
    /// established that is one for which a P waits.
    pub(crate) fn waits_little<F: Frame>(&self, hold: &Hold<F>) -> bool {
        let most = match self.established {
            true => hold.little(),
            false => usize::from(!self.primaries.is_empty()),
        };
        let mut waits = 0;
        for list in [self.witnesses, self.controls, self.deferred] {
            let mut id = list.tail;
            while id != NIL && waits < most && !hold.slot(id).complete {
                waits += 1;
                id = hold.previous(ListKind::Flow, id);
            }
        }
        waits < most
    }

    /// Keeps an S with payload, unless all its bytes are there already.
    pub(super) fn witness<F: Frame>(
        &mut self,
        cx: &mut Context<'_, F>,
        frame: F,
        packet: &Packet,
        shift: u32,
        arrived: Ticks,
    ) {
        let Some(id) = cx.keep(frame, arrived) else {
            self.diverged = true;
            return;
        };
        super::fill(cx.hold, id, packet, shift);
        let (seq, end) = (cx.hold.slot(id).seq, cx.hold.slot(id).end());
        if self.compared.is_some_and(|(_, to)| at_or_before(end, to)) {
            // A retransmission of bytes that P have matched: no P need ever ask for it again.
            cx.hold.slot_mut(id).complete = true;
            cx.hold.retire(id);
        }
        let first = self.reaching_from_the_end(cx.hold, seq);
        self.revisited = first;
        let mut w = first;
        while w != NIL && before(cx.hold.slot(w).seq, end) {
            let from = max(seq, cx.hold.slot(w).seq);
            let to = min(end, cx.hold.slot(w).end());
            let n = to.wrapping_sub(from) as usize;
            if let Some(k) = difference(cx.hold, id, w, from, n)
                && let Some(k) = self.unmasked_again(cx, id, w, from, n, k)
            {
                cx.hold.remove(id);
                let at = from.wrapping_add(k as u32);
                let p = self.primaries.head;
                self.diverge(cx, Reason::SecondaryInconsistent, p, Some(w), at);
                return;
            }
            w = cx.hold.next(ListKind::Flow, w);
        }
        let known = known_to(cx.hold, first, seq, end);
        if known == end {
            cx.hold.remove(id);
            return;
        }
        if let Some((from, to)) = &mut self.compared
            && before(known, *to)
        {
            // Its bytes from `known` on were compared with no P.
            *from = max(*from, min(end, *to));
        }
        let after = self.swallow(cx.hold, first, seq, end);
        let slot = cx.hold.slot_mut(id);
        slot.flow = Some(cx.flow);
        slot.place = FlowList::Witness;
        cx.hold
            .insert_after(ListKind::Flow, &mut self.witnesses, after, id);
    }

    /// Drops the witnesses that lie within a range; returns the last one that begins before it.
    /// `first` is the first one that ends behind the range's start.
    pub(super) fn swallow<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        first: SlotId,
        seq: u32,
        end: u32,
    ) -> SlotId {
        let mut after = match first {
            NIL => self.witnesses.tail,
            first => hold.previous(ListKind::Flow, first),
        };
        let mut w = first;
        while w != NIL && at_or_before(hold.slot(w).end(), end) {
            let next = hold.next(ListKind::Flow, w);
            if at_or_before(seq, hold.slot(w).seq) {
                self.forget(hold, w);
                hold.remove(w);
            } else {
                after = w;
            }
            w = next;
        }
        after
    }

    /// The first witness that ends behind a position, searched from a witness near it.
    fn reaching<F: Frame>(&self, hold: &Hold<F>, near: SlotId, at: u32) -> SlotId {
        let reaches = |id: SlotId| before(at, hold.slot(id).end());
        let mut id = near;
        while id != NIL && !reaches(id) {
            id = hold.next(ListKind::Flow, id);
        }
        if id == near && id != NIL {
            let mut earlier = hold.previous(ListKind::Flow, id);
            while earlier != NIL && reaches(earlier) {
                id = earlier;
                earlier = hold.previous(ListKind::Flow, id);
            }
        }
        id
    }

    /// The same for a new witness, which belongs at the end unless it is a retransmission.
    pub(super) fn reaching_from_the_end<F: Frame>(&self, hold: &Hold<F>, at: u32) -> SlotId {
        let last = self.witnesses.tail;
        let inside = last != NIL && before(at, hold.slot(last).seq);
        let near = if inside && self.revisited != NIL {
            self.revisited
        } else {
            last
        };
        self.reaching(hold, near, at)
    }

    /// A witness that has the byte at a position: as a rule the one behind the frontier.
    #[inline(always)]
    pub(super) fn covering<F: Frame>(&self, hold: &Hold<F>, at: u32) -> Option<SlotId> {
        if self.frontier != NIL {
            let next = self.first_unused(hold);
            if at_or_before(hold.slot(self.frontier).end(), at) {
                if next == NIL {
                    return None;
                }
                let slot = hold.slot(next);
                if at_or_before(slot.seq, at) && before(at, slot.end()) {
                    return Some(next);
                }
            }
        }
        self.covering_of_all(hold, at)
    }

    #[inline(never)]
    fn covering_of_all<F: Frame>(&self, hold: &Hold<F>, at: u32) -> Option<SlotId> {
        let frontier = self.frontier;
        let near = if frontier != NIL && at_or_before(hold.slot(frontier).seq, at) {
            frontier
        } else {
            let known = [self.revisited, frontier, self.witnesses.head];
            known.into_iter().find(|w| *w != NIL).unwrap_or(NIL)
        };
        let id = self.reaching(hold, near, at);
        (id != NIL && at_or_before(hold.slot(id).seq, at)).then_some(id)
    }

    /// An S whose last byte a P has matched becomes history.
    pub(super) fn use_up<F: Frame>(&mut self, hold: &mut Hold<F>, w: SlotId) {
        if !hold.slot(w).complete {
            hold.slot_mut(w).complete = true;
            hold.retire(w);
        }
        let end = hold.slot(w).end();
        if self.compared.is_some_and(|(_, to)| to == end) {
            self.frontier = w;
        } else {
            self.revisited = w;
        }
    }

    /// Makes history of the S before a position that the PVM has skipped: it sent their bytes before
    /// anything was compared here, and need not send them again.
    pub(super) fn retire_skipped<F: Frame>(&mut self, hold: &mut Hold<F>, at: u32) {
        let mut w = self.witnesses.head;
        while w != NIL && at_or_before(hold.slot(w).end(), at) {
            if !hold.slot(w).complete {
                hold.slot_mut(w).complete = true;
                hold.retire(w);
            }
            w = hold.next(ListKind::Flow, w);
        }
    }

    /// At a fence: keeps of an S that a P has matched in part what was matched, as history; false
    /// if there is no such part.
    pub(crate) fn cut<F: Frame>(&self, hold: &mut Hold<F>, id: SlotId) -> bool {
        let slot = hold.slot_mut(id);
        let Some((from, to)) = self.compared.filter(|_| slot.place == FlowList::Witness) else {
            return false;
        };
        if before(slot.seq, from) || at_or_before(to, slot.seq) {
            return false;
        }
        slot.len = min(to, slot.end()).wrapping_sub(slot.seq);
        slot.complete = true;
        hold.retire(id);
        true
    }

    /// Takes a slot that a fence or the history's limit removes out of the connection's lists.
    pub(crate) fn forget<F: Frame>(&mut self, hold: &mut Hold<F>, id: SlotId) {
        for near in [&mut self.frontier, &mut self.revisited] {
            if *near == id {
                *near = NIL;
            }
        }
        match hold.slot(id).place {
            FlowList::Witness => hold.unlink(ListKind::Flow, &mut self.witnesses, id),
            FlowList::Control => hold.unlink(ListKind::Flow, &mut self.controls, id),
            FlowList::Deferred => hold.unlink(ListKind::Flow, &mut self.deferred, id),
            FlowList::Primary | FlowList::Nowhere => {}
        }
        hold.slot_mut(id).place = FlowList::Nowhere;
    }

    /// Drops everything that the connection still keeps.
    pub(crate) fn clear<F: Frame>(&mut self, hold: &mut Hold<F>) {
        (self.frontier, self.revisited) = (NIL, NIL);
        for list in [&mut self.witnesses, &mut self.controls, &mut self.deferred] {
            while list.head != NIL {
                let id = list.head;
                hold.unlink(ListKind::Flow, list, id);
                hold.remove(id);
            }
        }
    }

    /// Drops witnesses with bytes that the PVM has not sent: they are no part of its state.
    pub(super) fn forget_uncompared<F: Frame>(&mut self, hold: &mut Hold<F>) {
        while self.witnesses.tail != NIL {
            let (first, last) = (self.witnesses.head, self.witnesses.tail);
            let drop = match self.compared {
                Some((_, to)) if before(to, hold.slot(last).end()) => last,
                Some((from, _)) if before(hold.slot(first).seq, from) => first,
                Some(_) => return,
                None => last,
            };
            self.forget(hold, drop);
            hold.remove(drop);
        }
    }
}

/// How far the bytes from `seq` to `end` are known from witnesses on, of which `first` is the first
/// that ends behind `seq`.
pub(super) fn known_to<F: Frame>(hold: &Hold<F>, first: SlotId, seq: u32, end: u32) -> u32 {
    let mut known = seq;
    let mut w = first;
    while w != NIL && known != end && at_or_before(hold.slot(w).seq, known) {
        known = min(end, hold.slot(w).end());
        w = hold.next(ListKind::Flow, w);
    }
    known
}

/// Distance from position `at` to the first byte in which two slots differ, within `n` bytes.
#[inline(always)]
pub(super) fn difference<F: Frame>(
    hold: &Hold<F>,
    a: SlotId,
    b: SlotId,
    at: u32,
    n: usize,
) -> Option<usize> {
    let start = |id: SlotId| {
        let slot = hold.slot(id);
        slot.payload as usize + at.wrapping_sub(slot.seq) as usize
    };
    first_difference(hold.frame(a), start(a), hold.frame(b), start(b), n)
}
