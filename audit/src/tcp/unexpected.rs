//! The words for what should not have left: nothing of what waits, or something behind it.

use dpdk_colo::packet::Packet;
use dpdk_colo::packet::serial::at_or_before;

use super::Flow;
use super::incarnation::Incarnation;
use super::queue::Held;
use super::segment::{acknowledged, payload, payload_at};
use crate::report::Rule;
use crate::same::first_difference;
use crate::verdict::Fault;

impl Flow {
    /// Something left that is nothing of what waits.
    pub(super) fn unexpected(
        &self,
        packet: &Packet,
        out: &[u8],
        incarnations: &[Incarnation],
    ) -> Fault {
        let tcp = packet.tcp;
        let alike = |held: &&Held| {
            held.packet.tcp.seq == tcp.seq
                && held.packet.payload_len == packet.payload_len
                && held.packet.tcp.flags == tcp.flags
        };
        match self.queue.held().find(alike) {
            Some(held) => self.changed(held, packet, out, incarnations),
            None => self.unknown(
                packet,
                payload(packet, out),
                &incarnations[self.incarnation],
            ),
        }
    }

    /// It is like one that waits, and not equal to it.
    fn changed(
        &self,
        held: &Held,
        packet: &Packet,
        out: &[u8],
        incarnations: &[Incarnation],
    ) -> Fault {
        let incarnation = &incarnations[held.incarnation];
        let (piece, sent) = (payload(packet, out), held.payload());
        let fault = |rule, position, what| Fault {
            rule,
            position,
            records: vec![held.record()],
            what,
        };
        if let Some(i) = (0..piece.len().min(sent.len())).find(|&i| piece[i] != sent[i]) {
            let at = payload_at(packet).wrapping_add(i as u32);
            let before = incarnation.bytes.read(at, 1)[0].filter(|byte| *byte != piece[i]);
            let base = self.secondary.base(Some(incarnation));
            let svm = self.secondary.output(held);
            let svm = svm.and_then(|svm| svm.bytes.read(at.wrapping_sub(base), 1)[0]);
            let svm = svm.map_or("nothing there".to_owned(), |svm| format!("{svm:#04x}"));
            let rule = if before.is_some() { Rule::R5 } else { Rule::R1 };
            let what = format!(
                "a byte leaves as {:#04x}; the PVM sent {:#04x}, the SVM {svm}",
                piece[i], sent[i]
            );
            return fault(rule, Some(incarnation.position(at)), what);
        }
        let comparison = self.comparison(held, packet, piece, incarnations);
        if packet.tcp.ack != held.packet.tcp.ack
            && let Err(fault) = comparison.acknowledgment()
        {
            return fault;
        }
        let at = first_difference(&held.bytes, &held.packet, out).unwrap_or_default();
        let what = format!("byte {at} of the frame, a header, is not as the PVM sent it");
        fault(Rule::R1, None, what)
    }

    /// It is like none that waits.
    fn unknown(&self, packet: &Packet, piece: &[u8], incarnation: &Incarnation) -> Fault {
        let at = payload_at(packet);
        let known = incarnation.bytes.read(at, piece.len());
        let is_known = known
            .iter()
            .zip(piece)
            .all(|(known, byte)| *known == Some(*byte));
        let is_acknowledged = |ack| incarnation.ack.is_some_and(|most| at_or_before(ack, most));
        let (rule, what) = if is_known && acknowledged(packet).is_none_or(is_acknowledged) {
            (Rule::R5, "it left before, and the VM has not sent it again")
        } else {
            (Rule::R1, "it leaves, and the VM has not sent it")
        };
        Fault {
            rule,
            position: Some(incarnation.position(at)),
            records: Vec::new(),
            what: what.to_owned(),
        }
    }

    /// Segments that waited were passed over.
    pub(super) fn skipped(&self, index: usize, incarnations: &[Incarnation]) -> Fault {
        for held in self.queue.older(index) {
            if let Some(i) = self.secondary.difference(held, incarnations) {
                let at = payload_at(&held.packet).wrapping_add(i as u32);
                return Fault {
                    rule: Rule::R2,
                    position: Some(incarnations[held.incarnation].position(at)),
                    records: vec![held.record()],
                    what: "the flow goes on behind a byte that differs, without a commit"
                        .to_owned(),
                };
            }
        }
        let first = self.queue.get(0);
        let at = payload_at(&first.packet);
        Fault {
            rule: Rule::R5,
            position: Some(incarnations[first.incarnation].position(at)),
            records: vec![first.record()],
            what: format!("{index} segments of the VM before it have not left"),
        }
    }
}

#[cfg(test)]
mod tests {
    use colo_testkit::packets::Segment;

    use super::*;
    use crate::record::Numbers;
    use crate::tcp::tests::{captured, parsed};

    fn segment(seq: u32, ack: u32, text: &[u8]) -> Segment {
        Segment {
            seq,
            ack: Some(ack),
            payload: text.to_vec(),
            ..Segment::default()
        }
    }

    /// A connection on which the VM has sent "abc", and what is said of another segment.
    fn found(left: &Segment, has_left: &[u8]) -> (Rule, String) {
        let mut known = Vec::new();
        let mut flow = Flow::new(Numbers::Translated, &mut known, false);
        known[0].bytes.insert(100, has_left);
        let (packet, bytes) = parsed(&segment(100, 7, b"abc"));
        flow.taken(captured(1, 1), packet, bytes, 0, &mut known);
        let (packet, bytes) = parsed(left);
        let fault = flow.unexpected(&packet, &bytes, &known);
        (fault.rule, fault.what)
    }

    #[test]
    fn what_was_changed_is_distinguished_from_what_was_never_sent() {
        let (rule, what) = found(&segment(100, 7, b"aXc"), b"");
        assert_eq!(rule, Rule::R1);
        assert!(what.contains("leaves as 0x58"), "{what}");
        let (rule, _) = found(&segment(100, 7, b"aXc"), b"abc");
        assert_eq!(rule, Rule::R5, "it left with another value");
        let (rule, _) = found(&segment(100, 9, b"abc"), b"");
        assert_eq!(rule, Rule::R4);
        let (rule, what) = found(&segment(200, 7, b"abc"), b"");
        assert_eq!(
            (rule, &*what),
            (Rule::R1, "it leaves, and the VM has not sent it")
        );
    }
}
