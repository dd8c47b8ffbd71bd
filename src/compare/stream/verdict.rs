//! Whether a P is complete: every byte and control bit of it found equal.

use super::fast_path::is_plain;
use super::openings::Agreement;
use super::witnesses::difference;
use super::{Stream, Synchronized};
use crate::compare::Context;
use crate::compare::divergence::Reason;
use crate::compare::hold::{Hold, ListKind, NIL, SlotId};
use crate::frame::Frame;
use crate::packet::serial::{at_or_before, before, distance, max, min};
use crate::packet::{Tcp, TcpFlags};

/// Range of stream that is remembered as compared, in bytes: far below the 2^31 that numbers order.
pub(super) const REMEMBERED: i32 = 1 << 30;

pub(super) enum Verdict {
    Complete,
    Waits,
    Differs(Reason, Option<SlotId>, u32),
}

impl Stream {
    /// Compares a P as far as the SVM's stream goes.
    #[inline(always)]
    pub(super) fn examine<F: Frame>(&mut self, cx: &mut Context<'_, F>, id: SlotId) -> Verdict {
        let (flags, seq, len) = {
            let slot = cx.hold.slot(id);
            (slot.flags, slot.seq, slot.len)
        };
        let plain = is_plain(flags) && !self.extras.unusual;
        if !plain && let Some(verdict) = self.examine_opening(cx, id) {
            return verdict;
        }
        if len == 1
            && let Some(verdict) = self.probe_verdict(cx, id)
        {
            return verdict;
        }
        let mut verified = cx.hold.slot(id).verified;
        while verified < len {
            let at = seq.wrapping_add(verified);
            let Some(w) = self.covering(cx.hold, at) else {
                if self.secondary_fin.is_some_and(|fin| at_or_before(fin, at)) {
                    return Verdict::Differs(Reason::StreamEnd, None, at);
                }
                return Verdict::Waits;
            };
            let n = cx.hold.slot(w).end().wrapping_sub(at).min(len - verified);
            if self.extras.unusual && !self.has_same_options(cx.hold, id, w) {
                return Verdict::Differs(Reason::Headers, Some(w), at);
            }
            let differs = match difference(cx.hold, id, w, at, n as usize) {
                Some(k) => self.unmasked(cx, id, w, at, n as usize, k),
                None => None,
            };
            if let Some(k) = differs.or_else(|| self.changed(cx, id, at, n as usize)) {
                return Verdict::Differs(Reason::Payload, Some(w), at.wrapping_add(k as u32));
            }
            verified += n;
            let arrived = cx.hold.slot(w).came();
            let slot = cx.hold.slot_mut(id);
            slot.verified = verified;
            slot.witness(arrived);
            let end = at.wrapping_add(n);
            if self.compared.is_some_and(|(_, to)| before(to, at)) {
                self.retire_skipped(cx.hold, at);
            }
            self.note_compared(at, end);
            if end == cx.hold.slot(w).end() {
                self.use_up(cx.hold, w);
            }
        }
        match plain {
            true => Verdict::Complete,
            false => self.examine_ending(cx.hold, id),
        }
    }

    /// What keeps a P from being compared, if its options or a SYN or RST do.
    #[inline(never)]
    fn examine_opening<F: Frame>(
        &mut self,
        cx: &mut Context<'_, F>,
        id: SlotId,
    ) -> Option<Verdict> {
        let (flags, seq) = (cx.hold.slot(id).flags, cx.hold.slot(id).seq);
        if self.extras.unusual && self.lacks_equal_options(cx.hold, id) {
            return Some(Verdict::Waits);
        }
        // Before a SYN on the same segment drops its counterpart.
        if flags.contains(TcpFlags::RST) && !self.reset_is_matched(cx, id) {
            return Some(Verdict::Waits);
        }
        if flags.contains(TcpFlags::SYN) {
            let (Some(primary), Some(secondary)) = (self.primary_syn, self.secondary_syn) else {
                return Some(Verdict::Waits);
            };
            match self.compare_openings(cx, id, [primary, secondary]) {
                Agreement::Agrees => {}
                Agreement::Waits => return Some(Verdict::Waits),
                Agreement::Differs => {
                    let first = Some(self.controls.head).filter(|c| *c != NIL);
                    return Some(Verdict::Differs(Reason::SynOptions, first, seq));
                }
            }
            if !self.synchronized {
                self.synchronized = true;
                cx.synchronized.push_back(Synchronized {
                    flow: *cx.key,
                    pvm: primary,
                    svm: secondary,
                });
            }
            self.match_control(cx.hold, id, TcpFlags::SYN);
        }
        None
    }

    /// What becomes of a P whose bytes were found equal: its extras and a FIN are left.
    #[inline(never)]
    fn examine_ending<F: Frame>(&mut self, hold: &mut Hold<F>, id: SlotId) -> Verdict {
        let (flags, fin) = (hold.slot(id).flags, hold.slot(id).end());
        let stands_alone = !flags.intersects(TcpFlags::SYN | TcpFlags::RST | TcpFlags::ACK);
        if (self.extras.unusual || stands_alone)
            && let Some(verdict) = self.examine_extras(hold, id)
        {
            return verdict;
        }
        if flags.contains(TcpFlags::FIN) {
            match self.secondary_fin {
                Some(s) if s == fin => {
                    self.primary_fin = Some(fin);
                    self.match_control(hold, id, TcpFlags::FIN);
                }
                Some(_) => return Verdict::Differs(Reason::StreamEnd, None, fin),
                None => match self.covering(hold, fin) {
                    Some(w) => return Verdict::Differs(Reason::StreamEnd, Some(w), fin),
                    None => return Verdict::Waits,
                },
            }
        }
        Verdict::Complete
    }

    /// Extends the range of bytes found equal, or moves on to a new range behind a gap.
    pub(super) fn note_compared(&mut self, at: u32, end: u32) {
        let (from, to) = match self.compared {
            None => (at, end),
            Some((_, to)) if before(to, at) => (at, end),
            Some((from, to)) if before(end, from) => (from, to),
            Some((from, to)) => (min(from, at), max(to, end)),
        };
        let long = distance(from, to) > REMEMBERED;
        let from = if long {
            to.wrapping_sub(REMEMBERED as u32)
        } else {
            from
        };
        self.compared = Some((from, to));
    }

    /// Whether the PVM's counterparts of an S's control bits have been here already.
    pub(super) fn control_is_matched(&self, tcp: &Tcp, seq: u32) -> bool {
        let flags = tcp.flags;
        let ack = flags.contains(TcpFlags::ACK).then_some(tcp.ack);
        (!flags.contains(TcpFlags::SYN) || self.synchronized)
            && (!flags.contains(TcpFlags::FIN) || self.primary_fin.is_some())
            && (!flags.contains(TcpFlags::RST) || self.resets.contains(seq, ack))
    }

    /// Drops the S that a P's control bit was waiting for, and notes when they came.
    fn match_control<F: Frame>(&mut self, hold: &mut Hold<F>, id: SlotId, bit: TcpFlags) {
        let mut c = self.controls.head;
        while c != NIL {
            let next = hold.next(ListKind::Flow, c);
            if hold.slot(c).flags.contains(bit) {
                self.drop_control(hold, id, c);
            }
            c = next;
        }
    }

    /// Drops one of them, and notes when it came.
    pub(super) fn drop_control<F: Frame>(&mut self, hold: &mut Hold<F>, id: SlotId, c: SlotId) {
        let arrived = hold.slot(c).came();
        hold.slot_mut(id).witness(arrived);
        hold.unlink(ListKind::Flow, &mut self.controls, c);
        hold.remove(c);
    }
}
