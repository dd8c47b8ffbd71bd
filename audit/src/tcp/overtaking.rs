//! What may leave before older output of its connection, and with which number and time (rule R2;
//! docs/loss.md).
//!
//! A retransmission, all of whose sequence numbers have left, and a bare acknowledgment need not wait
//! for new bytes. Such an acknowledgment has the number of the first byte that has not left, if its own
//! is higher, and no segment leaves with a TSval below one that has left.

use dpdk_colo::packet::serial::{at_or_before, before, min};
use dpdk_colo::packet::{Packet, TcpFlags};

use super::{Flow, Life, Order, Taken, numbers};
use crate::node::{Fault, Releasing, Why};
use crate::ranges::Ranges;
use crate::report::Rule;
use crate::same::{is_bare_ack, is_signed, stamp};

fn fault(taken: &Taken, what: String) -> Fault {
    Fault {
        rule: Rule::R2,
        position: None,
        records: vec![taken.standing.record],
        what,
    }
}

impl Life {
    /// Whether all sequence numbers of a segment, or of a piece of it, have left.
    fn has(&self, packet: &Packet, piece: &[u8]) -> bool {
        let flags = packet.tcp.flags;
        let (at, end) = numbers(packet, piece);
        at != end
            && !flags.intersects(TcpFlags::SYN | TcpFlags::RST)
            && self.left.first_missing(at, end).is_none()
    }
}

impl Flow {
    /// Whether the segment that waits at `index` may leave before those in front of it.
    pub(super) fn may_overtake(
        &self,
        index: usize,
        packet: &Packet,
        piece: &[u8],
        cx: &Releasing,
        lives: &[Life],
    ) -> Result<(), Fault> {
        let taken = &self.waiting[index];
        let life = &lives[taken.life];
        let older = || self.waiting.iter().take(index);
        let opens = |older: &Taken| {
            let syn = older.packet.tcp.flags.contains(TcpFlags::SYN);
            older.life != taken.life || syn && life.openings.is_empty()
        };
        if !is_bare_ack(packet) && !life.has(packet, piece) {
            return Err(self.skipped(index, lives));
        }
        let refused = |why: &str| {
            let first = self.waiting[0].standing.record;
            let mut fault = fault(taken, format!("it overtakes what waits, {why}"));
            fault.records.push(first);
            Err(fault)
        };
        if older().any(opens) {
            return refused("and a SYN among that");
        }
        if is_signed(&taken.packet, &taken.bytes) {
            return refused("and is signed, so that its number and time cannot follow");
        }
        if taken.standing.fences > cx.committed {
            return refused("while nothing is compared");
        }
        if self
            .differs
            .is_some_and(|since| since < taken.standing.turn)
        {
            return refused("though a byte of its connection differs from the SVM's");
        }
        Ok(())
    }

    /// The first sequence number that waits at one of the first `count` places and is not among those that left.
    fn unleft(&self, count: usize, left: &Ranges) -> Option<u32> {
        let first = |taken: &Taken| {
            let (at, end) = numbers(&taken.packet, taken.payload());
            left.first_missing(at, end)
        };
        self.waiting
            .iter()
            .take(count)
            .filter_map(first)
            .reduce(min)
    }

    /// The sequence number is the VM's, or that of the first byte that has not left.
    pub(super) fn number(
        &self,
        index: usize,
        order: &Order,
        packet: &Packet,
        lives: &[Life],
    ) -> Result<(), Fault> {
        let taken = &self.waiting[index];
        if !is_bare_ack(&taken.packet) {
            return Ok(());
        }
        let own = taken.packet.tcp.seq;
        let lowered = |left| match (order, self.unleft(index, left)) {
            (Order::Overtakes, Some(unleft)) => min(own, unleft),
            _ => own,
        };
        let expected = lowered(&lives[taken.life].left);
        // The node takes for new what has left before it began, and what lies before a gap.
        let number = packet.tcp.seq;
        let nothing = Ranges::default();
        let known = if self.own.0 == taken.life {
            &self.own.1
        } else {
            &nothing
        };
        let mut older = self.waiting.iter().take(index);
        let is_new_to_node = *order == Order::Overtakes
            && at_or_before(number, expected)
            && (number == lowered(known)
                || older.any(|older| !is_bare_ack(&older.packet) && older.rest().0 == number));
        if number == expected || is_new_to_node {
            return Ok(());
        }
        Err(fault(
            taken,
            format!(
                "an acknowledgment leaves with the sequence number {number}; the VM sent {own}, and the \
                 first that has not left gives {expected}"
            ),
        ))
    }

    /// The TSval is the VM's, or the highest that has left where that is higher.
    pub(super) fn time(
        &self,
        taken: &Taken,
        packet: &Packet,
        out: &[u8],
        cx: &Releasing,
    ) -> Result<(), Fault> {
        let (Some(own), Some(leaves)) = (stamp(&taken.packet, &taken.bytes), stamp(packet, out))
        else {
            return Ok(());
        };
        let open = matches!(taken.standing.why(cx), Some(Why::Open | Why::Policy(_)));
        let floor = match self.stamp {
            Some((life, floor)) if life == taken.life && before(own, floor) => Some(floor),
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
        Err(fault(taken, what))
    }

    /// Notes the TSval of what has left.
    pub(super) fn note_time(&mut self, life: usize, packet: &Packet, out: &[u8]) {
        let Some(stamp) = stamp(packet, out) else {
            return;
        };
        match self.stamp {
            Some((known, floor)) if known == life && before(stamp, floor) => {}
            _ => self.stamp = Some((life, stamp)),
        }
    }
}
