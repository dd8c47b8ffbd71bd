//! What may leave before older output of its connection, and with which number and time (rule R2;
//! docs/loss.md).
//!
//! A retransmission, all of whose sequence numbers have left, and a bare acknowledgment need not wait
//! for new bytes. Such an acknowledgment has the number of the first byte that has not left, if its own
//! is higher, and no segment leaves with a TSval below one that has left.

use dpdk_colo::packet::serial::{at_or_before, before, min};
use dpdk_colo::packet::{Packet, TcpFlags};

use super::Flow;
use super::incarnation::Incarnation;
use super::queue::{Held, Queue};
use super::segment::numbers;
use crate::ranges::Ranges;
use crate::report::Rule;
use crate::same::{is_bare_ack, is_signed, stamp};
use crate::verdict::{Fault, Releasing, Why};

/// In which order a segment left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The next of its flow.
    Next,
    /// Before older ones, which wait still.
    Overtakes,
}

fn fault(held: &Held, what: String) -> Fault {
    Fault {
        rule: Rule::R2,
        position: None,
        records: vec![held.record()],
        what,
    }
}

impl Flow {
    /// Whether the segment that waits at `index` may leave before those in front of it.
    ///
    /// # Errors
    /// What waits in front of it, or why nothing may overtake that.
    pub(super) fn may_overtake(
        &self,
        index: usize,
        packet: &Packet,
        piece: &[u8],
        cx: &Releasing,
        incarnations: &[Incarnation],
    ) -> Result<(), Fault> {
        let held = self.queue.get(index);
        let incarnation = &incarnations[held.incarnation];
        let opens = |older: &Held| {
            let syn = older.packet.tcp.flags.contains(TcpFlags::SYN);
            older.incarnation != held.incarnation || syn && incarnation.openings.is_empty()
        };
        if !is_bare_ack(packet) && !incarnation.has_left(packet, piece) {
            return Err(self.skipped(index, incarnations));
        }
        let refused = |why: &str| {
            let first = self.queue.get(0).record();
            let mut fault = fault(held, format!("it overtakes what waits, {why}"));
            fault.records.push(first);
            Err(fault)
        };
        if self.queue.older(index).any(opens) {
            return refused("and a SYN among that");
        }
        if is_signed(&held.packet, &held.bytes) {
            return refused("and is signed, so that its number and time cannot follow");
        }
        if held.captured.fences > cx.committed {
            return refused("while nothing is compared");
        }
        let is_behind = |since: u64| since < held.captured.turn;
        if self.diverged.is_some_and(is_behind) {
            return refused("though a byte of its connection differs from the SVM's");
        }
        Ok(())
    }
}

/// The first sequence number of these segments that is not among those that left.
fn first_unleft<'a>(held: impl Iterator<Item = &'a Held>, left: &Ranges) -> Option<u32> {
    let first = |held: &Held| {
        let (at, end) = numbers(&held.packet, held.payload());
        left.first_missing(at, end)
    };
    held.filter_map(first).reduce(min)
}

/// What has left a connection through this node, as far as the numbers and times of what follows depend on it.
#[derive(Default)]
pub(super) struct Departures {
    /// Highest TSval, and of which incarnation.
    stamp: Option<(usize, u32)>,
    /// Sequence numbers, and of which incarnation: the node knows of no others.
    numbers: (usize, Ranges),
}

impl Departures {
    /// Nothing has left.
    pub(super) fn new(incarnation: usize) -> Self {
        Self {
            stamp: None,
            numbers: (incarnation, Ranges::default()),
        }
    }

    /// Notes the sequence numbers and the TSval of what has left.
    pub(super) fn note(&mut self, incarnation: usize, packet: &Packet, out: &[u8], piece: &[u8]) {
        if self.numbers.0 != incarnation {
            self.numbers = (incarnation, Ranges::default());
        }
        let (at, end) = numbers(packet, piece);
        self.numbers.1.insert(at, end);
        let Some(stamp) = stamp(packet, out) else {
            return;
        };
        match self.stamp {
            Some((known, floor)) if known == incarnation && before(stamp, floor) => {}
            _ => self.stamp = Some((incarnation, stamp)),
        }
    }

    /// The sequence number is the VM's, or that of the first byte that has not left.
    ///
    /// # Errors
    /// Another number.
    pub(super) fn number(
        &self,
        queue: &Queue,
        index: usize,
        order: Order,
        packet: &Packet,
        incarnations: &[Incarnation],
    ) -> Result<(), Fault> {
        let held = queue.get(index);
        if !is_bare_ack(&held.packet) {
            return Ok(());
        }
        let own = held.packet.tcp.seq;
        let lowered = |left| match (order, first_unleft(queue.older(index), left)) {
            (Order::Overtakes, Some(unleft)) => min(own, unleft),
            _ => own,
        };
        let expected = lowered(&incarnations[held.incarnation].left);
        // The node takes for new what has left before it began, and what lies before a gap.
        let number = packet.tcp.seq;
        let nothing = Ranges::default();
        let known = if self.numbers.0 == held.incarnation {
            &self.numbers.1
        } else {
            &nothing
        };
        let begins = |older: &Held| !is_bare_ack(&older.packet) && older.rest().0 == number;
        let is_new_to_node = order == Order::Overtakes
            && at_or_before(number, expected)
            && (number == lowered(known) || queue.older(index).any(begins));
        if number == expected || is_new_to_node {
            return Ok(());
        }
        Err(fault(
            held,
            format!(
                "an acknowledgment leaves with the sequence number {number}; the VM sent {own}, and the \
                 first that has not left gives {expected}"
            ),
        ))
    }

    /// The TSval is the VM's, or the highest that has left where that is higher.
    ///
    /// # Errors
    /// Another TSval.
    pub(super) fn time(
        &self,
        held: &Held,
        packet: &Packet,
        out: &[u8],
        cx: &Releasing,
    ) -> Result<(), Fault> {
        let (Some(own), Some(leaves)) = (stamp(&held.packet, &held.bytes), stamp(packet, out))
        else {
            return Ok(());
        };
        let open = matches!(held.captured.why(cx), Some(Why::Open | Why::Policy(_)));
        let floor = match self.stamp {
            Some((known, floor)) if known == held.incarnation && before(own, floor) => Some(floor),
            _ => None,
        };
        // The time of a SYN that comes again stands for nothing.
        let repeated = packet.tcp.flags.contains(TcpFlags::SYN) && leaves == own;
        // What the VM sent unprotected leaves as it is, unless the node holds it still when protection begins.
        if leaves == floor.unwrap_or(own) || open && leaves == own || repeated {
            return Ok(());
        }
        let what = match floor {
            Some(floor) => format!("its TSval is {leaves} and goes back: {floor} has left before"),
            None => format!("its TSval is {leaves}; the VM sent {own}, which is not too old"),
        };
        Err(fault(held, what))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use colo_testkit::packets::Segment;

    use super::*;
    use crate::tcp::tests::{held, parsed};

    const RELEASING: Releasing = Releasing {
        committed: 0,
        open: false,
        policy: None,
        has_taken_over: false,
        masked: BTreeMap::new(),
        masked_again: 0,
        vanished: 0,
    };

    fn segment(seq: u32, text: &[u8]) -> Segment {
        Segment {
            seq,
            ack: Some(7),
            payload: text.to_vec(),
            ..Segment::default()
        }
    }

    fn stamped(value: u32) -> Segment {
        let mut options = vec![1, 1, 8, 10];
        options.extend(value.to_be_bytes());
        options.extend([0; 4]);
        Segment {
            options,
            ..segment(100, b"abc")
        }
    }

    #[test]
    fn a_time_that_would_go_back_is_raised() {
        let mut departures = Departures::new(0);
        let (packet, bytes) = parsed(&stamped(50));
        departures.note(0, &packet, &bytes, b"abc");
        let time = |departures: &Departures, own, leaves| {
            let (packet, bytes) = parsed(&stamped(leaves));
            let held = held(&stamped(own), 1);
            departures.time(&held, &packet, &bytes, &RELEASING).is_ok()
        };
        assert!(time(&departures, 51, 51));
        assert!(time(&departures, 40, 50));
        assert!(!time(&departures, 40, 40));
        assert!(!time(&departures, 51, 52));
        // An older one of the same incarnation does not lower it; another incarnation begins anew.
        let (packet, bytes) = parsed(&stamped(45));
        departures.note(0, &packet, &bytes, b"abc");
        assert!(!time(&departures, 40, 45));
        departures.note(1, &packet, &bytes, b"abc");
        assert!(time(&departures, 40, 40));
    }

    #[test]
    fn an_acknowledgment_that_overtakes_has_the_number_of_the_first_byte_that_has_not_left() {
        let mut queue = Queue::default();
        queue.push(held(&segment(100, b"abc"), 1));
        queue.push(held(&segment(103, b""), 1));
        let known = [Incarnation::default()];
        let departures = Departures::new(0);
        let number = |order, number| {
            let (packet, _) = parsed(&segment(number, b""));
            let judged = departures.number(&queue, 1, order, &packet, &known);
            judged.is_ok()
        };
        assert!(number(Order::Overtakes, 100));
        assert!(!number(Order::Overtakes, 103));
        assert!(number(Order::Next, 103));
        assert!(!number(Order::Next, 100));
    }
}
