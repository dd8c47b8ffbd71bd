//! What a segment, or a piece of it, says that the SVM must have said too: each byte and control bit (rule R1), nothing
//! behind a byte that the SVM sent with two values (R2), and no later acknowledgment than the SVM's (R4).

use dpdk_colo::packet::serial::{at_or_before, before};
use dpdk_colo::packet::{Packet, TcpFlags};

use super::incarnation::Incarnation;
use super::masking::Masks;
use super::queue::Held;
use super::secondary::{Secondary, SecondaryOutput, Sent};
use super::segment::{acknowledged, extent, lacks_ack, later, options, payload_at};
use crate::extras;
use crate::report::Rule;
use crate::verdict::Fault;

/// A piece of a held segment that leaves, beside what may leave of its connection.
pub(super) struct Comparison<'a> {
    held: &'a Held,
    /// The piece's own header.
    packet: &'a Packet,
    piece: &'a [u8],
    incarnation: &'a Incarnation,
    /// What the SVM has sent in the epoch of the held segment, if anything.
    svm: Option<&'a SecondaryOutput>,
    /// The PVM's number of the SVM's position 0.
    base: u32,
    masks: Option<&'a Masks>,
}

impl<'a> Comparison<'a> {
    /// Of a piece with its own header.
    pub(super) fn new(
        held: &'a Held,
        packet: &'a Packet,
        piece: &'a [u8],
        secondary: &'a Secondary,
        incarnations: &'a [Incarnation],
    ) -> Self {
        let incarnation = &incarnations[held.incarnation];
        Self {
            held,
            packet,
            piece,
            incarnation,
            svm: secondary.output(held),
            base: secondary.base(Some(incarnation)),
            masks: None,
        }
    }

    /// The same, under rules that mask bytes.
    pub(super) fn with_masks(self, masks: &'a Masks) -> Self {
        Self {
            masks: Some(masks).filter(|masks| !masks.is_empty()),
            ..self
        }
    }

    /// The bytes that differ from the SVM's and have not left before, each with the rule that masks it.
    pub(super) fn masked(&self) -> Vec<(u32, String)> {
        let (Some(_), Some(svm)) = (self.masks, self.svm) else {
            return Vec::new();
        };
        let at = self.at();
        let sent = svm.bytes.read(self.position(at), self.piece.len());
        let free = self.incarnation.bytes.read(at, self.piece.len());
        let differs =
            |i: &usize| free[*i].is_none() && sent[*i].is_some_and(|sent| sent != self.piece[*i]);
        let found = (0..self.piece.len()).filter(differs).filter_map(|i| {
            let at = at.wrapping_add(i as u32);
            Some((at, self.mask(at)?.to_owned()))
        });
        found.collect()
    }

    /// The rule that masks a byte.
    fn mask(&self, at: u32) -> Option<&'a str> {
        let masks = self.masks?;
        let sent = Sent {
            known: self.incarnation,
            svm: self.svm,
            base: self.base,
        };
        let own = std::iter::once((self.at(), self.piece));
        let p = sent.of_pvm(at, masks.reach(), own);
        masks.covering(&p, &sent.of_svm(at, masks.reach()))
    }

    /// The number of the first byte.
    fn at(&self) -> u32 {
        payload_at(self.packet)
    }

    /// The number behind the last byte.
    fn end(&self) -> u32 {
        self.at().wrapping_add(self.piece.len() as u32)
    }

    /// The SVM's position of one of the PVM's numbers.
    fn position(&self, number: u32) -> u32 {
        number.wrapping_sub(self.base)
    }

    fn fault(&self, rule: Rule, at: Option<u32>, what: impl Into<String>) -> Fault {
        Fault {
            rule,
            position: at.map(|at| self.incarnation.position(at)),
            records: vec![self.held.record()],
            what: what.into(),
        }
    }

    fn epoch(&self) -> u32 {
        self.held.captured.epoch
    }

    /// Whether the SVM has sent the same in the same epoch, as far as it was not free before.
    ///
    /// # Errors
    /// The first difference.
    pub(super) fn judge(&self) -> Result<(), Fault> {
        let nothing = SecondaryOutput::default();
        let svm = self.svm.unwrap_or(&nothing);
        self.bytes(svm)?;
        self.contradiction(svm)?;
        self.opening(svm)?;
        self.urgent(svm)?;
        self.options(svm)?;
        self.alone(svm)?;
        self.fin(svm)?;
        self.reset(svm)?;
        self.acknowledgment()
    }

    /// Whether it is a keepalive with a byte, and the SVM has sent the same.
    pub(super) fn is_equal_probe(&self) -> bool {
        let there = self.position(self.at());
        let probe = self.svm.and_then(|svm| svm.probe);
        self.incarnation.is_probe(self.packet, self.at())
            && probe.is_some_and(|(position, byte)| position == there && self.piece == [byte])
    }

    fn bytes(&self, svm: &SecondaryOutput) -> Result<(), Fault> {
        let (at, epoch) = (self.at(), self.epoch());
        let sent = svm.bytes.read(self.position(at), self.piece.len());
        let free = self.incarnation.bytes.read(at, self.piece.len());
        let probe = self.is_equal_probe();
        for (i, byte) in self.piece.iter().enumerate() {
            if sent[i] == Some(*byte) || free[i] == Some(*byte) || probe {
                continue;
            }
            let number = at.wrapping_add(i as u32);
            if sent[i].is_some() && free[i].is_none() && self.mask(number).is_some() {
                continue;
            }
            let what = match sent[i] {
                Some(svm) => format!(
                    "a byte leaves as {byte:#04x}, which the SVM sent as {svm:#04x} in epoch {epoch}, \
                     and no commit covers it"
                ),
                None => format!(
                    "a byte leaves that the SVM has not sent in epoch {epoch}, and no commit covers it"
                ),
            };
            return Err(self.fault(Rule::R1, Some(number), what));
        }
        Ok(())
    }

    fn contradiction(&self, svm: &SecondaryOutput) -> Result<(), Fault> {
        match svm.contradiction {
            Some((position, record)) if before(position, self.position(self.end())) => {
                let mut fault = self.fault(
                    Rule::R2,
                    Some(position.wrapping_add(self.base)),
                    "the flow goes on behind a byte that the SVM sent with two values, without a commit",
                );
                fault.records.push(record);
                Err(fault)
            }
            _ => Ok(()),
        }
    }

    fn opening(&self, svm: &SecondaryOutput) -> Result<(), Fault> {
        if !self.packet.tcp.flags.contains(TcpFlags::SYN) {
            return Ok(());
        }
        let own = extras::opening(&self.held.packet, &self.held.bytes);
        if svm.openings.contains(&own) || self.incarnation.openings.contains(&own) {
            return Ok(());
        }
        let what = match svm.openings.last() {
            Some(svm) => format!("a SYN leaves with {own:?}; the SVM's has {svm:?}"),
            None => format!("a SYN leaves before the SVM's in epoch {}", self.epoch()),
        };
        Err(self.fault(Rule::R1, None, what))
    }

    fn urgent(&self, svm: &SecondaryOutput) -> Result<(), Fault> {
        let known = &self.incarnation.urgent;
        match extras::urgent(&self.held.packet, &self.held.bytes) {
            Some(own) if !svm.urgent.contains(&self.position(own)) && !known.contains(&own) => {
                let what = "urgent data ends where the SVM's does not";
                Err(self.fault(Rule::R1, Some(own), what))
            }
            Some(_) => Ok(()),
            None => {
                let (at, end) = (self.at(), self.end());
                let within = |last: u32| !before(last, at) && before(last, end);
                let missed = svm.urgent.iter().map(|at| at.wrapping_add(self.base));
                let mut missed = missed.filter(|at| !known.contains(at));
                match missed.find(|at| within(at.wrapping_sub(1))) {
                    Some(at) => {
                        let what = "a byte leaves that is urgent at the SVM only";
                        Err(self.fault(Rule::R1, Some(at), what))
                    }
                    None => Ok(()),
                }
            }
        }
    }

    fn options(&self, svm: &SecondaryOutput) -> Result<(), Fault> {
        let own = options(&self.held.packet, &self.held.bytes);
        let is_new = |option: &&Vec<u8>| {
            !svm.options.contains(*option) && !self.incarnation.options.contains(*option)
        };
        match own.iter().find(is_new) {
            Some(option) => {
                let what =
                    format!("it leaves with the option or header {option:02x?}, which no S has");
                Err(self.fault(Rule::R1, None, what))
            }
            None => Ok(()),
        }
    }

    fn alone(&self, svm: &SecondaryOutput) -> Result<(), Fault> {
        if lacks_ack(self.packet) && !svm.has_alone(extent(self.packet, self.base)) {
            let what = "a segment without ACK leaves that the SVM has not sent";
            return Err(self.fault(Rule::R1, Some(self.at()), what));
        }
        Ok(())
    }

    fn fin(&self, svm: &SecondaryOutput) -> Result<(), Fault> {
        let end = self.end();
        let is_known = svm.fin == Some(self.position(end)) || self.incarnation.fin == Some(end);
        if !self.packet.tcp.flags.contains(TcpFlags::FIN) || is_known {
            return Ok(());
        }
        let what = match svm.fin {
            Some(_) => "a FIN leaves at a place where the SVM's is not",
            None => "a FIN leaves that the SVM has not sent",
        };
        Err(self.fault(Rule::R1, Some(end), what))
    }

    fn reset(&self, svm: &SecondaryOutput) -> Result<(), Fault> {
        let tcp = self.packet.tcp;
        let known = &self.incarnation.resets;
        let is_known = svm.resets.contains(&self.position(tcp.seq))
            || known.contains(&(tcp.seq, acknowledged(self.packet)))
            || self.incarnation.is_late_reset(self.packet, svm.ack);
        if tcp.flags.contains(TcpFlags::RST) && !is_known {
            let what = "a RST leaves that the SVM has not sent";
            return Err(self.fault(Rule::R1, None, what));
        }
        Ok(())
    }

    /// Whether it acknowledges no more than the SVM has (rule R4).
    ///
    /// # Errors
    /// By how much it does.
    pub(super) fn acknowledgment(&self) -> Result<(), Fault> {
        let Some(ack) = acknowledged(self.packet) else {
            return Ok(());
        };
        let svm = self.svm.and_then(|svm| svm.ack);
        let allowed = [svm, self.incarnation.ack].into_iter().flatten();
        if allowed.clone().any(|known| at_or_before(ack, known)) {
            return Ok(());
        }
        let epoch = self.epoch();
        let what = match allowed.reduce(|a, b| later(Some(a), b)) {
            Some(most) => format!(
                "it acknowledges {ack}, {} beyond {most}, the most that the SVM has acknowledged in epoch {epoch}",
                ack.wrapping_sub(most),
            ),
            None => {
                format!("it acknowledges {ack}; the SVM has acknowledged nothing in epoch {epoch}")
            }
        };
        Err(self.fault(Rule::R4, None, what))
    }
}

#[cfg(test)]
mod tests {
    use colo_testkit::packets::Segment;

    use super::*;
    use crate::record::Numbers;
    use crate::tcp::tests::{held, parsed};
    use crate::verdict::Received;

    /// What the judge says of the PVM's segment where the SVM has sent these.
    fn judge(p: &Segment, sent: &[&Segment]) -> Option<(Rule, Option<String>)> {
        let mut known = [Incarnation::new(Some(99), false)];
        let mut secondary = Secondary::new(Numbers::Translated, 0, Some(99));
        for (record, segment) in sent.iter().enumerate() {
            let (packet, bytes) = parsed(segment);
            let received = Received {
                record: record as u64,
                epoch: 1,
                turn: 0,
            };
            secondary.note(received, &packet, &bytes, &mut known);
        }
        let held = held(p, 1);
        let comparison = Comparison::new(&held, &held.packet, held.payload(), &secondary, &known);
        let fault = comparison.judge().err()?;
        Some((fault.rule, fault.position))
    }

    fn segment(seq: u32, text: &[u8]) -> Segment {
        Segment {
            seq,
            ack: Some(7),
            payload: text.to_vec(),
            ..Segment::default()
        }
    }

    fn with(change: impl FnOnce(&mut Segment)) -> Segment {
        let mut segment = segment(100, b"abc");
        change(&mut segment);
        segment
    }

    #[test]
    fn each_byte_is_judged_by_its_position() {
        let p = segment(100, b"abc");
        assert_eq!(judge(&p, &[&p]), None);
        assert_eq!(
            judge(&p, &[&segment(100, b"a"), &segment(101, b"bc")]),
            None
        );
        let place = |n: u32| Some((Rule::R1, Some(format!("byte {n} of the stream"))));
        assert_eq!(judge(&p, &[&segment(100, b"ab")]), place(2));
        assert_eq!(judge(&p, &[&segment(100, b"aXc")]), place(1));
    }

    #[test]
    fn nothing_leaves_behind_a_contradiction() {
        let both = [&segment(100, b"abc"), &segment(100, b"aXc")];
        let found = judge(&segment(100, b"abc"), &both);
        assert_eq!(found, Some((Rule::R2, Some("byte 1 of the stream".into()))));
        assert_eq!(judge(&segment(100, b"a"), &both), None, "in front of it");
    }

    #[test]
    fn each_thing_beside_the_bytes_is_judged() {
        let plain = segment(100, b"abc");
        type Change = fn(&mut Segment);
        let changes: [(Rule, Change); 5] = [
            (Rule::R1, |segment| segment.fin = true),
            (Rule::R1, |segment| segment.rst = true),
            (Rule::R1, |segment| segment.ack = None),
            (Rule::R1, |segment| segment.options = vec![253, 4, 1, 2]),
            (Rule::R4, |segment| segment.ack = Some(8)),
        ];
        for (number, (rule, change)) in changes.into_iter().enumerate() {
            let p = with(change);
            let found = judge(&p, &[&plain]).map(|(rule, _)| rule);
            assert_eq!(found, Some(rule), "change {number}");
            // The SVM's acknowledgment comes with a segment that has one.
            assert_eq!(judge(&p, &[&plain, &p]), None, "change {number}");
        }
    }

    #[test]
    fn a_syn_leaves_if_the_svm_has_sent_an_equal_one() {
        let syn = |options: &[u8]| Segment {
            seq: 99,
            ack: Some(7),
            syn: true,
            options: options.to_vec(),
            ..Segment::default()
        };
        let own = syn(&[2, 4, 5, 0xb4]);
        assert_eq!(judge(&own, &[&own]), None);
        let found = judge(&own, &[&syn(&[2, 4, 5, 0xb0])]);
        assert_eq!(found, Some((Rule::R1, None)));
    }
}
