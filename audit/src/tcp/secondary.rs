//! What the SVM has sent of a connection in one epoch.
//!
//! Positions count from the SVM's ISN where its segments carry its own numbers, and are the PVM's numbers where they are
//! translated. So a position and [`Secondary::base`] give the PVM's number.

use std::collections::{HashMap, HashSet};

use dpdk_colo::packet::serial::before;
use dpdk_colo::packet::{Packet, TcpFlags};

use super::incarnation::{Incarnation, SinceSyn};
use super::masking::Masks;
use super::queue::{Held, Queue};
use super::segment::{acknowledged, extent, lacks_ack, later, options, payload, payload_at};
use crate::bytes::{ByteMap, Conflict};
use crate::extras::{self, Opening};
use crate::record::Numbers;
use crate::verdict::Received;

/// The SVM's output in one incarnation and epoch.
#[derive(Default)]
pub(super) struct SecondaryOutput {
    pub(super) bytes: ByteMap,
    pub(super) ack: Option<u32>,
    pub(super) openings: Vec<Opening>,
    pub(super) urgent: Vec<u32>,
    pub(super) options: HashSet<Vec<u8>>,
    /// Segments without SYN, RST and ACK, by position, length and control bits, and how many.
    alone: HashMap<(u32, u32, u8), u64>,
    pub(super) fin: Option<u32>,
    pub(super) resets: Vec<u32>,
    /// Its last keepalive with a byte: position and byte.
    pub(super) probe: Option<(u32, u8)>,
    /// First position, not yet left then, for which it sent two values, and the record.
    pub(super) contradiction: Option<(u32, u64)>,
}

impl SecondaryOutput {
    /// Notes a segment but its bytes of payload. Positions count from `base`.
    fn note(&mut self, packet: &Packet, bytes: &[u8], base: u32) {
        let tcp = packet.tcp;
        let at = payload_at(packet).wrapping_sub(base);
        self.options.extend(options(packet, bytes));
        let urgent = extras::urgent(packet, bytes);
        self.urgent.extend(urgent.map(|at| at.wrapping_sub(base)));
        if lacks_ack(packet) {
            *self.alone.entry(extent(packet, base)).or_default() += 1;
        }
        if tcp.flags.contains(TcpFlags::FIN) {
            self.fin = Some(at.wrapping_add(packet.payload_len));
        }
        if tcp.flags.contains(TcpFlags::RST) {
            self.resets.push(tcp.seq.wrapping_sub(base));
        }
    }

    /// Notes bytes that came in a record. `has_left` says whether the byte at a position has left.
    fn note_bytes(&mut self, at: u32, bytes: &[u8], record: u64, has_left: impl Fn(u32) -> bool) {
        let Some(Conflict { offset, .. }) = self.bytes.insert(at, bytes) else {
            return;
        };
        let at = at.wrapping_add(offset as u32);
        let is_first = self
            .contradiction
            .is_none_or(|(known, _)| before(at, known));
        if is_first && !has_left(at) {
            self.contradiction = Some((at, record));
        }
    }

    /// Whether it has a segment without ACK that none of the PVM's has used up.
    pub(super) fn has_alone(&self, extent: (u32, u32, u8)) -> bool {
        self.alone.get(&extent).is_some_and(|left| *left > 0)
    }
}

/// The positions of a segment's payload.
pub(super) struct Span {
    /// The incarnation, by number.
    pub(super) incarnation: usize,
    /// The first position.
    pub(super) at: u32,
    /// The position behind the last.
    pub(super) end: u32,
}

/// The SVM's side of a connection at one node.
pub(super) struct Secondary {
    numbers: Numbers,
    epoch: u32,
    /// The SVM's own count of the incarnations, with which the two VMs' pair up.
    incarnation: usize,
    isn: Option<u32>,
    since_syn: SinceSyn,
    output: HashMap<usize, SecondaryOutput>,
}

impl Secondary {
    /// An SVM that has sent nothing yet in an incarnation with this initial sequence number.
    pub(super) fn new(numbers: Numbers, incarnation: usize, isn: Option<u32>) -> Self {
        Self {
            numbers,
            epoch: 0,
            incarnation,
            isn,
            since_syn: SinceSyn::default(),
            output: HashMap::new(),
        }
    }

    /// The SVM has got the PVM's state, numbers included.
    pub(super) fn load(&mut self, incarnation: usize, isn: Option<u32>, since_syn: SinceSyn) {
        *self = Self {
            since_syn,
            ..Self::new(self.numbers, incarnation, isn)
        };
    }

    /// Takes in a segment. Returns where its bytes are; nothing if it has none to compare.
    pub(super) fn note(
        &mut self,
        received: Received,
        packet: &Packet,
        bytes: &[u8],
        incarnations: &mut [Incarnation],
    ) -> Option<Span> {
        if self.epoch != received.epoch {
            self.epoch = received.epoch;
            self.output.clear();
        }
        let syn = packet.tcp.flags.contains(TcpFlags::SYN);
        if syn && (self.isn != Some(packet.tcp.seq) || self.since_syn.is_over(packet)) {
            self.since_syn = SinceSyn::default();
            self.isn = Some(packet.tcp.seq);
            self.incarnation += 1;
        }
        self.since_syn.note(packet);
        let number = self.incarnation;
        let output = self.output.entry(number).or_default();
        if syn {
            output.openings.push(extras::opening(packet, bytes));
        }
        if let Some(ack) = acknowledged(packet) {
            if let Some(incarnation) = incarnations.get_mut(number) {
                incarnation.note_secondary(output.ack, ack);
            }
            output.ack = Some(later(output.ack, ack));
        }
        let pvm = incarnations.get(number);
        let base = match self.numbers {
            Numbers::OwnIsn => self.isn.unwrap_or(0),
            // A translated stream's SYN alone has a number of its own.
            Numbers::Translated if syn => packet.tcp.seq.wrapping_sub(pvm?.isn?),
            Numbers::Translated => 0,
        };
        output.note(packet, bytes, base);
        let at = payload_at(packet).wrapping_sub(base);
        let of_pvm = base_of_pvm(self.numbers, pvm);
        if pvm.is_some_and(|pvm| pvm.is_probe(packet, at.wrapping_add(of_pvm)))
            && let [byte] = payload(packet, bytes)
        {
            output.probe = Some((at, *byte));
            return None;
        }
        let has_left =
            |at: u32| pvm.is_some_and(|pvm| pvm.bytes.read(at.wrapping_add(of_pvm), 1) != [None]);
        output.note_bytes(at, payload(packet, bytes), received.record, has_left);
        Some(Span {
            incarnation: number,
            at,
            end: at.wrapping_add(packet.payload_len),
        })
    }

    /// One of the PVM's segments without ACK has left, and uses up one of the SVM's.
    pub(super) fn use_alone(&mut self, number: usize, extent: (u32, u32, u8)) {
        let output = self.output.get_mut(&number);
        if let Some(left) = output.and_then(|output| output.alone.get_mut(&extent)) {
            *left -= 1;
        }
    }

    /// The PVM's number of position 0.
    pub(super) fn base(&self, incarnation: Option<&Incarnation>) -> u32 {
        base_of_pvm(self.numbers, incarnation)
    }

    /// What the SVM has sent in the incarnation and epoch of a held segment.
    pub(super) fn output(&self, held: &Held) -> Option<&SecondaryOutput> {
        (self.epoch == held.captured.epoch)
            .then(|| self.output.get(&held.incarnation))
            .flatten()
    }

    /// Whether it has sent a byte with two values in an incarnation.
    fn contradicts(&self, number: usize) -> bool {
        let output = self.output.get(&number);
        output.is_some_and(|output| output.contradiction.is_some())
    }

    /// The offset of the first byte of a held segment that the SVM has sent with another value.
    pub(super) fn difference(&self, held: &Held, incarnations: &[Incarnation]) -> Option<usize> {
        let output = self.output(held)?;
        let own = held.payload();
        let base = self.base(Some(&incarnations[held.incarnation]));
        let at = payload_at(&held.packet).wrapping_sub(base);
        let svm = output.bytes.read(at, own.len());
        (0..own.len()).find(|&i| svm[i].is_some_and(|svm| svm != own[i]))
    }

    /// Whether the bytes that the SVM has sent just now show that the connection has diverged.
    pub(super) fn shows_divergence(
        &self,
        sent: &Span,
        queue: &Queue,
        incarnations: &[Incarnation],
        masks: &Masks,
    ) -> bool {
        let base = self.base(incarnations.get(sent.incarnation));
        let meets = |held: &&Held| {
            let own = payload_at(&held.packet).wrapping_sub(base);
            held.incarnation == sent.incarnation
                && before(own, sent.end)
                && before(sent.at, own.wrapping_add(held.packet.payload_len))
        };
        let mut met = queue.held().filter(meets);
        self.contradicts(sent.incarnation)
            || met.any(|held| self.difference(held, incarnations).is_some())
                && self.reaches_difference(queue, incarnations, masks)
    }

    /// Whether the node's comparison, which goes in order, has come to a byte that differs: it stops where the
    /// SVM has not sent one.
    pub(super) fn reaches_difference(
        &self,
        queue: &Queue,
        incarnations: &[Incarnation],
        masks: &Masks,
    ) -> bool {
        for held in queue.held() {
            let Some(output) = self.output(held) else {
                return false;
            };
            let (at, own) = held.rest();
            let base = self.base(Some(&incarnations[held.incarnation]));
            let svm = output.bytes.read(at.wrapping_sub(base), own.len());
            let is_masked = |i: usize| {
                let number = at.wrapping_add(i as u32);
                let known = &incarnations[held.incarnation];
                let sent = Sent {
                    known,
                    svm: Some(output),
                    base,
                };
                let p = || {
                    let older = queue
                        .held()
                        .filter(|older| older.incarnation == held.incarnation);
                    sent.of_pvm(number, masks.reach(), older.map(Held::placed))
                };
                known.masked.contains(number)
                    || svm[i].is_some() && !masks.is_empty() && {
                        let s = sent.of_svm(number, masks.reach());
                        masks.covering(&p(), &s).is_some()
                    }
            };
            match (0..own.len()).find(|i| svm[*i] != Some(own[*i]) && !is_masked(*i)) {
                Some(i) => return svm[i].is_some(),
                None => continue,
            }
        }
        false
    }
}

/// What both VMs have sent of a connection, by the PVM's numbers.
pub(super) struct Sent<'a> {
    pub(super) known: &'a Incarnation,
    pub(super) svm: Option<&'a SecondaryOutput>,
    pub(super) base: u32,
}

impl Sent<'_> {
    /// The SVM's bytes up to a number, that included. What it sent before the commit counts as the PVM's.
    pub(super) fn of_svm(&self, last: u32, reach: usize) -> Vec<Option<u8>> {
        let first = first_of(last, reach);
        let mut bytes = self.known.bytes.read(first, reach);
        if let Some(svm) = self.svm {
            let own = svm.bytes.read(first.wrapping_sub(self.base), reach);
            for (byte, own) in bytes.iter_mut().zip(own) {
                *byte = own.or(*byte);
            }
        }
        bytes
    }

    /// The PVM's, which left or lie in these segments, each with its first number.
    pub(super) fn of_pvm<'b>(
        &self,
        last: u32,
        reach: usize,
        segments: impl Iterator<Item = (u32, &'b [u8])>,
    ) -> Vec<Option<u8>> {
        let first = first_of(last, reach);
        let mut bytes = self.known.bytes.read(first, reach);
        for (at, payload) in segments {
            for (i, byte) in bytes.iter_mut().enumerate() {
                let own = first.wrapping_add(i as u32).wrapping_sub(at) as usize;
                *byte = byte.or(payload.get(own).copied());
            }
        }
        bytes
    }
}

fn first_of(last: u32, reach: usize) -> u32 {
    last.wrapping_add(1).wrapping_sub(reach as u32)
}

/// What positions count from, in the PVM's numbers.
fn base_of_pvm(numbers: Numbers, incarnation: Option<&Incarnation>) -> u32 {
    match numbers {
        Numbers::OwnIsn => incarnation.and_then(|known| known.isn).unwrap_or(0),
        Numbers::Translated => 0,
    }
}

#[cfg(test)]
mod tests {
    use colo_testkit::packets::Segment;

    use super::*;
    use crate::tcp::tests::{held, parsed};

    const RECEIVED: Received = Received {
        record: 5,
        epoch: 1,
        turn: 1,
    };

    fn segment(seq: u32, text: &[u8]) -> Segment {
        Segment {
            seq,
            ack: Some(7),
            payload: text.to_vec(),
            ..Segment::default()
        }
    }

    fn note(
        secondary: &mut Secondary,
        segment: &Segment,
        known: &mut [Incarnation],
    ) -> Option<Span> {
        let (packet, bytes) = parsed(segment);
        secondary.note(RECEIVED, &packet, &bytes, known)
    }

    #[test]
    fn positions_count_from_the_own_isn_or_are_the_pvm_s_numbers() {
        for (numbers, seq, base, at) in [
            (Numbers::OwnIsn, 501, 100, 1),
            (Numbers::Translated, 101, 0, 101),
        ] {
            let mut known = [Incarnation::new(Some(100), false)];
            let mut secondary = Secondary::new(numbers, 0, Some(500));
            let span = note(&mut secondary, &segment(seq, b"abc"), &mut known).expect("bytes");
            assert_eq!((span.at, span.end), (at, at + 3), "{numbers:?}");
            assert_eq!(secondary.base(known.first()), base);
            let output = secondary.output(&held(&segment(101, b"abc"), 1));
            let bytes = output.expect("the epoch's").bytes.read(at, 3);
            assert_eq!(bytes, [Some(b'a'), Some(b'b'), Some(b'c')]);
        }
    }

    #[test]
    fn output_is_of_one_epoch() {
        let mut known = [Incarnation::default()];
        let mut secondary = Secondary::new(Numbers::Translated, 0, None);
        note(&mut secondary, &segment(100, b"abc"), &mut known);
        assert!(secondary.output(&held(&segment(100, b"abc"), 1)).is_some());
        assert!(secondary.output(&held(&segment(100, b"abc"), 2)).is_none());
        secondary.load(0, None, SinceSyn::default());
        assert!(secondary.output(&held(&segment(100, b"abc"), 1)).is_none());
    }

    #[test]
    fn two_values_of_a_byte_contradict_unless_it_has_left() {
        for has_left in [false, true] {
            let mut known = [Incarnation::default()];
            if has_left {
                known[0].bytes.insert(101, b"b");
            }
            let mut secondary = Secondary::new(Numbers::Translated, 0, None);
            note(&mut secondary, &segment(100, b"abc"), &mut known);
            note(&mut secondary, &segment(100, b"aXc"), &mut known);
            let own = held(&segment(100, b"abc"), 1);
            let output = secondary.output(&own).expect("the epoch's");
            let expected = (!has_left).then_some((101, RECEIVED.record));
            assert_eq!(output.contradiction, expected);
        }
    }

    #[test]
    fn a_difference_behind_a_gap_is_not_reached() {
        let mut known = [Incarnation::default()];
        let mut secondary = Secondary::new(Numbers::Translated, 0, None);
        let mut queue = Queue::default();
        queue.push(held(&segment(100, b"abc"), 1));
        queue.push(held(&segment(103, b"def"), 1));
        let span = note(&mut secondary, &segment(103, b"dXf"), &mut known).expect("bytes");
        let second = queue.held().nth(1).expect("two are held");
        assert_eq!(secondary.difference(second, &known), Some(1));
        assert!(!secondary.reaches_difference(&queue, &known, &Masks::default()));
        assert!(!secondary.shows_divergence(&span, &queue, &known, &Masks::default()));
        let span = note(&mut secondary, &segment(100, b"abcd"), &mut known).expect("bytes");
        assert!(secondary.reaches_difference(&queue, &known, &Masks::default()));
        assert!(secondary.shows_divergence(&span, &queue, &known, &Masks::default()));
    }

    #[test]
    fn a_segment_without_ack_is_used_up() {
        let mut known = [Incarnation::default()];
        let mut secondary = Secondary::new(Numbers::Translated, 0, None);
        let mut lone = segment(100, b"abc");
        lone.ack = None;
        let own = held(&lone, 1);
        let extent = extent(&own.packet, 0);
        note(&mut secondary, &lone, &mut known);
        let has = |secondary: &Secondary| {
            let output = secondary.output(&own);
            output.is_some_and(|output| output.has_alone(extent))
        };
        assert!(has(&secondary));
        secondary.use_alone(0, extent);
        assert!(!has(&secondary));
    }
}
