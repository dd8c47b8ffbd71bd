//! One TCP connection's output as two byte streams, the PVM's and the SVM's.
//!
//! In go the segments of both VMs in any order and segmentation; a P is complete once an equal S
//! byte was seen for each of its bytes, and its SYN, FIN and RST have their counterparts. P leave
//! in the order in which the PVM sent them, when complete and when they acknowledge nothing that
//! the SVM has not acknowledged (rules R1, R2 and R4). A byte that leaves a second time is compared
//! with an S again, one kept as history or the SVM's own retransmission (rule R5).
//!
//! Positions are sequence numbers; only [`Numbers::OwnIsn`] makes them relative to each side's ISN.

use super::bytes::first_difference;
use super::divergence::Reason;
use super::hold::{Hold, Link, List, NIL, Place, SlotId, Standing};
use super::{Context, Numbers};
use crate::frame::{Frame, Ticks};
use crate::packet::checksum::{TCP_CHECKSUM, update_u16};
use crate::packet::serial::{at_or_before, before, distance, max, min};
use crate::packet::{Packet, Tcp, TcpFlags, TcpOptions};

/// Offset of the window field in the TCP header (RFC 9293, 3.1).
const WINDOW: usize = 14;

/// What the two SYNs must agree on, since the client will rely on it (RFC 9293 3.7.1, RFC 7323, RFC 2018).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Agreement {
    mss: Option<u16>,
    window_scale: Option<u8>,
    sack_permitted: bool,
    timestamps: bool,
}

impl Agreement {
    fn of(options: &TcpOptions) -> Self {
        Self {
            mss: options.mss,
            window_scale: options.window_scale,
            sack_permitted: options.sack_permitted,
            timestamps: options.timestamps.is_some(),
        }
    }
}

/// A SYN that was seen from one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Syn {
    isn: u32,
    /// TSval (RFC 7323), if there was one.
    timestamp: Option<u32>,
    agreement: Agreement,
}

impl Syn {
    fn of<F: Frame>(frame: &F, packet: &Packet) -> Self {
        let options = TcpOptions::parse(packet.tcp_options(frame.head()));
        Self {
            isn: packet.tcp.seq,
            timestamp: options.timestamps.map(|(value, _)| value),
            agreement: Agreement::of(&options),
        }
    }
}

/// The numbers that both VMs opened a connection with, which the rewriter at the secondary needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synchronized {
    /// The connection, in the direction of the output.
    pub flow: crate::flow::FlowKey,
    /// Initial sequence number and TSval of the PVM's SYN or SYN+ACK.
    pub pvm: (u32, Option<u32>),
    /// The same of the SVM's.
    pub svm: (u32, Option<u32>),
}

/// The comparison of one connection.
#[derive(Default)]
pub(super) struct Stream {
    /// P in order of arrival.
    primaries: List,
    /// First P that is not complete.
    cursor: Option<SlotId>,
    /// S by position. They may overlap, but only with equal bytes, and none lies within another:
    /// their starts and their ends rise alike.
    witnesses: List,
    /// Where searches begin, so that they are short: the witness that reaches furthest of those
    /// used up, for new data, and the one met last among the others, for retransmissions.
    frontier: Option<SlotId>,
    revisited: Option<SlotId>,
    /// S with SYN, FIN or RST that no P has matched.
    controls: List,
    /// S that belong to the next incarnation.
    deferred: List,
    /// Epoch in which the state below was last valid.
    epoch: u32,
    /// A difference was seen: nothing leaves until the commit.
    diverged: bool,
    /// The PVM's SYN opened this incarnation and the SVM's has not come: other S are the old incarnation's.
    awaits_syn: bool,
    /// The offset between the VMs' numbers was reported.
    synchronized: bool,
    /// ISN of the latest SYN in order of arrival; later P count from it.
    arriving_isn: Option<u32>,
    /// The SVM's ISN of the last incarnation: such a SYN opens nothing any more.
    former_isn: Option<u32>,
    seen_primary: bool,
    seen_secondary: bool,
    primary_syn: Option<Syn>,
    secondary_syn: Option<Syn>,
    /// What positions are relative to; 0 unless [`Numbers::OwnIsn`].
    primary_base: u32,
    secondary_base: u32,
    /// Highest acknowledgment that left.
    primary_ack: Option<u32>,
    /// Highest acknowledgment that the SVM sent in this epoch.
    secondary_ack: Option<u32>,
    /// Window field that came with it. The client gets no more from the PVM: what the SVM has no
    /// room for it drops, and the ACK gate would wait for it until the client's timer. Both VMs
    /// agreed on the scale, and no P acknowledges more than the SVM did, so the smaller field never
    /// reaches beyond the SVM's window.
    secondary_window: Option<u16>,
    /// Start and end of a range whose bytes have left or may leave; its end is the highest such.
    /// What witnesses have in it is equal to what the PVM sent.
    compared: Option<(u32, u32)>,
    /// Position of the PVM's FIN that was found equal or has left, and of the SVM's.
    primary_fin: Option<u32>,
    secondary_fin: Option<u32>,
    /// Position and acknowledgment of the PVM's last RST that came from both or has left.
    matched_rst: Option<(u32, Option<u32>)>,
}

/// Range of stream that is remembered as compared, in bytes: far below the 2^31 that numbers order.
const REMEMBERED: i32 = 1 << 30;

enum Verdict {
    Complete,
    Waits,
    Differs(Reason, Option<SlotId>, u32),
}

impl Stream {
    /// Whether nothing of this connection waits: neither a frame nor, for the commit, a difference.
    pub fn is_quiet<F: Frame>(&self, hold: &Hold<F>, epoch: u32) -> bool {
        let last = self.witnesses.tail;
        self.primaries.is_empty()
            && self.controls.is_empty()
            && self.deferred.is_empty()
            && (last == NIL || hold.slot(last).complete)
            && !(self.diverged && self.epoch == epoch)
    }

    /// Whether the VMs' numbers of a living connection differ by what only this state knows.
    pub fn is_offset(&self, epoch: u32) -> bool {
        let closed = self.primary_fin.is_some() || self.matched_rst.is_some();
        self.primary_base != self.secondary_base && self.epoch == epoch && !closed
    }

    /// Takes in a P that already has its slot, and lets leave what may.
    pub fn primary<F: Frame>(&mut self, cx: &mut Context<'_, F>, id: SlotId, packet: &Packet) {
        self.refresh(cx);
        let tcp = packet.tcp;
        let syn = tcp.flags.contains(TcpFlags::SYN);
        if syn && self.arriving_isn != Some(tcp.seq) {
            // What the SVM said before its own SYN belongs to an older incarnation.
            let reused = self.seen_primary || (self.seen_secondary && self.secondary_syn.is_none());
            cx.hold.slot_mut(id).opens = reused;
            self.arriving_isn = Some(tcp.seq);
            if !reused {
                self.open(cx, id);
                self.awaits_syn = self.secondary_syn.is_none();
            }
        }
        if !syn && !self.seen_primary && self.secondary_syn.is_some() {
            self.postpone(cx.hold);
        }
        self.seen_primary = true;
        let base = match (cx.numbers, self.arriving_isn) {
            (Numbers::OwnIsn, Some(isn)) => isn,
            _ => 0,
        };
        fill(cx.hold, id, packet, base);
        cx.hold.slot_mut(id).flow = Some(cx.flow);
        cx.hold.slot_mut(id).place = Place::Primary;
        cx.hold.push_back(Link::Flow, &mut self.primaries, id);
        if self.cursor.is_none() {
            self.cursor = Some(id);
        }
        self.advance(cx);
    }

    /// Takes in an S, and lets leave what may.
    pub fn secondary<F: Frame>(
        &mut self,
        cx: &mut Context<'_, F>,
        frame: F,
        packet: &Packet,
        arrived: Ticks,
    ) {
        self.refresh(cx);
        if self.diverged {
            return;
        }
        if !self.deferred.is_empty() || self.opens_next(packet) {
            match cx.keep(frame, arrived) {
                Some(id) => self.shelve(cx, id, Place::Deferred),
                None => self.diverged = true,
            }
            return;
        }
        self.compare_secondary(cx, frame, packet, arrived);
        self.advance(cx);
    }

    /// Whether an S begins an incarnation that the PVM has not begun yet.
    fn opens_next(&self, packet: &Packet) -> bool {
        if !packet.tcp.flags.contains(TcpFlags::SYN) {
            return false;
        }
        match self.secondary_syn {
            Some(syn) => syn.isn != packet.tcp.seq,
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
        let stale = self.awaits_syn && self.former_isn == Some(tcp.seq);
        if syn && self.secondary_syn.is_none() && !stale {
            self.secondary_syn = Some(Syn::of(&frame, packet));
            self.awaits_syn = false;
            if cx.numbers == Numbers::OwnIsn {
                self.secondary_base = tcp.seq;
            }
        }
        if self.awaits_syn {
            return;
        }
        self.seen_secondary = true;
        if tcp.flags.contains(TcpFlags::ACK)
            && self
                .secondary_ack
                .is_none_or(|ack| at_or_before(ack, tcp.ack))
        {
            self.secondary_ack = Some(tcp.ack);
            self.secondary_window = (!syn).then_some(tcp.window);
        }
        // Behind a rewriter everything but the SVM's SYN carries the PVM's numbers.
        let shift = match (syn, self.primary_syn) {
            (true, Some(primary)) if cx.numbers == Numbers::Translated => {
                tcp.seq.wrapping_sub(primary.isn)
            }
            _ => self.secondary_base,
        };
        let seq = tcp.seq.wrapping_sub(shift).wrapping_add(u32::from(syn));
        let end = seq.wrapping_add(packet.payload_len);
        if tcp.flags.contains(TcpFlags::FIN) && self.secondary_fin.is_none() {
            self.secondary_fin = Some(end);
        }
        let control = tcp
            .flags
            .intersects(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST);
        if control && !self.control_is_matched(&tcp, seq) {
            match cx.keep(frame.share(), arrived) {
                Some(id) => {
                    fill(cx.hold, id, packet, shift);
                    self.shelve(cx, id, Place::Control);
                }
                None => self.diverged = true,
            }
        }
        // Data on a SYN has no known position before the PVM's SYN has come.
        let lost = syn && cx.numbers == Numbers::Translated && self.primary_syn.is_none();
        if packet.payload_len > 0 && !lost {
            self.witness(cx, frame, packet, shift, arrived);
        }
    }

    /// Keeps an S with payload, unless all its bytes are there already.
    fn witness<F: Frame>(
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
        fill(cx.hold, id, packet, shift);
        let (seq, end) = (cx.hold.slot(id).seq, cx.hold.slot(id).end());
        if self.compared.is_some_and(|(_, to)| at_or_before(end, to)) {
            // A retransmission of bytes that P have matched: no P need ever ask for it again.
            cx.hold.slot_mut(id).complete = true;
            cx.hold.stand(id, Standing::History);
        }
        let first = self.reaching_from_the_end(cx.hold, seq);
        self.revisited = Some(first).filter(|w| *w != NIL);
        let mut w = first;
        while w != NIL && before(cx.hold.slot(w).seq, end) {
            let from = max(seq, cx.hold.slot(w).seq);
            let to = min(end, cx.hold.slot(w).end());
            let n = to.wrapping_sub(from) as usize;
            if let Some(k) = difference(cx.hold, id, w, from, n) {
                cx.hold.remove(id);
                let at = from.wrapping_add(k as u32);
                let p = self.primaries.head;
                self.diverge(cx, Reason::SecondaryInconsistent, p, Some(w), at);
                return;
            }
            w = cx.hold.next(Link::Flow, w);
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
        slot.place = Place::Witness;
        cx.hold
            .insert_after(Link::Flow, &mut self.witnesses, after, id);
    }

    /// Drops the witnesses that lie within a range; returns the last one that begins before it.
    /// `first` is the first one that ends behind the range's start.
    fn swallow<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        first: SlotId,
        seq: u32,
        end: u32,
    ) -> SlotId {
        let mut after = match first {
            NIL => self.witnesses.tail,
            first => hold.previous(Link::Flow, first),
        };
        let mut w = first;
        while w != NIL && at_or_before(hold.slot(w).end(), end) {
            let next = hold.next(Link::Flow, w);
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
            id = hold.next(Link::Flow, id);
        }
        if id == near && id != NIL {
            let mut earlier = hold.previous(Link::Flow, id);
            while earlier != NIL && reaches(earlier) {
                id = earlier;
                earlier = hold.previous(Link::Flow, id);
            }
        }
        id
    }

    /// The same for a new witness, which belongs at the end unless it is a retransmission.
    fn reaching_from_the_end<F: Frame>(&self, hold: &Hold<F>, at: u32) -> SlotId {
        let last = self.witnesses.tail;
        let near = match self.revisited {
            Some(w) if last != NIL && before(at, hold.slot(last).seq) => w,
            _ => last,
        };
        self.reaching(hold, near, at)
    }

    /// A witness that has the byte at a position.
    fn covering<F: Frame>(&self, hold: &Hold<F>, at: u32) -> Option<SlotId> {
        let near = match self.frontier {
            Some(w) if at_or_before(hold.slot(w).seq, at) => w,
            frontier => self.revisited.or(frontier).unwrap_or(self.witnesses.head),
        };
        let id = self.reaching(hold, near, at);
        (id != NIL && at_or_before(hold.slot(id).seq, at)).then_some(id)
    }

    /// Compares as far as both streams go and releases what may leave.
    fn advance<F: Frame>(&mut self, cx: &mut Context<'_, F>) {
        if self.diverged || cx.suspended {
            return;
        }
        loop {
            while let Some(id) = self.cursor {
                if cx.hold.slot(id).opens {
                    if self.primaries.head != id {
                        break;
                    }
                    self.reopen(cx, id);
                    continue;
                }
                match self.examine(cx, id) {
                    Verdict::Complete => {
                        cx.hold.slot_mut(id).complete = true;
                        self.cursor =
                            Some(cx.hold.next(Link::Flow, id)).filter(|next| *next != NIL);
                    }
                    Verdict::Waits => break,
                    Verdict::Differs(reason, witness, at) => {
                        self.diverge(cx, reason, id, witness, at);
                        return;
                    }
                }
            }
            if !self.release(cx) || self.cursor.is_none() {
                return;
            }
        }
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
            if let Some(window) = self.secondary_window {
                lower_window(cx.hold, id, window);
            }
            self.leave(cx.hold, id);
            cx.hold.slot_mut(id).cleared = cx.now;
            cx.hold.stand(id, Standing::Released);
            *cx.released += 1;
            left = true;
        }
        left
    }

    /// Rule R4: whether the SVM has acknowledged what a P acknowledges.
    fn acknowledged_by_both(&self, flags: TcpFlags, ack: u32) -> bool {
        !flags.contains(TcpFlags::ACK) || self.secondary_ack.is_some_and(|s| at_or_before(ack, s))
    }

    /// Takes the oldest P out of the connection and notes what the network will have seen.
    pub fn leave<F: Frame>(&mut self, hold: &mut Hold<F>, id: SlotId) {
        hold.unlink(Link::Flow, &mut self.primaries, id);
        if self.cursor == Some(id) {
            self.cursor = Some(self.primaries.head).filter(|head| *head != NIL);
        }
        let slot = hold.slot_mut(id);
        slot.place = Place::Nowhere;
        if slot.flags.contains(TcpFlags::ACK) {
            self.primary_ack = Some(self.primary_ack.map_or(slot.ack, |ack| max(ack, slot.ack)));
        }
        if slot.flags.contains(TcpFlags::FIN) {
            self.primary_fin = Some(slot.end());
        }
        if slot.flags.contains(TcpFlags::RST) {
            let ack = slot.flags.contains(TcpFlags::ACK).then_some(slot.ack);
            self.matched_rst = Some((slot.seq, ack));
        }
    }

    fn examine<F: Frame>(&mut self, cx: &mut Context<'_, F>, id: SlotId) -> Verdict {
        let (flags, seq, len) = {
            let slot = cx.hold.slot(id);
            (slot.flags, slot.seq, slot.len)
        };
        if flags.contains(TcpFlags::SYN) {
            let (Some(primary), Some(secondary)) = (self.primary_syn, self.secondary_syn) else {
                return Verdict::Waits;
            };
            if primary.agreement != secondary.agreement {
                return Verdict::Differs(
                    Reason::SynOptions,
                    Some(self.controls.head).filter(|c| *c != NIL),
                    seq,
                );
            }
            if !self.synchronized {
                self.synchronized = true;
                cx.synchronized.push_back(Synchronized {
                    flow: cx.key,
                    pvm: (primary.isn, primary.timestamp),
                    svm: (secondary.isn, secondary.timestamp),
                });
            }
            self.match_control(cx.hold, id, TcpFlags::SYN);
        }
        if flags.contains(TcpFlags::RST) {
            let ack = cx.hold.slot(id).ack;
            let this = Some((seq, flags.contains(TcpFlags::ACK).then_some(ack)));
            if self.matched_rst != this && !self.has_rst(cx.hold, seq) {
                return Verdict::Waits;
            }
            self.matched_rst = this;
            self.match_control(cx.hold, id, TcpFlags::RST);
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
            if let Some(k) = difference(cx.hold, id, w, at, n as usize) {
                return Verdict::Differs(Reason::Payload, Some(w), at.wrapping_add(k as u32));
            }
            verified += n;
            let arrived = cx.hold.slot(w).arrived;
            let slot = cx.hold.slot_mut(id);
            slot.verified = verified;
            slot.witnessed = Some(slot.witnessed.map_or(arrived, |t| t.max(arrived)));
            let end = at.wrapping_add(n);
            self.note_compared(at, end);
            if end == cx.hold.slot(w).end() {
                self.use_up(cx.hold, w);
            }
        }
        if flags.contains(TcpFlags::FIN) {
            let fin = seq.wrapping_add(len);
            match self.secondary_fin {
                Some(s) if s == fin => {
                    self.primary_fin = Some(fin);
                    self.match_control(cx.hold, id, TcpFlags::FIN);
                }
                Some(_) => return Verdict::Differs(Reason::StreamEnd, None, fin),
                None => match self.covering(cx.hold, fin) {
                    Some(w) => return Verdict::Differs(Reason::StreamEnd, Some(w), fin),
                    None => return Verdict::Waits,
                },
            }
        }
        Verdict::Complete
    }

    /// Extends the range of bytes found equal, or moves on to a new range behind a gap.
    fn note_compared(&mut self, at: u32, end: u32) {
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

    /// An S whose last byte a P has matched becomes history.
    fn use_up<F: Frame>(&mut self, hold: &mut Hold<F>, w: SlotId) {
        if !hold.slot(w).complete {
            hold.slot_mut(w).complete = true;
            hold.stand(w, Standing::History);
        }
        let end = hold.slot(w).end();
        if self.compared.is_some_and(|(_, to)| to == end) {
            self.frontier = Some(w);
        } else {
            self.revisited = Some(w);
        }
    }

    /// Whether the PVM's counterparts of an S's control bits have been here already.
    fn control_is_matched(&self, tcp: &Tcp, seq: u32) -> bool {
        let flags = tcp.flags;
        let rst = Some((seq, flags.contains(TcpFlags::ACK).then_some(tcp.ack)));
        (!flags.contains(TcpFlags::SYN) || self.synchronized)
            && (!flags.contains(TcpFlags::FIN) || self.primary_fin.is_some())
            && (!flags.contains(TcpFlags::RST) || self.matched_rst == rst)
    }

    fn has_rst<F: Frame>(&self, hold: &Hold<F>, seq: u32) -> bool {
        let mut c = self.controls.head;
        while c != NIL {
            let slot = hold.slot(c);
            if slot.flags.contains(TcpFlags::RST) && slot.seq == seq {
                return true;
            }
            c = hold.next(Link::Flow, c);
        }
        false
    }

    /// Drops the S that a P's control bit was waiting for, and notes when they came.
    fn match_control<F: Frame>(&mut self, hold: &mut Hold<F>, id: SlotId, bit: TcpFlags) {
        let seq = hold.slot(id).seq;
        let mut c = self.controls.head;
        while c != NIL {
            let next = hold.next(Link::Flow, c);
            let slot = hold.slot(c);
            if slot.flags.contains(bit) && (bit != TcpFlags::RST || slot.seq == seq) {
                let arrived = hold.slot(c).arrived;
                let slot = hold.slot_mut(id);
                slot.witnessed = Some(slot.witnessed.map_or(arrived, |t| t.max(arrived)));
                hold.unlink(Link::Flow, &mut self.controls, c);
                hold.remove(c);
            }
            c = next;
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

    /// At a fence: keeps of an S that a P has matched in part what was matched, as history; false
    /// if there is no such part.
    pub fn cut<F: Frame>(&self, hold: &mut Hold<F>, id: SlotId) -> bool {
        let slot = hold.slot_mut(id);
        let Some((from, to)) = self.compared.filter(|_| slot.place == Place::Witness) else {
            return false;
        };
        if before(slot.seq, from) || at_or_before(to, slot.seq) {
            return false;
        }
        slot.len = min(to, slot.end()).wrapping_sub(slot.seq);
        slot.complete = true;
        hold.stand(id, Standing::History);
        true
    }

    /// Takes a slot that a fence or the history's limit removes out of the connection's lists.
    pub fn forget<F: Frame>(&mut self, hold: &mut Hold<F>, id: SlotId) {
        for near in [&mut self.frontier, &mut self.revisited] {
            if *near == Some(id) {
                *near = None;
            }
        }
        match hold.slot(id).place {
            Place::Witness => hold.unlink(Link::Flow, &mut self.witnesses, id),
            Place::Control => hold.unlink(Link::Flow, &mut self.controls, id),
            Place::Deferred => hold.unlink(Link::Flow, &mut self.deferred, id),
            Place::Primary | Place::Nowhere => {}
        }
        hold.slot_mut(id).place = Place::Nowhere;
    }

    /// Drops everything that the connection still keeps.
    pub fn clear<F: Frame>(&mut self, hold: &mut Hold<F>) {
        (self.frontier, self.revisited) = (None, None);
        for list in [&mut self.witnesses, &mut self.controls, &mut self.deferred] {
            while list.head != NIL {
                let id = list.head;
                hold.unlink(Link::Flow, list, id);
                hold.remove(id);
            }
        }
    }

    fn shelve<F: Frame>(&mut self, cx: &mut Context<'_, F>, id: SlotId, place: Place) {
        let slot = cx.hold.slot_mut(id);
        slot.flow = Some(cx.flow);
        slot.place = place;
        let list = match place {
            Place::Control => &mut self.controls,
            Place::Deferred => &mut self.deferred,
            _ => &mut self.witnesses,
        };
        cx.hold.push_back(Link::Flow, list, id);
    }

    /// Begins the first incarnation with a P's SYN.
    fn open<F: Frame>(&mut self, cx: &mut Context<'_, F>, id: SlotId) {
        let packet = Packet::parse(cx.hold.frame(id).head(), cx.hold.frame(id).len());
        let syn = Syn::of(cx.hold.frame(id), &packet);
        self.primary_syn = Some(syn);
        if cx.numbers == Numbers::OwnIsn {
            self.primary_base = syn.isn;
        }
    }

    /// The PVM still speaks for an incarnation before the one that the SVM's SYN opened: what the
    /// SVM has sent belongs to the next.
    fn postpone<F: Frame>(&mut self, hold: &mut Hold<F>) {
        let deferred = std::mem::take(&mut self.controls);
        self.clear(hold);
        *self = Self {
            deferred,
            epoch: self.epoch,
            diverged: self.diverged,
            ..Self::default()
        };
        let mut s = deferred.head;
        while s != NIL {
            hold.slot_mut(s).place = Place::Deferred;
            s = hold.next(Link::Flow, s);
        }
    }

    /// Begins the next incarnation (port reuse): everything of the last one has left.
    fn reopen<F: Frame>(&mut self, cx: &mut Context<'_, F>, id: SlotId) {
        cx.hold.slot_mut(id).opens = false;
        let mut deferred = std::mem::take(&mut self.deferred);
        self.clear(cx.hold);
        *self = Self {
            primaries: self.primaries,
            cursor: self.cursor,
            epoch: self.epoch,
            arriving_isn: self.arriving_isn,
            former_isn: self.secondary_syn.map(|syn| syn.isn),
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
            let arrived = cx.hold.slot(s).arrived;
            cx.hold.unlink(Link::Flow, &mut deferred, s);
            let frame = cx.hold.remove(s);
            self.compare_secondary(cx, frame, &packet, arrived);
        }
    }

    /// After a commit the SVM runs with the PVM's state, so what is known of the SVM is what is known of the PVM.
    fn refresh<F: Frame>(&mut self, cx: &mut Context<'_, F>) {
        if self.epoch == cx.epoch {
            return;
        }
        self.epoch = cx.epoch;
        self.diverged = false;
        self.awaits_syn = false;
        self.synchronized = self.primary_syn.is_some();
        self.seen_secondary = self.seen_primary;
        self.secondary_syn = self.primary_syn;
        self.secondary_base = self.primary_base;
        self.secondary_ack = self.primary_ack;
        self.secondary_window = None;
        self.secondary_fin = self.primary_fin;
        self.forget_uncompared(cx.hold);
    }

    /// Drops witnesses with bytes that the PVM has not sent: they are no part of its state.
    fn forget_uncompared<F: Frame>(&mut self, hold: &mut Hold<F>) {
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

    /// A commit lets a P leave that no S was compared with; its bytes become history.
    pub fn commit<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        id: SlotId,
        numbers: Numbers,
        now: Ticks,
    ) {
        if hold.slot(id).opens {
            hold.slot_mut(id).opens = false;
            self.clear(hold);
            let packet = Packet::parse(hold.frame(id).head(), hold.frame(id).len());
            let syn = Syn::of(hold.frame(id), &packet);
            *self = Self {
                primaries: self.primaries,
                cursor: self.cursor,
                epoch: self.epoch,
                arriving_isn: self.arriving_isn,
                seen_primary: true,
                primary_syn: Some(syn),
                primary_base: if numbers == Numbers::OwnIsn {
                    syn.isn
                } else {
                    0
                },
                ..Self::default()
            };
        }
        let (seq, end, len) = (hold.slot(id).seq, hold.slot(id).end(), hold.slot(id).len);
        self.leave(hold, id);
        if len == 0 {
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
        if let Ok(w) = hold.insert_secondary(share, now) {
            let slot = hold.slot_mut(w);
            (slot.seq, slot.len, slot.payload, slot.flow) = (seq, len, payload, flow);
            slot.place = Place::Witness;
            slot.complete = true;
            hold.insert_after(Link::Flow, &mut self.witnesses, after, w);
            hold.stand(w, Standing::History);
        }
    }

    /// Why the oldest P of this connection still waits.
    pub fn reason_of_wait<F: Frame>(&self, hold: &Hold<F>, id: SlotId) -> Reason {
        if hold.slot(id).complete {
            Reason::AckAhead
        } else {
            Reason::MissingSecondary
        }
    }

    /// Offset in the stream of the first byte of a frame, when the SYN was seen.
    pub fn stream_offset(&self, at: u32) -> Option<u32> {
        let syn = self.primary_syn?;
        Some(
            at.wrapping_sub(syn.isn.wrapping_sub(self.primary_base))
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
}

/// Lets a P advertise no more than a window; a frame with another owner keeps its own.
fn lower_window<F: Frame>(hold: &mut Hold<F>, id: SlotId, window: u16) {
    let slot = hold.slot_mut(id);
    if slot.window <= window || slot.flags.intersects(TcpFlags::SYN | TcpFlags::RST) {
        return;
    }
    let (at, old) = (slot.transport as usize, slot.window);
    let Some(frame) = &mut slot.frame else { return };
    let partial = frame.has_partial_checksum();
    let Some(header) = frame.head_mut().and_then(|head| head.get_mut(at..at + 20)) else {
        return;
    };
    header[WINDOW..WINDOW + 2].copy_from_slice(&window.to_be_bytes());
    if !partial {
        let field = &mut header[TCP_CHECKSUM..TCP_CHECKSUM + 2];
        let sum = u16::from_be_bytes([field[0], field[1]]);
        field.copy_from_slice(&update_u16(sum, old, window).to_be_bytes());
    }
    slot.window = window;
}

/// How far the bytes from `seq` to `end` are known from witnesses on, of which `first` is the first
/// that ends behind `seq`.
fn known_to<F: Frame>(hold: &Hold<F>, first: SlotId, seq: u32, end: u32) -> u32 {
    let mut known = seq;
    let mut w = first;
    while w != NIL && known != end && at_or_before(hold.slot(w).seq, known) {
        known = min(end, hold.slot(w).end());
        w = hold.next(Link::Flow, w);
    }
    known
}

/// Distance from position `at` to the first byte in which two slots differ, within `n` bytes.
fn difference<F: Frame>(hold: &Hold<F>, a: SlotId, b: SlotId, at: u32, n: usize) -> Option<usize> {
    let start = |id: SlotId| {
        let slot = hold.slot(id);
        slot.payload as usize + at.wrapping_sub(slot.seq) as usize
    };
    first_difference(hold.frame(a), start(a), hold.frame(b), start(b), n)
}
