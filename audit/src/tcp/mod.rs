//! One TCP connection's output: whether each byte, flag and acknowledgment that left was free to.
//!
//! What the VM sent waits in its order ([`queue`]); what the other VM sent in the epoch is noted by position
//! ([`secondary`]). A segment that leaves must be the next one that waits (rule R5) or one that may overtake it
//! (R2, [`overtaking`]), and each of its bytes must be known from the SVM, or have been free to leave
//! before (R1); it acknowledges no more than the SVM has (R4, [`comparison`]). What a commit covers is free, and so is
//! what comes of it again: the SVM runs with a state in which it was sent.
//!
//! Connections that reuse the same ports are distinguished by their SYNs: each new initial sequence number of a VM
//! begins an incarnation ([`incarnation`]), and the two VMs' pair up by their count since the last commit.

mod comparison;
mod incarnation;
mod masking;
mod overtaking;
mod parts;
mod queue;
mod secondary;
mod segment;
mod unexpected;

use dpdk_colo::packet::{Packet, TcpFlags};

use crate::record::Numbers;
use crate::report::Rule;
use crate::same::first_difference;
use crate::verdict::{CapturePoint, Fault, Received, Releasing, Why};
use comparison::Comparison;
use incarnation::SinceSyn;
use overtaking::{Departures, Order};
use queue::{Held, Queue};
use secondary::Secondary;
use segment::{extent, lacks_ack};

pub use incarnation::Incarnation;
pub use masking::Masks;
pub use segment::{payload, payload_at};

/// One connection's output at one node.
pub struct Flow {
    queue: Queue,
    secondary: Secondary,
    departures: Departures,
    masks: Masks,
    /// The present incarnation, by number.
    incarnation: usize,
    since_syn: SinceSyn,
    /// Fences that the last commit seen here covers.
    synced: u64,
    /// Since which turn a byte that waits differs from the SVM's.
    diverged: Option<u64>,
}

impl Flow {
    /// A connection whose last known incarnation is the last of these.
    pub fn new(numbers: Numbers, incarnations: &mut Vec<Incarnation>, keep: bool) -> Self {
        if incarnations.is_empty() {
            incarnations.push(Incarnation::new(None, keep));
        }
        let last = incarnations.len() - 1;
        Self {
            queue: Queue::default(),
            secondary: Secondary::new(numbers, last, incarnations[last].isn),
            departures: Departures::new(last),
            masks: Masks::default(),
            incarnation: last,
            since_syn: SinceSyn::default(),
            synced: 0,
            diverged: None,
        }
    }

    /// The same, under rules that mask bytes.
    pub fn with_masks(self, masks: Masks) -> Self {
        Self { masks, ..self }
    }

    /// The record at hand is of this time.
    pub fn at(&mut self, now: u64) {
        self.masks.now = now;
    }

    /// The client has reset the connection, and both VMs got it.
    pub fn client_reset(&mut self, seq: u32) {
        self.queue.client_reset(seq);
    }

    /// Takes in how far commits reach: bytes that were taken before this many fences are free.
    fn sync(&mut self, committed: u64, incarnations: &mut [Incarnation]) {
        if self.synced >= committed {
            return;
        }
        self.synced = committed;
        self.queue.commit(committed, incarnations);
        self.diverged = None;
        let isn = incarnations[self.incarnation].isn;
        self.secondary.load(self.incarnation, isn, self.since_syn);
    }

    /// The VM has sent a segment.
    pub fn taken(
        &mut self,
        captured: CapturePoint,
        packet: Packet,
        bytes: Box<[u8]>,
        committed: u64,
        incarnations: &mut Vec<Incarnation>,
    ) {
        self.sync(committed, incarnations);
        let seq = packet.tcp.seq;
        if packet.tcp.flags.contains(TcpFlags::SYN)
            && (incarnations[self.incarnation].isn != Some(seq) || self.since_syn.is_over(&packet))
        {
            self.since_syn = SinceSyn::default();
            let keep = incarnations[self.incarnation].bytes.everything;
            incarnations.push(Incarnation::new(Some(seq), keep));
            self.incarnation = incarnations.len() - 1;
        }
        self.since_syn.note(&packet);
        let held = Held::new(captured, self.incarnation, packet, bytes);
        let differs =
            self.diverged.is_none() && self.secondary.difference(&held, incarnations).is_some();
        self.queue.push(held);
        if differs
            && self
                .secondary
                .reaches_difference(&self.queue, incarnations, &self.masks)
        {
            self.diverged = Some(captured.turn);
        }
    }

    /// The other VM has sent a segment.
    pub fn witnessed(
        &mut self,
        received: Received,
        packet: &Packet,
        bytes: &[u8],
        committed: u64,
        incarnations: &mut [Incarnation],
    ) {
        self.sync(committed, incarnations);
        let sent = self.secondary.note(received, packet, bytes, incarnations);
        if let Some(sent) = sent
            && self.diverged.is_none()
            && self
                .secondary
                .shows_divergence(&sent, &self.queue, incarnations, &self.masks)
        {
            self.diverged = Some(received.turn);
        }
    }

    /// A segment has left.
    ///
    /// # Errors
    /// When it was not free to.
    pub fn left(
        &mut self,
        packet: &Packet,
        out: &[u8],
        cx: &mut Releasing,
        incarnations: &mut [Incarnation],
    ) -> Result<Why, Fault> {
        self.sync(cx.committed, incarnations);
        let whole = |held: &Held| {
            held.left() == 0 && first_difference(&held.bytes, &held.packet, out).is_none()
        };
        let mut refused = None;
        // Segments that say the same may differ in what a node may change, and what left whole may look
        // like a piece of a longer one, or like the rest of an older one, which keeps others from leaving.
        let (mut candidates, mut pieces) = (Vec::new(), Vec::new());
        for (index, held) in self.queue.held().enumerate() {
            if whole(held) || held.ends_with(packet, out) {
                candidates.push(index);
            } else if held.begins_with(packet, out) {
                pieces.push(index);
            }
        }
        candidates.extend(pieces);
        for index in candidates {
            match self.judge(index, packet, out, cx, incarnations) {
                Ok((why, order)) => {
                    self.gone(index, (&why, order), packet, out, cx, incarnations);
                    return Ok(why);
                }
                Err(fault) => {
                    refused.get_or_insert(fault);
                }
            }
        }
        if let Some((index, why, order)) = self.exchange(packet, out, cx, incarnations) {
            self.gone(index, (&why, order), packet, out, cx, incarnations);
            return Ok(why);
        }
        Err(refused.unwrap_or_else(|| self.unexpected(packet, out, incarnations)))
    }

    /// Lets segments exchange how far they have left, so that what left now may be a part of one of them:
    /// its index among those that wait, and why and in which order it may leave.
    fn exchange(
        &mut self,
        packet: &Packet,
        out: &[u8],
        cx: &Releasing,
        incarnations: &[Incarnation],
    ) -> Option<(usize, Why, Order)> {
        for (record, lefts) in self.queue.exchanges(packet, out, incarnations) {
            let before = self.queue.set_left(&lefts);
            let index = self.queue.place(record);
            if let Ok((why, order)) = self.judge(index, packet, out, cx, incarnations) {
                self.queue.trim();
                return Some((index, why, order));
            }
            self.queue.set_left(&before);
        }
        None
    }

    /// Whether what has left may be one that waits.
    fn judge(
        &self,
        index: usize,
        packet: &Packet,
        out: &[u8],
        cx: &Releasing,
        incarnations: &[Incarnation],
    ) -> Result<(Why, Order), Fault> {
        let held = self.queue.get(index);
        let piece = payload(packet, out);
        let order = if index == 0 {
            Order::Next
        } else {
            match self.may_overtake(index, packet, piece, cx, incarnations) {
                Ok(()) => Order::Overtakes,
                Err(_) if cx.vanished >= self.queue.missing(index) => Order::Next,
                Err(fault) => return Err(fault),
            }
        };
        self.departures
            .number(&self.queue, index, order, packet, incarnations)?;
        self.departures.time(held, packet, out, cx)?;
        let why = held.captured.why(cx);
        let incarnation = &incarnations[held.incarnation];
        let comparison = self.comparison(held, packet, piece, incarnations);
        let at = payload_at(packet);
        let probe =
            why.is_some() && incarnation.is_probe(packet, at) || comparison.is_equal_probe();
        let known = incarnation.bytes.read(at, piece.len());
        for (i, known) in known.into_iter().enumerate() {
            let number = at.wrapping_add(i as u32);
            if cx.has_taken_over && incarnation.masked.contains(number) {
                continue;
            }
            if let Some(known) = known.filter(|known| *known != piece[i] && !probe) {
                return Err(Fault {
                    rule: Rule::R5,
                    position: Some(incarnation.position(number)),
                    records: vec![held.record()],
                    what: format!(
                        "a byte left as {known:#04x} before and leaves as {:#04x} now",
                        piece[i]
                    ),
                });
            }
        }
        if let Some(why) = why {
            return Ok((why, order));
        }
        comparison.judge()?;
        Ok((Why::Compared, order))
    }

    /// What a piece of a segment says, beside what may leave.
    fn comparison<'a>(
        &'a self,
        held: &'a Held,
        packet: &'a Packet,
        piece: &'a [u8],
        incarnations: &'a [Incarnation],
    ) -> Comparison<'a> {
        Comparison::new(held, packet, piece, &self.secondary, incarnations).with_masks(&self.masks)
    }

    /// Notes that one that waited has left, or a piece of it.
    fn gone(
        &mut self,
        mut index: usize,
        (why, order): (&Why, Order),
        packet: &Packet,
        out: &[u8],
        cx: &mut Releasing,
        incarnations: &mut [Incarnation],
    ) {
        if order == Order::Next {
            cx.vanished -= self.queue.missing(index);
            self.queue.drop_older(index);
            index = 0;
        }
        let piece = payload(packet, out);
        let held = self.queue.get(index);
        let number = held.incarnation;
        if *why == Why::Compared {
            let masked = self.comparison(held, packet, piece, incarnations).masked();
            for (at, rule) in masked {
                incarnations[number].masked.note(at);
                *cx.masked.entry(rule).or_default() += 1;
            }
        }
        let incarnation = &mut incarnations[number];
        if cx.has_taken_over {
            cx.masked_again += incarnation.note_again(payload_at(packet), piece);
        }
        if *why == Why::Compared && lacks_ack(packet) {
            let base = self.secondary.base(Some(incarnation));
            self.secondary.use_alone(number, extent(packet, base));
        }
        incarnation.free(&held.packet, &held.bytes, held.left(), piece);
        incarnation.note_left(packet, piece);
        self.queue.leave(index, piece, order == Order::Overtakes);
        self.departures.note(number, packet, out, piece);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use colo_testkit::packets::{self, Ends, Segment};

    use super::*;

    /// A segment from the VM.
    pub(super) fn parsed(segment: &Segment) -> (Packet, Box<[u8]>) {
        let ends = Ends {
            peer: 2,
            port: 80,
            peer_port: 40_000,
            ..Ends::default()
        };
        let bytes = packets::tcp(&ends, segment, 0);
        let packet = Packet::parse(&bytes, bytes.len());
        (packet, bytes.into())
    }

    /// When a segment was captured, in front of any fence.
    pub(super) fn captured(record: u64, epoch: u32) -> CapturePoint {
        CapturePoint {
            record,
            epoch,
            fences: 0,
            open: false,
            turn: record,
        }
    }

    /// One of the first incarnation, captured in an epoch as a record.
    pub(super) fn held_as(record: u64, segment: &Segment, epoch: u32) -> Held {
        let (packet, bytes) = parsed(segment);
        Held::new(captured(record, epoch), 0, packet, bytes)
    }

    /// One of the first incarnation, captured in an epoch.
    pub(super) fn held(segment: &Segment, epoch: u32) -> Held {
        held_as(1, segment, epoch)
    }

    fn segment(seq: u32, text: &[u8]) -> Segment {
        Segment {
            seq,
            ack: Some(7),
            payload: text.to_vec(),
            ..Segment::default()
        }
    }

    /// A node at which nothing is open.
    fn releasing(committed: u64, vanished: u64) -> Releasing {
        Releasing {
            committed,
            open: false,
            policy: None,
            has_taken_over: false,
            masked: BTreeMap::new(),
            masked_again: 0,
            vanished,
        }
    }

    fn taken(flow: &mut Flow, record: u64, segment: &Segment, known: &mut Vec<Incarnation>) {
        let (packet, bytes) = parsed(segment);
        flow.taken(captured(record, 1), packet, bytes, 0, known);
    }

    fn left(
        flow: &mut Flow,
        segment: &Segment,
        cx: &mut Releasing,
        known: &mut [Incarnation],
    ) -> Result<Why, Rule> {
        let (packet, bytes) = parsed(segment);
        let judged = flow.left(&packet, &bytes, cx, known);
        judged.map_err(|fault| fault.rule)
    }

    #[test]
    fn a_segment_leaves_when_the_svm_has_sent_it_or_a_commit_covers_it() {
        let mut known = Vec::new();
        let mut flow = Flow::new(Numbers::Translated, &mut known, false);
        taken(&mut flow, 1, &segment(100, b"abc"), &mut known);
        taken(&mut flow, 2, &segment(103, b"def"), &mut known);
        let mut cx = releasing(0, 0);
        let first = left(&mut flow, &segment(100, b"abc"), &mut cx, &mut known);
        assert_eq!(first, Err(Rule::R1));
        let (packet, bytes) = parsed(&segment(100, b"abc"));
        let received = Received {
            record: 3,
            epoch: 1,
            turn: 3,
        };
        flow.witnessed(received, &packet, &bytes, 0, &mut known);
        let first = left(&mut flow, &segment(100, b"abc"), &mut cx, &mut known);
        assert_eq!(first, Ok(Why::Compared));
        let mut cx = releasing(1, 0);
        let second = left(&mut flow, &segment(103, b"def"), &mut cx, &mut known);
        assert_eq!(second, Ok(Why::Committed));
        let again = left(&mut flow, &segment(103, b"def"), &mut cx, &mut known);
        assert_eq!(again, Err(Rule::R5));
    }

    #[test]
    fn segments_that_vanished_are_paid_for() {
        for vanished in [0, 1, 2] {
            let mut known = Vec::new();
            let mut flow = Flow::new(Numbers::Translated, &mut known, false);
            taken(&mut flow, 1, &segment(100, b"abc"), &mut known);
            taken(&mut flow, 2, &segment(103, b"def"), &mut known);
            let mut cx = releasing(1, vanished);
            let second = left(&mut flow, &segment(103, b"def"), &mut cx, &mut known);
            if vanished == 0 {
                assert_eq!(second, Err(Rule::R5));
            } else {
                assert_eq!(second, Ok(Why::Committed));
                assert_eq!(cx.vanished, vanished - 1);
            }
        }
    }

    #[test]
    fn a_syn_with_another_number_begins_an_incarnation() {
        let mut known = Vec::new();
        let mut flow = Flow::new(Numbers::Translated, &mut known, false);
        for (isn, count) in [(500, 2), (500, 2), (900, 3)] {
            let syn = Segment {
                syn: true,
                ..segment(isn, b"")
            };
            taken(&mut flow, 1, &syn, &mut known);
            assert_eq!(known.len(), count);
            assert_eq!(known.last().and_then(|last| last.isn), Some(isn));
        }
    }
}
