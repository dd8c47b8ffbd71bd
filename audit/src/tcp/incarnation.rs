//! One incarnation of a connection: the bytes, control bits and acknowledgments that were free to leave, by the PVM's
//! numbers, whichever node released them.

use std::collections::HashSet;

use dpdk_colo::packet::serial::at_or_before;
use dpdk_colo::packet::{Packet, TcpFlags};

use super::masking::MaskedBytes;
use super::segment::{acknowledged, later, numbers, options, payload_at};
use crate::bytes::ByteMap;
use crate::extras::{self, Opening};
use crate::ranges::Ranges;

/// One connection between two SYNs of its ports: what was free to leave.
#[derive(Default)]
pub struct Incarnation {
    /// Initial sequence number, if the SYN was seen.
    pub isn: Option<u32>,
    /// Bytes that left or that a commit covers.
    pub bytes: ByteMap,
    /// Of those that left, the ones in which the SVM differed.
    pub masked: MaskedBytes,
    /// Sequence numbers that left, a FIN's included: what a commit covers may wait still.
    pub(super) left: Ranges,
    pub(super) ack: Option<u32>,
    pub(super) openings: Vec<Opening>,
    /// Urgent positions that were announced.
    pub(super) urgent: Vec<u32>,
    /// IPv4 options or extension headers, and TCP options, that segments had.
    pub(super) options: HashSet<Vec<u8>>,
    pub(super) fin: Option<u32>,
    pub(super) resets: Vec<(u32, Option<u32>)>,
    /// The number behind all that left: what a keepalive stands one before.
    next: Option<u32>,
    /// The acknowledgment that one of the VMs raised by exactly one: to the client's FIN.
    step: Option<u32>,
}

impl Incarnation {
    /// One that begins with this SYN, or before all that was seen. With `keep` all its bytes are kept.
    pub(super) fn new(isn: Option<u32>, keep: bool) -> Self {
        let mut new = Self {
            isn,
            ..Self::default()
        };
        new.bytes.everything = keep;
        new
    }

    /// Notes a segment that is free to leave, or part of its payload. `bytes` are the whole frame's.
    pub(super) fn free(&mut self, packet: &Packet, bytes: &[u8], from: u32, payload: &[u8]) {
        let tcp = packet.tcp;
        if tcp.flags.contains(TcpFlags::SYN) {
            self.openings.push(extras::opening(packet, bytes));
        }
        self.urgent.extend(extras::urgent(packet, bytes));
        self.options.extend(options(packet, bytes));
        self.bytes
            .insert(payload_at(packet).wrapping_add(from), payload);
        if let Some(ack) = acknowledged(packet) {
            self.note_step(self.ack, ack);
            self.ack = Some(later(self.ack, ack));
        }
        let part = from + payload.len() as u32;
        let end = payload_at(packet).wrapping_add(part);
        // A FIN leaves with the last part.
        let fin = tcp.flags.contains(TcpFlags::FIN) && part == packet.payload_len;
        if fin {
            self.fin = Some(end);
        }
        if tcp.flags.contains(TcpFlags::RST) {
            self.resets.push((tcp.seq, acknowledged(packet)));
        } else if packet.sequence_len() > 0 {
            // A bare acknowledgment bears the number of bytes that may not have left.
            let end = end.wrapping_add(u32::from(fin));
            self.next = Some(later(self.next, end));
        }
    }

    /// Notes the sequence numbers of what has left.
    pub(super) fn note_left(&mut self, packet: &Packet, piece: &[u8]) {
        let (at, end) = numbers(packet, piece);
        self.left.insert(at, end);
    }

    /// Whether any of its sequence numbers has left.
    pub fn has_output(&self) -> bool {
        !self.left.is_empty()
    }

    /// Notes what a node that has taken over lets leave in the place of masked bytes. Returns how many are others.
    pub(super) fn note_again(&mut self, at: u32, piece: &[u8]) -> u64 {
        let known = self.bytes.read(at, piece.len());
        let mut others = 0;
        for (i, byte) in piece.iter().enumerate() {
            let at = at.wrapping_add(i as u32);
            if known[i].is_some_and(|known| known != *byte) && self.masked.contains(at) {
                self.masked.note_again(at, *byte);
                others += 1;
            }
        }
        others
    }

    /// Notes what the SVM acknowledges; `known` is the most that it had acknowledged.
    pub(super) fn note_secondary(&mut self, known: Option<u32>, ack: u32) {
        self.note_step(known.or(self.ack), ack);
    }

    fn note_step(&mut self, before: Option<u32>, ack: u32) {
        if before == Some(ack.wrapping_sub(1)) {
            self.step = Some(ack);
        }
    }

    /// Whether all sequence numbers of a segment, or of a piece of it, have left.
    pub(super) fn has_left(&self, packet: &Packet, piece: &[u8]) -> bool {
        let flags = packet.tcp.flags;
        let (at, end) = numbers(packet, piece);
        at != end
            && !flags.intersects(TcpFlags::SYN | TcpFlags::RST)
            && self.left.first_missing(at, end).is_none()
    }

    /// Whether a segment at `at` is a keepalive with a byte (RFC 9293 3.8.4): no data.
    pub(super) fn is_probe(&self, packet: &Packet, at: u32) -> bool {
        let meant = TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST;
        packet.payload_len == 1
            && !packet.tcp.flags.intersects(meant)
            && self.next == Some(at.wrapping_add(1))
    }

    /// Whether a RST says only that its VM has forgotten a connection that both have closed: both FINs
    /// were sent and acknowledged, as far as the output tells. `svm` is what the SVM acknowledges.
    pub(super) fn is_late_reset(&self, packet: &Packet, svm: Option<u32>) -> bool {
        let tcp = packet.tcp;
        let behind = |fin: u32| at_or_before(tcp.seq, fin.wrapping_add(1));
        tcp.flags.contains(TcpFlags::RST)
            && !tcp
                .flags
                .intersects(TcpFlags::ACK | TcpFlags::SYN | TcpFlags::FIN)
            && packet.payload_len == 0
            && self.step.is_some()
            && self.step == self.ack
            && svm.or(self.ack) == self.ack
            && self.fin.is_some_and(behind)
    }

    /// A position in words.
    pub(super) fn position(&self, at: u32) -> String {
        match self.isn {
            Some(isn) => format!(
                "byte {} of the stream",
                at.wrapping_sub(isn).wrapping_sub(1)
            ),
            None => format!("sequence number {at}"),
        }
    }
}

/// What a VM has sent since its SYN that tells whether a SYN with the same number is the same one.
#[derive(Clone, Copy, Default)]
pub(super) struct SinceSyn {
    ack: Option<u32>,
    ended: bool,
}

impl SinceSyn {
    /// Notes a segment of the VM.
    pub(super) fn note(&mut self, packet: &Packet) {
        let flags = packet.tcp.flags;
        if flags.contains(TcpFlags::SYN) {
            self.ack = acknowledged(packet);
        }
        self.ended |= flags.intersects(TcpFlags::FIN | TcpFlags::RST);
    }

    /// Whether a SYN with the same number opens another connection.
    pub(super) fn is_over(&self, syn: &Packet) -> bool {
        let ack = acknowledged(syn);
        self.ended || self.ack.is_some() && ack.is_some() && ack != self.ack
    }
}

#[cfg(test)]
mod tests {
    use colo_testkit::packets::Segment;

    use super::*;
    use crate::tcp::segment::payload;
    use crate::tcp::tests::parsed;

    fn segment(seq: u32, ack: u32, text: &[u8]) -> Segment {
        Segment {
            seq,
            ack: Some(ack),
            payload: text.to_vec(),
            ..Segment::default()
        }
    }

    fn free(incarnation: &mut Incarnation, segment: &Segment) {
        let (packet, bytes) = parsed(segment);
        incarnation.free(&packet, &bytes, 0, payload(&packet, &bytes));
    }

    #[test]
    fn a_probe_stands_one_before_what_left() {
        let mut incarnation = Incarnation::default();
        free(&mut incarnation, &segment(100, 7, b"abc"));
        let probe = |incarnation: &Incarnation, seq, text: &[u8]| {
            let (packet, _) = parsed(&segment(seq, 7, text));
            incarnation.is_probe(&packet, seq)
        };
        assert!(probe(&incarnation, 102, b"c"));
        assert!(!probe(&incarnation, 103, b"c"));
        assert!(!probe(&incarnation, 102, b"cd"));
        // A bare acknowledgment moves nothing.
        free(&mut incarnation, &segment(200, 7, b""));
        assert!(probe(&incarnation, 102, b"c"));
    }

    #[test]
    fn a_fin_leaves_with_the_last_part() {
        let mut incarnation = Incarnation::default();
        let mut last = segment(100, 7, b"abc");
        last.fin = true;
        let (packet, bytes) = parsed(&last);
        incarnation.free(&packet, &bytes, 0, b"ab");
        assert_eq!(incarnation.fin, None);
        incarnation.free(&packet, &bytes, 2, b"c");
        assert_eq!(incarnation.fin, Some(103));
    }

    #[test]
    fn a_late_reset_needs_both_fins_and_no_younger_acknowledgment() {
        let mut incarnation = Incarnation::default();
        free(&mut incarnation, &segment(100, 7, b"abc"));
        let mut fin = segment(103, 8, b"");
        fin.fin = true;
        let mut rst = segment(104, 0, b"");
        (rst.rst, rst.ack) = (true, None);
        let (reset, _) = parsed(&rst);
        assert!(!incarnation.is_late_reset(&reset, None));
        free(&mut incarnation, &fin);
        assert!(incarnation.is_late_reset(&reset, Some(8)));
        assert!(incarnation.is_late_reset(&reset, None));
        assert!(!incarnation.is_late_reset(&reset, Some(7)));
        rst.seq = 105;
        assert!(!incarnation.is_late_reset(&parsed(&rst).0, Some(8)));
    }

    #[test]
    fn numbers_of_a_piece_have_left_when_all_have() {
        let mut incarnation = Incarnation::default();
        let (packet, _) = parsed(&segment(100, 7, b"abc"));
        incarnation.note_left(&packet, b"ab");
        assert!(incarnation.has_left(&packet, b"ab"));
        assert!(!incarnation.has_left(&packet, b"abc"));
        // What takes no number has not left.
        assert!(!incarnation.has_left(&packet, b""));
    }

    #[test]
    fn a_syn_with_the_same_number_is_another_one_behind_an_end_or_with_another_acknowledgment() {
        let mut syn = segment(100, 7, b"");
        syn.syn = true;
        let (first, _) = parsed(&syn);
        let mut since = SinceSyn::default();
        since.note(&first);
        assert!(!since.is_over(&first));
        syn.ack = Some(8);
        assert!(since.is_over(&parsed(&syn).0));
        let mut fin = segment(101, 7, b"");
        fin.fin = true;
        since.note(&parsed(&fin).0);
        assert!(since.is_over(&first));
    }
}
