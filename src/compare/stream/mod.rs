//! One TCP connection's output as two byte streams, the PVM's and the SVM's.
//!
//! In go the segments of both VMs in any order and segmentation; a P is complete once an equal S
//! byte was seen for each of its bytes, and its SYN, FIN and RST have their counterparts. P leave
//! in the order in which the PVM sent them, when complete and when they acknowledge nothing that
//! the SVM has not acknowledged (rules R1, R2 and R4); [`overtake`] has the exceptions to the order. A
//! byte that leaves a second time is compared with an S again, one kept as history or the SVM's own
//! retransmission (rule R5).
//!
//! Positions are sequence numbers; only [`Numbers::OwnIsn`] makes them relative to each side's ISN.

mod division;
mod extras;
mod fast_path;
mod handshake;
mod incarnation;
mod keepalive;
mod masking;
mod openings;
mod overtake;
mod pair;
mod plain;
mod recovery;
mod reset;
mod reuse;
mod unlike;
mod urgent;
mod verdict;
mod window;
mod witnesses;

use super::divergence::Reason;
use super::history::EntryNumber;
use super::hold::{FlowList, Hold, List, ListKind, NIL, SlotId};
use super::masked::MaskedNumber;
use super::{Context, Numbers};
use crate::frame::{Frame, Ticks};
use crate::packet::serial::at_or_before;
use crate::packet::{Isn, Packet, TcpFlags};
use extras::Extras;
pub(super) use fast_path::{Arrival, Path, is_equal};
pub use handshake::Synchronized;
use keepalive::Probe;
use overtake::{Overtakers, Wire};
use recovery::Recovery;
use reset::{ClientReset, Resets};
use reuse::Begun;
use verdict::Verdict;

/// The comparison of one connection.
///
/// What a segment in order needs comes first and, behind a flow's key, ends with the flow's second
/// cache line.
#[repr(C)]
pub(super) struct Stream {
    /// P in order of arrival.
    primaries: List,
    /// First P that is not complete.
    cursor: SlotId,
    /// S by position. They may overlap, but only with equal bytes, and none lies within another:
    /// their starts and their ends rise alike.
    witnesses: List,
    /// Where searches for new data begin, so that they are short: the witness that reaches furthest
    /// of those used up.
    frontier: SlotId,
    /// The last S that the fast path has left as history, if `has_entries`.
    newest_entry: EntryNumber,
    /// Epoch in which the state below was last valid.
    epoch: u32,
    /// Start and end of a range whose bytes have left or may leave; its end is the highest such.
    /// What witnesses have in it is equal to what the PVM sent.
    compared: Option<(u32, u32)>,
    /// Highest acknowledgment that left.
    primary_ack: Option<u32>,
    /// Highest acknowledgment that the SVM sent in this epoch.
    secondary_ack: Option<u32>,
    /// Window field that came with it. The client gets no more from the PVM: what the SVM has no
    /// room for it drops, and the ACK gate would wait for it until the client's timer. Both VMs
    /// agreed on the scale, and no P acknowledges more than the SVM did, so the smaller field never
    /// reaches beyond the SVM's window.
    secondary_window: Option<u16>,
    /// What positions are relative to; 0 unless [`Numbers::OwnIsn`].
    primary_base: u32,
    secondary_base: u32,
    /// Segments in order may go the fast path; see [`fast_path`].
    fast: bool,
    has_entries: bool,
    /// A difference was seen: nothing leaves until the commit.
    diverged: bool,
    /// The PVM's SYN opened this incarnation and the SVM's has not come: other S are the old incarnation's.
    awaits_syn: bool,
    /// The offset between the VMs' numbers was reported.
    synchronized: bool,
    seen_primary: bool,
    seen_secondary: bool,
    /// One of the VMs goes on behind the handshake.
    established: bool,
    /// It was noted that the oldest P was found equal in part.
    is_partial: bool,
    /// The oldest P, if found equal in part, was so by the fast path: all before it has left, and nothing behind it.
    begins_in_order: bool,
    /// Where searches for retransmitted data begin: the witness met last among the others.
    revisited: SlotId,
    /// S with SYN, FIN or RST that no P has matched.
    controls: List,
    /// S that belong to the next incarnation.
    deferred: List,
    /// ISN of the latest SYN in order of arrival; later P count from it.
    arriving_isn: Option<u32>,
    /// P that wait and open a later incarnation.
    openings: u32,
    /// What P of that incarnation have arrived, and what S of theirs, as far as it distinguishes a SYN
    /// that comes again from the next one.
    arriving: Begun,
    primary_begun: Begun,
    secondary_begun: Begun,
    /// The SVM's ISN of the last incarnation: such a SYN opens nothing any more.
    former_isn: Option<u32>,
    former: Begun,
    primary_syn: Option<Isn>,
    secondary_syn: Option<Isn>,
    /// Position of the PVM's FIN that was found equal or has left, and of the SVM's.
    primary_fin: Option<u32>,
    secondary_fin: Option<u32>,
    overtakers: Overtakers,
    /// What the network has seen of this connection, for the order in which P leave.
    wire: Wire,
    recovery: Recovery,
    extras: Extras,
    has_fin_left: bool,
    /// The PVM's last RSTs that came from both or have left.
    resets: Resets,
    /// The acknowledgment that was one more than the one before it, whichever VM sent it.
    client_end: Option<u32>,
    client_reset: Option<ClientReset>,
    /// The SVM's last keepalive in this epoch.
    probe: Option<Probe>,
    /// The last byte that a rule has masked.
    masked: Option<MaskedNumber>,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            primaries: List::default(),
            cursor: NIL,
            witnesses: List::default(),
            frontier: NIL,
            newest_entry: EntryNumber::default(),
            epoch: 0,
            compared: None,
            primary_ack: None,
            secondary_ack: None,
            secondary_window: None,
            primary_base: 0,
            secondary_base: 0,
            fast: false,
            has_entries: false,
            revisited: NIL,
            diverged: false,
            awaits_syn: false,
            synchronized: false,
            seen_primary: false,
            seen_secondary: false,
            established: false,
            is_partial: false,
            begins_in_order: false,
            controls: List::default(),
            deferred: List::default(),
            arriving_isn: None,
            openings: 0,
            arriving: Begun::default(),
            primary_begun: Begun::default(),
            secondary_begun: Begun::default(),
            former_isn: None,
            former: Begun::default(),
            primary_syn: None,
            secondary_syn: None,
            primary_fin: None,
            secondary_fin: None,
            overtakers: Overtakers::default(),
            wire: Wire::default(),
            recovery: Recovery::default(),
            extras: Extras::default(),
            has_fin_left: false,
            resets: Resets::default(),
            client_end: None,
            client_reset: None,
            probe: None,
            masked: None,
        }
    }
}

impl Stream {
    /// Whether nothing of this connection waits: neither a frame nor, for the commit, a difference.
    pub(super) fn is_quiet<F: Frame>(&self, hold: &Hold<F>, epoch: u32) -> bool {
        self.primaries.is_empty()
            && self.controls.is_empty()
            && self.deferred.is_empty()
            && !(self.diverged && self.epoch == epoch)
            && self.is_used_up(hold)
    }

    /// Epoch in which the state was last valid.
    #[inline(always)]
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether the VMs have sent nothing but what opens or refuses a connection. That a client has completed the handshake
    /// shows in what they send next.
    pub(super) fn is_half_open(&self) -> bool {
        !self.established
    }

    /// Whether the VMs' numbers of a living connection differ by what only this state knows.
    pub(super) fn is_offset(&self, epoch: u32) -> bool {
        let closed =
            self.primary_fin.is_some() || !self.resets.is_empty() || self.client_reset.is_some();
        self.primary_base != self.secondary_base && self.epoch == epoch && !closed
    }

    /// Takes in a P that already has its slot, and lets leave what may.
    #[inline]
    pub(super) fn primary<F: Frame>(
        &mut self,
        cx: &mut Context<'_, F>,
        id: SlotId,
        packet: &Packet,
    ) {
        if self.goes_on_plainly(cx.epoch, packet) {
            self.plain_primary(cx, id, packet);
        } else {
            self.any_primary(cx, id, packet);
        }
    }

    #[inline(never)]
    fn any_primary<F: Frame>(&mut self, cx: &mut Context<'_, F>, id: SlotId, packet: &Packet) {
        self.catch_up(cx.hold);
        self.restore(cx.hold, cx.flow);
        self.refresh(cx);
        let tcp = packet.tcp;
        self.note_after_reset(&tcp, cx.now);
        let syn = tcp.flags.contains(TcpFlags::SYN);
        if syn && !(self.arriving_isn == Some(tcp.seq) && self.arriving.has(&tcp)) {
            // What the SVM said before its own SYN belongs to an older incarnation.
            let reused = self.seen_primary || (self.seen_secondary && self.secondary_syn.is_none());
            cx.hold.slot_mut(id).opens = reused;
            self.openings += u32::from(reused);
            self.arriving_isn = Some(tcp.seq);
            self.arriving = Begun::default();
            if !reused {
                self.open(cx, id);
                self.awaits_syn = self.secondary_syn.is_none();
                self.place_early_data(cx, tcp.seq);
            }
        }
        self.arriving.note(&tcp);
        if !syn && !self.seen_primary && self.secondary_syn.is_some() {
            self.postpone(cx.hold);
        }
        self.seen_primary = true;
        if syn && !cx.hold.slot(id).opens {
            self.note_primary_opening(cx.hold.frame(id), packet);
        }
        self.note_primary_extras(cx.hold, id, packet);
        let base = match (cx.numbers, self.arriving_isn) {
            (Numbers::OwnIsn, Some(isn)) => isn,
            _ => 0,
        };
        self.established |= goes_on(tcp.flags);
        self.append(cx, id, packet, base);
        self.advance(cx);
        self.come_to_rest(cx.hold);
    }

    /// Takes in an S, and lets leave what may.
    #[inline]
    pub(super) fn secondary<F: Frame>(
        &mut self,
        cx: &mut Context<'_, F>,
        frame: F,
        packet: &Packet,
        arrived: Ticks,
    ) {
        if self.goes_on_plainly(cx.epoch, packet) {
            self.plain_secondary(cx, frame, packet, arrived);
        } else {
            self.any_secondary(cx, frame, packet, arrived);
        }
    }

    #[inline(never)]
    fn any_secondary<F: Frame>(
        &mut self,
        cx: &mut Context<'_, F>,
        frame: F,
        packet: &Packet,
        arrived: Ticks,
    ) {
        self.catch_up(cx.hold);
        self.restore(cx.hold, cx.flow);
        self.refresh(cx);
        self.fast = false;
        self.note_after_reset(&packet.tcp, cx.now);
        if self.diverged {
            return;
        }
        if !self.deferred.is_empty() || self.opens_next(packet) {
            match cx.keep(frame, arrived) {
                Some(id) => self.shelve(cx, id, FlowList::Deferred),
                None => self.diverged = true,
            }
            return;
        }
        self.established |= goes_on(packet.tcp.flags);
        self.compare_secondary(cx, frame, packet, arrived);
        self.advance(cx);
        self.come_to_rest(cx.hold);
    }

    /// Whether an S begins an incarnation that the PVM has not begun yet.
    fn opens_next(&self, packet: &Packet) -> bool {
        if !packet.tcp.flags.contains(TcpFlags::SYN) {
            return false;
        }
        match self.secondary_syn {
            Some(syn) => syn.number != packet.tcp.seq || !self.secondary_begun.has(&packet.tcp),
            None => !self.awaits_syn && (self.seen_primary || self.seen_secondary),
        }
    }

    fn compare_secondary<F: Frame>(
        &mut self,
        cx: &mut Context<'_, F>,
        frame: F,
        packet: &Packet,
        arrived: Ticks,
    ) {
        let tcp = packet.tcp;
        let syn = tcp.flags.contains(TcpFlags::SYN);
        let stale = self.awaits_syn && self.former_isn == Some(tcp.seq) && self.former.has(&tcp);
        if syn && self.secondary_syn.is_none() && !stale {
            self.secondary_syn = Some(Isn::of(packet, frame.head()));
            self.awaits_syn = false;
            if cx.numbers == Numbers::OwnIsn {
                self.secondary_base = tcp.seq;
            }
        }
        if self.awaits_syn {
            return;
        }
        self.seen_secondary = true;
        if syn {
            self.note_secondary_opening(&frame, packet);
        }
        let alone = self.note_secondary_extras(&frame, packet);
        self.secondary_begun.note(&tcp);
        if tcp.flags.contains(TcpFlags::ACK) {
            self.note_acknowledged(tcp.ack, (!syn).then_some(tcp.window));
        }
        // Behind a rewriter everything but the SVM's SYN carries the PVM's numbers.
        let shift = match (syn, self.primary_syn) {
            (true, Some(primary)) if cx.numbers == Numbers::Translated => {
                tcp.seq.wrapping_sub(primary.number)
            }
            _ => self.secondary_base,
        };
        self.note_secondary_urgent(&frame, packet, shift);
        let seq = tcp.seq.wrapping_sub(shift).wrapping_add(u32::from(syn));
        let end = seq.wrapping_add(packet.payload_len);
        // What a SYN carries has no known position before the PVM's SYN has come (`place_early_data`).
        let early = syn && cx.numbers == Numbers::Translated && self.primary_syn.is_none();
        if tcp.flags.contains(TcpFlags::FIN) && self.secondary_fin.is_none() && !early {
            self.secondary_fin = Some(end);
        }
        let control = tcp
            .flags
            .intersects(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST);
        if self.is_late_reset(tcp.flags, seq, packet.payload_len) {
            cx.counts.closed_resets += 1;
            return;
        }
        if alone || control && !self.control_is_matched(&tcp, seq) {
            match cx.keep(frame.share(), arrived) {
                Some(id) => {
                    fill(cx.hold, id, packet, shift);
                    self.shelve(cx, id, FlowList::Control);
                }
                None => self.diverged = true,
            }
        }
        if packet.payload_len > 0 && !early && !self.note_probe(&frame, packet, seq) {
            self.witness(cx, frame, packet, shift, arrived);
        }
    }

    /// Compares as far as both streams go and releases what may leave.
    fn advance<F: Frame>(&mut self, cx: &mut Context<'_, F>) {
        if self.diverged || cx.suspended {
            return;
        }
        loop {
            while self.cursor != NIL {
                let id = self.cursor;
                if cx.hold.slot(id).opens {
                    if self.primaries.head != id {
                        break;
                    }
                    self.reopen(cx, id);
                    // The S that came for the new connection may contradict each other.
                    if self.diverged {
                        return;
                    }
                    continue;
                }
                match self.examine(cx, id) {
                    Verdict::Complete => {
                        cx.hold.slot_mut(id).complete = true;
                        self.cursor = cx.hold.next(ListKind::Flow, id);
                    }
                    Verdict::Waits => break,
                    Verdict::Differs(reason, witness, at) => {
                        self.diverge(cx, reason, id, witness, at);
                        return;
                    }
                }
            }
            let goes_on = self.release(cx) && self.cursor != NIL;
            if !goes_on && !self.overtake(cx) {
                break;
            }
            if self.diverged {
                return;
            }
        }
        self.note_part(cx);
    }

    /// Lets complete P leave, oldest first; true if any left.
    fn release<F: Frame>(&mut self, cx: &mut Context<'_, F>) -> bool {
        let mut left = false;
        while self.primaries.head != NIL {
            let id = self.primaries.head;
            let slot = cx.hold.slot(id);
            if !slot.complete || !self.acknowledged_by_both(slot.flags, slot.ack) {
                break;
            }
            self.let_leave(cx, id);
            left = true;
        }
        left
    }

    /// Lets a P leave that was found equal and acknowledges nothing that the SVM has not.
    #[inline(always)]
    fn let_leave<F: Frame>(&mut self, cx: &mut Context<'_, F>, id: SlotId) {
        if let Some(window) = self.secondary_window {
            fast_path::lower_window(cx.hold, id, window);
        }
        self.leave(cx.hold, id);
        cx.hold.release(id, cx.now);
        *cx.released += 1;
    }

    /// Rule R4: whether the SVM has acknowledged what a P acknowledges.
    fn acknowledged_by_both(&self, flags: TcpFlags, ack: u32) -> bool {
        !flags.contains(TcpFlags::ACK) || self.secondary_ack.is_some_and(|s| at_or_before(ack, s))
    }

    /// Takes a P out of the connection and notes what the network will have seen.
    #[inline(always)]
    pub(super) fn leave<F: Frame>(&mut self, hold: &mut Hold<F>, id: SlotId) {
        let overtakes = self.primaries.head != id;
        if let Some(frame) = &mut hold.slot_mut(id).frame {
            self.raise_stamp(frame, overtakes);
        }
        if self.cursor == id {
            self.cursor = hold.next(ListKind::Flow, id);
        }
        hold.unlink(ListKind::Flow, &mut self.primaries, id);
        self.note_on_wire(hold, id);
        if self.extras.unusual {
            self.note_primary_urgent(hold, id);
        }
        let slot = hold.slot_mut(id);
        slot.place = FlowList::Nowhere;
        let (flags, ack) = (slot.flags, slot.ack);
        if flags.intersects(TcpFlags::FIN | TcpFlags::RST) {
            self.note_end_left(hold, id);
        }
        if flags.contains(TcpFlags::ACK) {
            self.note_left(ack);
        }
    }

    /// Notes that a FIN or a RST has left.
    #[inline(never)]
    fn note_end_left<F: Frame>(&mut self, hold: &Hold<F>, id: SlotId) {
        let slot = hold.slot(id);
        if slot.flags.contains(TcpFlags::FIN) {
            self.primary_fin = Some(slot.end());
            self.has_fin_left = true;
        }
        if slot.flags.contains(TcpFlags::RST) {
            let ack = slot.flags.contains(TcpFlags::ACK).then_some(slot.ack);
            self.resets.add(slot.seq, ack);
        }
    }

    fn diverge<F: Frame>(
        &mut self,
        cx: &mut Context<'_, F>,
        reason: Reason,
        p: SlotId,
        s: Option<SlotId>,
        at: u32,
    ) {
        self.diverged = true;
        let p = Some(p).filter(|p| *p != NIL);
        cx.report(reason, self.stream_offset(at), p, s, at);
    }

    fn shelve<F: Frame>(&mut self, cx: &mut Context<'_, F>, id: SlotId, place: FlowList) {
        let slot = cx.hold.slot_mut(id);
        slot.flow = Some(cx.flow);
        slot.place = place;
        let list = match place {
            FlowList::Control => &mut self.controls,
            FlowList::Deferred => &mut self.deferred,
            _ => &mut self.witnesses,
        };
        cx.hold.push_back(ListKind::Flow, list, id);
    }

    /// Why the oldest P of this connection still waits.
    pub(super) fn reason_of_wait<F: Frame>(&self, hold: &Hold<F>, id: SlotId) -> Reason {
        if hold.slot(id).complete {
            Reason::AckAhead
        } else {
            Reason::MissingSecondary
        }
    }

    /// Offset in the stream of the first byte of a frame, when the SYN was seen.
    pub(super) fn stream_offset(&self, at: u32) -> Option<u32> {
        let syn = self.primary_syn?;
        Some(
            at.wrapping_sub(syn.number.wrapping_sub(self.primary_base))
                .wrapping_sub(1),
        )
    }
}

/// Copies the header fields that the comparison needs into a slot; `base` is what positions count from.
fn fill<F: Frame>(hold: &mut Hold<F>, id: SlotId, packet: &Packet, base: u32) {
    let slot = hold.slot_mut(id);
    let syn = u32::from(packet.tcp.flags.contains(TcpFlags::SYN));
    slot.seq = packet.tcp.seq.wrapping_sub(base).wrapping_add(syn);
    slot.len = packet.payload_len;
    slot.ack = packet.tcp.ack;
    slot.flags = packet.tcp.flags;
    slot.payload = packet.payload;
    slot.transport = packet.l4;
    slot.window = packet.tcp.window;
    if packet.has_extras() {
        slot.mark_extras();
    }
}

/// Whether a segment neither opens nor refuses a connection.
fn goes_on(flags: TcpFlags) -> bool {
    flags.contains(TcpFlags::ACK) && !flags.intersects(TcpFlags::SYN | TcpFlags::RST)
}
