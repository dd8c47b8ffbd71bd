//! P that leave before older P of their connection: retransmissions and bare acknowledgments.
//!
//! Only bytes that leave for the first time need the PVM's order. If the client has lost a byte, the
//! PVM's retransmission may stand behind new data that the SVM will not send before the client
//! acknowledges; in order, neither would ever leave. So a P whose sequence numbers have all left
//! before, and one that only acknowledges, need not wait for older P. Each is compared and passes the
//! acknowledgment gate like any other (rules R2, R4, R5; docs/loss.md).

use super::Stream;
use super::fast_path::is_plain;
use super::verdict::{REMEMBERED, Verdict};
use crate::compare::Context;
use crate::compare::hold::{Hold, List, ListKind, NIL, SlotId};
use crate::frame::Frame;
use crate::packet::edit::{Outcome, Segment};
use crate::packet::serial::{at_or_before, before, distance, max, min};
use crate::packet::{Packet, TcpFlags, TcpOptions, is_signed};

/// How many P that may overtake are looked at for one frame that arrives, and how many older P each of
/// them is seen against (rule R10).
const REACH: usize = 64;

/// P that may leave before older ones, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Overtakers {
    /// Bare acknowledgments. The gate opens for the oldest first.
    acks: List,
    /// P with data or a FIN that come again: the last [`REACH`] of them. The client's hole is in what the PVM
    /// repeats now; older ones, whose bytes the SVM has not sent, must not displace it.
    again: List,
    again_len: usize,
}

impl Overtakers {
    fn is_empty(&self) -> bool {
        self.acks.is_empty() && self.again.is_empty()
    }

    fn push<F: Frame>(&mut self, hold: &mut Hold<F>, id: SlotId) {
        hold.slot_mut(id).overtakes = true;
        if is_bare(hold, id) {
            hold.push_back(ListKind::Open, &mut self.acks, id);
            return;
        }
        if self.again_len == REACH {
            self.remove(hold, self.again.head);
        }
        hold.push_back(ListKind::Open, &mut self.again, id);
        self.again_len += 1;
    }

    fn remove<F: Frame>(&mut self, hold: &mut Hold<F>, id: SlotId) {
        debug_assert!(hold.slot(id).overtakes);
        hold.slot_mut(id).overtakes = false;
        if is_bare(hold, id) {
            hold.unlink(ListKind::Open, &mut self.acks, id);
        } else {
            hold.unlink(ListKind::Open, &mut self.again, id);
            self.again_len -= 1;
        }
    }
}

/// What is known of a connection's output on the wire, as far as order matters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wire {
    /// Sequence numbers that have left, a FIN's included: all from the first to before the second.
    left: Option<(u32, u32)>,
    /// End of what the PVM has sent so far.
    sent: Option<u32>,
    /// Highest TSval that has left, while older P are held.
    stamp: Option<u32>,
}

impl Wire {
    /// Notes that a range of sequence numbers has left.
    #[inline(always)]
    fn note(&mut self, seq: u32, end: u32) {
        let (from, to) = match self.left {
            Some((from, to)) if to == seq => (from, end),
            // What was skipped has not left.
            Some((_, to)) if before(to, seq) => (seq, end),
            Some((from, to)) if before(end, from) => (from, to),
            Some((from, to)) => (min(from, seq), max(to, end)),
            None => (seq, end),
        };
        self.left = Some((remembered(from, to), to));
    }

    /// Whether all sequence numbers of a range have left.
    fn has(&self, seq: u32, end: u32) -> bool {
        self.left
            .is_some_and(|(from, to)| at_or_before(from, seq) && at_or_before(end, to))
    }
}

/// Start of a range that ends at `to`, brought within what is remembered.
#[inline(always)]
fn remembered(from: u32, to: u32) -> u32 {
    if (0..=REMEMBERED).contains(&distance(from, to)) {
        from
    } else {
        to.wrapping_sub(REMEMBERED as u32)
    }
}

/// Sequence numbers that a segment takes, a FIN's included (SEG.LEN, RFC 9293, 3.3.1).
fn sequence_length<F: Frame>(hold: &Hold<F>, id: SlotId) -> u32 {
    let slot = hold.slot(id);
    slot.len + u32::from(slot.flags.contains(TcpFlags::FIN))
}

/// Position behind a segment's last sequence number.
fn sequence_end<F: Frame>(hold: &Hold<F>, id: SlotId) -> u32 {
    hold.slot(id).seq.wrapping_add(sequence_length(hold, id))
}

/// Whether a P has neither data nor a control bit that takes a sequence number.
fn is_bare<F: Frame>(hold: &Hold<F>, id: SlotId) -> bool {
    let slot = hold.slot(id);
    slot.len == 0 && !slot.flags.contains(TcpFlags::FIN)
}

impl Stream {
    /// Whether P of this connection may take the fast path, as far as order on the wire matters.
    pub(super) fn leaves_in_order(&self) -> bool {
        self.overtakers.is_empty() && self.wire.stamp.is_none()
    }

    /// Brings [`Wire`] up to what the fast path has let leave and taken in, before the general path
    /// looks at it. The fast path lets a P leave only when nothing that was compared is held but the first part of the
    /// oldest P, and takes in only new data, so both ends are known exactly, however much has passed.
    #[inline]
    pub(super) fn catch_up<F: Frame>(&mut self, hold: &Hold<F>) {
        if !self.fast {
            return;
        }
        let begins_in_order = std::mem::take(&mut self.begins_in_order);
        let [oldest, latest] = [self.primaries.head, self.primaries.tail];
        let is_new = |id: SlotId| {
            let seq = hold.slot(id).seq;
            self.compared.is_none_or(|(_, to)| at_or_before(to, seq))
        };
        // A part of the oldest that the fast path compared says how far the P before it have left. Behind any other P
        // that was found equal, in part or whole, nothing has left since.
        let part = (begins_in_order && oldest != NIL && oldest == self.cursor)
            .then(|| hold.slot(oldest))
            .filter(|slot| slot.verified > 0);
        let takes_part = latest != NIL
            && (is_new(latest) || part.is_some() && latest == oldest)
            && !is_bare(hold, latest);
        let waits_for_all =
            || oldest == self.cursor && hold.slot(oldest).verified == 0 && is_new(oldest);
        let end = match (self.compared, part) {
            (Some((from, _)), Some(slot)) if from != slot.seq => Some((from, slot.seq)),
            (Some(range), None) if oldest == NIL || waits_for_all() => Some(range),
            _ => None,
        };
        if let Some((from, to)) = end {
            let first = match self.wire.left {
                Some((first, last)) if at_or_before(from, last) && at_or_before(last, to) => first,
                // What was skipped has not left.
                _ => from,
            };
            self.wire.left = Some((remembered(first, to), to));
        }
        if latest == NIL {
            self.wire.sent = self.wire.left.map(|(_, to)| to);
        } else if takes_part {
            self.wire.sent = Some(sequence_end(hold, latest));
        }
    }

    /// Notes a P that has got its place behind older ones, and whether it may overtake them once
    /// its bytes have left.
    #[inline]
    pub(super) fn note_arrival<F: Frame>(&mut self, cx: &mut Context<'_, F>, id: SlotId) {
        let end = sequence_end(cx.hold, id);
        let bare = is_bare(cx.hold, id);
        if !bare && self.wire.sent.is_none_or(|sent| before(sent, end)) {
            self.wire.sent = Some(end);
            return;
        }
        if !bare {
            self.recovery.note(cx.now, cx.timeout);
        }
        if self.primaries.head != id {
            self.note_overtaker(cx, id);
        }
    }

    #[inline(never)]
    fn note_overtaker<F: Frame>(&mut self, cx: &mut Context<'_, F>, id: SlotId) {
        let flags = cx.hold.slot(id).flags;
        let may = is_plain(TcpFlags(flags.0 & !TcpFlags::FIN.0))
            && !(is_bare(cx.hold, id) && cx.hold.slot(id).has_extras())
            && !self.diverged
            && self.openings == 0
            && !is_signed_frame(cx.hold.frame(id));
        if may {
            self.overtakers.push(cx.hold, id);
        }
    }

    /// Lets leave what may overtake the oldest P; true if any did. The caller has seen that nothing
    /// is suspended and that the connection has not diverged.
    #[inline]
    pub(super) fn overtake<F: Frame>(&mut self, cx: &mut Context<'_, F>) -> bool {
        debug_assert!(!cx.suspended && !self.diverged);
        !self.overtakers.is_empty() && self.overtake_oldest(cx)
    }

    #[inline(never)]
    fn overtake_oldest<F: Frame>(&mut self, cx: &mut Context<'_, F>) -> bool {
        let mut any = false;
        for first in [self.overtakers.acks.head, self.overtakers.again.head] {
            let mut id = first;
            for _ in 0..REACH {
                if id == NIL {
                    break;
                }
                let next = cx.hold.next(ListKind::Open, id);
                let slot = cx.hold.slot(id);
                if self.acknowledged_by_both(slot.flags, slot.ack) {
                    match self.pass_older(cx, id) {
                        Step::Left => any = true,
                        Step::Stays => {}
                        Step::Diverged => return any,
                    }
                }
                id = next;
            }
        }
        any
    }

    fn pass_older<F: Frame>(&mut self, cx: &mut Context<'_, F>, id: SlotId) -> Step {
        if is_bare(cx.hold, id) {
            if self.lacks_equal_options(cx.hold, id) || !self.lower_sequence(cx.hold, id) {
                return Step::Stays;
            }
        } else {
            let old = self.old_part(cx.hold, id);
            if old == 0 {
                return Step::Stays;
            }
            match self.examine(cx, id) {
                Verdict::Complete if old == sequence_length(cx.hold, id) => {
                    cx.hold.slot_mut(id).complete = true;
                }
                Verdict::Complete | Verdict::Waits => return self.pass_in_part(cx, id, old),
                Verdict::Differs(reason, witness, at) => {
                    self.diverge(cx, reason, id, witness, at);
                    return Step::Diverged;
                }
            }
        }
        self.let_leave(cx, id);
        cx.counts.overtakes += 1;
        Step::Left
    }

    /// How many of a segment's first sequence numbers have left before.
    fn old_part<F: Frame>(&self, hold: &Hold<F>, id: SlotId) -> u32 {
        let seq = hold.slot(id).seq;
        match self.wire.left {
            Some((from, to)) if at_or_before(from, seq) && before(seq, to) => {
                to.wrapping_sub(seq).min(sequence_length(hold, id))
            }
            _ => 0,
        }
    }

    /// Lets the part of a segment leave that has left before and was found equal; its other bytes, and its
    /// FIN, wait in order.
    fn pass_in_part<F: Frame>(&mut self, cx: &mut Context<'_, F>, id: SlotId, old: u32) -> Step {
        let slot = cx.hold.slot(id);
        let part = old.min(slot.verified).min(slot.len.saturating_sub(1));
        if !self.divide(cx, id, part) {
            return Step::Stays;
        }
        *cx.released += 1;
        cx.counts.overtakes += 1;
        Step::Left
    }

    /// Gives a bare acknowledgment the number of the first byte that has not left, if it bears a
    /// higher one: the client takes windows from the highest number that it has seen (SND.WL1, RFC
    /// 9293, 3.10.7.4), and the SVM may have to go on from less. False if that cannot be.
    fn lower_sequence<F: Frame>(&self, hold: &mut Hold<F>, id: SlotId) -> bool {
        let Some(first) = self.first_unsent(hold, id) else {
            return false;
        };
        let slot = hold.slot_mut(id);
        if !before(first, slot.seq) {
            return true;
        }
        let ahead = slot.seq.wrapping_sub(first);
        let Some(frame) = &mut slot.frame else {
            return false;
        };
        let packet = Packet::parse(frame.head(), frame.len());
        let outcome = Segment::edit(frame, &packet, |segment| {
            segment.shift_sequence(ahead.wrapping_neg());
        });
        if outcome == Outcome::Shared {
            return false;
        }
        slot.seq = first;
        true
    }

    /// The first byte that has not left: the lowest that is new of the P before this one, or what this P
    /// counts from if there is none. `None` where nothing has left, so that nobody knows what is new.
    fn first_unsent<F: Frame>(&self, hold: &Hold<F>, id: SlotId) -> Option<u32> {
        let (from, to) = self.wire.left?;
        let mut first = hold.slot(id).seq;
        let mut older = self.primaries.head;
        for _ in 0..REACH {
            if older == id || older == NIL {
                break;
            }
            let (seq, end) = (hold.slot(older).seq, sequence_end(hold, older));
            if !is_bare(hold, older) && !self.wire.has(seq, end) {
                let begins_old = at_or_before(from, seq) && before(seq, to);
                first = min(first, if begins_old { to } else { seq });
            }
            older = hold.next(ListKind::Flow, older);
        }
        Some(first)
    }

    /// Gives a frame that is about to leave a TSval that is not below those that have left
    /// (PAWS, RFC 7323, 5). A frame with another owner keeps its own.
    #[inline]
    pub(super) fn raise_stamp<F: Frame>(&mut self, frame: &mut F, overtakes: bool) {
        if overtakes || self.wire.stamp.is_some() {
            self.raise_stamp_to_highest(frame, overtakes);
        }
    }

    #[inline(never)]
    fn raise_stamp_to_highest<F: Frame>(&mut self, frame: &mut F, overtakes: bool) {
        let packet = Packet::parse(frame.head(), frame.len());
        let options = TcpOptions::parse(packet.tcp_options(frame.head()));
        let Some((own, _)) = options.timestamps else {
            return;
        };
        match self.wire.stamp {
            Some(least) if before(own, least) => {
                let _ = Segment::edit(frame, &packet, |segment| segment.set_timestamp(least));
            }
            // A P in order that is not older: neither are those behind it.
            Some(_) if !overtakes => self.wire.stamp = None,
            _ => self.wire.stamp = Some(own),
        }
    }

    /// A P that might have overtaken others leaves, or never will.
    #[inline]
    pub(super) fn forget_overtaker<F: Frame>(&mut self, hold: &mut Hold<F>, id: SlotId) {
        if !self.overtakers.is_empty() && hold.slot(id).overtakes {
            self.overtakers.remove(hold, id);
        }
    }

    /// Notes what a P takes along when it leaves.
    #[inline]
    pub(super) fn note_on_wire<F: Frame>(&mut self, hold: &mut Hold<F>, id: SlotId) {
        self.forget_overtaker(hold, id);
        let is_syn = hold.slot(id).flags.contains(TcpFlags::SYN);
        if is_syn || !is_bare(hold, id) {
            let seq = hold.slot(id).seq;
            self.wire.note(seq, sequence_end(hold, id));
        }
        if self.wire.stamp.is_some() && self.primaries.is_empty() {
            // What the PVM sends from now on bears a younger one.
            self.wire.stamp = None;
        }
    }

    /// Notes that the first bytes of a P have left.
    pub(super) fn note_part_on_wire(&mut self, seq: u32, end: u32) {
        self.wire.note(seq, end);
    }
}

/// What became of a P that may overtake.
enum Step {
    Left,
    Stays,
    Diverged,
}

fn is_signed_frame<F: Frame>(frame: &F) -> bool {
    let packet = Packet::parse(frame.head(), frame.len());
    is_signed(packet.tcp_options(frame.head()))
}
