//! What segments say beside their bytes, numbers and ordinary control bits.
//!
//! - A segment with none of SYN, RST and ACK, or one that carries nothing but TCP options that are to be
//!   compared, needs an S of its own that is equal to it. An end system drops what has no ACK (RFC 9293,
//!   3.10.7.4), so such a segment is no other's equal, whatever its bytes.
//! - The options of a segment with payload must be those of the S with the same bytes.
//! - IPv4 options and IPv6 extension headers of a segment without payload must be those of the SVM's
//!   latest segment.
//!
//! A connection of which any segment has extras or urgent data does not take the fast path.

use super::Stream;
use super::verdict::Verdict;
use crate::compare::few::Few;
use crate::compare::hold::{Hold, ListKind, NIL, SlotId};
use crate::frame::Frame;
use crate::packet::{Packet, TcpFlags};

/// How many S are looked at for one P (rule R10).
const REACH: usize = 64;

/// Control bits in which a segment and its counterpart must agree when it has one of its own. PSH is the
/// sending stack's, ECE and CWR follow from each VM's congestion (RFC 3168, 6.1).
const MEANT: u8 =
    TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::RST.0 | TcpFlags::ACK.0 | TcpFlags::URG.0;

/// What is known of one connection's extras.
#[derive(Default)]
pub(super) struct Extras {
    /// Some segment had extras or urgent data.
    pub unusual: bool,
    /// What the SYNs of this incarnation say, as digests.
    pub primary_openings: Few<u64>,
    pub secondary_openings: Few<u64>,
    /// Urgent positions that were announced.
    pub primary_urgent: Few<u32>,
    pub secondary_urgent: Few<u32>,
    /// Digests of the IPv4 options or extension headers of the latest segment.
    primary_network: u64,
    secondary_network: u64,
}

impl Extras {
    /// What remains when another incarnation begins: P of it may wait already.
    pub(super) fn carried(&self) -> Self {
        Self {
            unusual: self.unusual,
            primary_network: self.primary_network,
            ..Self::default()
        }
    }

    /// After a commit the SVM has said what the PVM has said.
    pub(super) fn refresh(&mut self) {
        self.secondary_openings = self.primary_openings;
        self.secondary_urgent = self.primary_urgent;
        self.secondary_network = self.primary_network;
    }
}

/// Whether a segment needs an S of its own. `head` is the first segment of the frame.
fn stands_alone(packet: &Packet, head: &[u8]) -> bool {
    let flags = packet.tcp.flags;
    !flags.intersects(TcpFlags::SYN | TcpFlags::RST)
        && (!flags.contains(TcpFlags::ACK)
            || packet.payload_len == 0 && packet.has_extras() && packet.has_signals(head))
}

fn parse<F: Frame>(hold: &Hold<F>, id: SlotId) -> (Packet, &[u8]) {
    let frame = hold.frame(id);
    (Packet::parse(frame.head(), frame.len()), frame.head())
}

impl Stream {
    /// A P arrives.
    pub(super) fn note_primary_extras<F: Frame>(
        &mut self,
        hold: &Hold<F>,
        id: SlotId,
        packet: &Packet,
    ) {
        let flags = packet.tcp.flags;
        self.extras.unusual |= packet.has_extras() || flags.contains(TcpFlags::URG);
        if self.extras.unusual {
            self.extras.primary_network = packet.network_digest(hold.frame(id).head());
        }
    }

    /// An S of this incarnation arrives. True if it has to wait for a P of its own.
    pub(super) fn note_secondary_extras<F: Frame>(&mut self, frame: &F, packet: &Packet) -> bool {
        let flags = packet.tcp.flags;
        self.extras.unusual |= packet.has_extras() || flags.contains(TcpFlags::URG);
        if self.extras.unusual {
            self.extras.secondary_network = packet.network_digest(frame.head());
        }
        stands_alone(packet, frame.head())
    }

    /// Whether a P without payload lacks an S with the same options of the network layer, or a RST one
    /// with the same TCP options. Those of a SYN are compared with the rest of it.
    pub(super) fn lacks_equal_options<F: Frame>(&self, hold: &Hold<F>, id: SlotId) -> bool {
        let slot = hold.slot(id);
        if slot.len > 0 || slot.flags.contains(TcpFlags::SYN) {
            return false;
        }
        let (packet, head) = parse(hold, id);
        if packet.network_digest(head) != self.extras.secondary_network {
            return true;
        }
        let ack = slot.flags.contains(TcpFlags::ACK).then_some(slot.ack);
        slot.flags.contains(TcpFlags::RST)
            && packet.has_signals(head)
            && !self.resets.contains(slot.seq, ack)
            && self.equal_of_its_own(hold, id).is_none()
    }

    /// S with control bits or of their own that no P has matched, the first [`REACH`] of them.
    fn first_controls<'a, F: Frame>(
        &self,
        hold: &'a Hold<F>,
    ) -> impl Iterator<Item = SlotId> + use<'a, F> {
        let following = |c: SlotId| Some(c).filter(|c| *c != NIL);
        let next = move |c: &SlotId| following(hold.next(ListKind::Flow, *c));
        std::iter::successors(following(self.controls.head), next).take(REACH)
    }

    /// Whether the options of a P are those of an S that has the same byte at `at`.
    pub(super) fn has_same_options<F: Frame>(&self, hold: &Hold<F>, p: SlotId, s: SlotId) -> bool {
        let (own, others) = (hold.slot(p), hold.slot(s));
        if !own.has_extras() && !others.has_extras() {
            return true;
        }
        let same = (own.seq, own.len) == (others.seq, others.len);
        let ((own, head), (others, other_head)) = (parse(hold, p), parse(hold, s));
        own.has_same_network_options(head, &others, other_head)
            && own.has_same_signals(head, &others, other_head)
            && own.has_same_mapping(head, &others, other_head, same)
    }

    /// Whether a P waits for an S of its own; one that is there is used up.
    pub(super) fn lacks_its_own<F: Frame>(&mut self, hold: &mut Hold<F>, id: SlotId) -> bool {
        let slot = hold.slot(id);
        if slot.flags.contains(TcpFlags::ACK) && !self.extras.unusual {
            return false;
        }
        let (packet, head) = parse(hold, id);
        if !stands_alone(&packet, head) {
            return false;
        }
        let Some(s) = self.equal_of_its_own(hold, id) else {
            return true;
        };
        let arrived = hold.slot(s).came();
        hold.slot_mut(id).witness(arrived);
        hold.unlink(ListKind::Flow, &mut self.controls, s);
        hold.remove(s);
        false
    }

    /// Of the S that no P has matched, one that is equal but for its payload.
    fn equal_of_its_own<F: Frame>(&self, hold: &Hold<F>, id: SlotId) -> Option<SlotId> {
        let slot = hold.slot(id);
        let (packet, head) = parse(hold, id);
        let is_equal = |other: SlotId| {
            let others = hold.slot(other);
            let (other, other_head) = parse(hold, other);
            (others.seq, others.len) == (slot.seq, slot.len)
                && others.flags.0 & MEANT == slot.flags.0 & MEANT
                && packet.has_same_network_options(head, &other, other_head)
                && packet.has_same_signals(head, &other, other_head)
        };
        self.first_controls(hold).find(|c| is_equal(*c))
    }

    /// What keeps a P whose payload was found equal from leaving as far as its extras go, if anything does.
    pub(super) fn examine_extras<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        id: SlotId,
    ) -> Option<Verdict> {
        if self.extras.unusual
            && let Some(verdict) = self.examine_urgent(hold, id)
        {
            return Some(verdict);
        }
        self.lacks_its_own(hold, id).then_some(Verdict::Waits)
    }
}
