//! Segments that leave in parts: which of those that wait a part belongs to.
//!
//! A node lets the part of a segment leave that was found equal, and the uplink's port cuts long ones. Where
//! the VM has sent the same bytes more than once, a part does not say whose it is, so it is taken for the
//! first that it fits, and before that for the rest of the oldest one whose rest it is. Where something later fits
//! none, segments exchange how far they have left: each byte still leaves as often as the VM has sent it, and no
//! more (rule R5).

use dpdk_colo::packet::{Packet, TcpFlags};

use super::incarnation::Incarnation;
use super::queue::{Held, Lefts, Queue};
use super::segment::{payload, payload_at};

/// Control bits that each part has as the whole segment has them.
fn shared(packet: &Packet) -> u8 {
    let own = TcpFlags::FIN | TcpFlags::PSH | TcpFlags::CWR;
    packet.tcp.flags.0 & !own.0
}

impl Held {
    /// Whether `out` is the last part of this segment.
    pub(super) fn ends_with(&self, packet: &Packet, out: &[u8]) -> bool {
        let left = self.packet.payload_len - self.left();
        payload(packet, out).len() == left as usize && self.begins_with(packet, out)
    }

    /// Whether `out` is the next part of this segment.
    pub(super) fn begins_with(&self, packet: &Packet, out: &[u8]) -> bool {
        self.goes_on_with(self.left(), packet, out)
    }

    /// Whether `out` is the next part of this segment if `left` bytes of it have left.
    fn goes_on_with(&self, left: u32, packet: &Packet, out: &[u8]) -> bool {
        let (own, other) = (self.packet.tcp, packet.tcp);
        let at = payload_at(&self.packet).wrapping_add(left);
        let rest = self.behind(left);
        let piece = payload(packet, out);
        // FIN and PSH leave with the last part.
        let ends = |flag| own.flags.contains(flag) && piece.len() == rest.len();
        !piece.is_empty()
            && other.seq == at
            && other.ack == own.ack
            && shared(&self.packet) == shared(packet)
            && ends(TcpFlags::FIN) == other.flags.contains(TcpFlags::FIN)
            && ends(TcpFlags::PSH) == other.flags.contains(TcpFlags::PSH)
            && !own.flags.contains(TcpFlags::SYN)
            && rest.starts_with(piece)
    }

    /// How much of this segment has left if it has left up to a number; `None` where that is no place in it.
    fn left_up_to(&self, at: u32) -> Option<u32> {
        let left = at.wrapping_sub(payload_at(&self.packet));
        (left <= self.packet.payload_len).then_some(left)
    }

    /// Whether a FIN of this segment has left.
    fn has_ended(&self) -> bool {
        self.packet.tcp.flags.contains(TcpFlags::FIN) && self.is_whole()
    }

    /// Whether a part of this segment may be the other's.
    fn is_like(&self, other: &Self) -> bool {
        self.incarnation == other.incarnation
            && self.packet.tcp.ack == other.packet.tcp.ack
            && shared(&self.packet) == shared(&other.packet)
            && !self.has_ended()
            && !other.has_ended()
            && self.packet.payload_len > 0
            && other.packet.payload_len > 0
    }

    /// How much of this segment has left if it has left as far as another one now; `None` where that cannot be.
    fn takes(&self, other: &Self, incarnation: &Incarnation) -> Option<u32> {
        if !self.is_like(other) {
            return None;
        }
        let left = self.left_up_to(other.rest().0)?;
        let (at, rest) = self.rest();
        let gained = left.saturating_sub(self.left()) as usize;
        let known = incarnation.bytes.read(at, gained);
        let is_equal = (known.iter().zip(rest)).all(|(known, byte)| *known == Some(*byte));
        is_equal.then_some(left)
    }
}

impl Queue {
    /// The segments that would go on with what left if others took over how far they have left, and what all of
    /// these would have left then.
    pub(super) fn exchanges(
        &self,
        packet: &Packet,
        out: &[u8],
        incarnations: &[Incarnation],
    ) -> Vec<(u64, Lefts)> {
        let all: Vec<&Held> = self.all().collect();
        let holds = |held: &&&Held| held.rest().0 == packet.tcp.seq;
        let mut found = Vec::new();
        for held in &all {
            let incarnation = &incarnations[held.incarnation];
            // The first whose place it takes; that one takes another's, and so on until one takes its own.
            let is_another = |other: &&&Held| other.record() != held.record();
            for holder in all.iter().filter(holds).filter(is_another) {
                let fits = (held.takes(holder, incarnation))
                    .filter(|left| held.goes_on_with(*left, packet, out));
                let chain = fits.and_then(|_| chain(holder, held, &all, incarnation));
                if let (Some(left), Some(mut lefts)) = (fits, chain) {
                    lefts.push((held.record(), left));
                    found.push((held.record(), lefts));
                    break;
                }
            }
        }
        found
    }
}

/// Who takes whose place so that `last` gives up its own: the shortest chain from `first` on, with what each has
/// left then.
fn chain(first: &Held, last: &Held, all: &[&Held], incarnation: &Incarnation) -> Option<Lefts> {
    // Who was reached, from where, and what that one has left then.
    let mut reached: Vec<(&Held, usize, u32)> = vec![(first, 0, 0)];
    let mut next = 0;
    while next < reached.len() {
        let (held, ..) = reached[next];
        if held.record() == last.record() {
            let mut lefts = Vec::new();
            let mut at = next;
            while at != 0 {
                let (_, from, left) = reached[at];
                lefts.push((reached[from].0.record(), left));
                at = from;
            }
            return Some(lefts);
        }
        for &other in all {
            let is_new = reached
                .iter()
                .all(|(known, ..)| known.record() != other.record());
            if is_new && let Some(left) = held.takes(other, incarnation) {
                reached.push((other, next, left));
            }
        }
        next += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use colo_testkit::packets::Segment;

    use super::*;
    use crate::tcp::tests::{held, held_as, parsed};

    fn segment(seq: u32, text: &[u8]) -> Segment {
        Segment {
            seq,
            ack: Some(7),
            payload: text.to_vec(),
            ..Segment::default()
        }
    }

    #[test]
    fn a_part_begins_where_the_last_one_ended_and_the_last_part_has_the_fin() {
        let mut whole = segment(100, b"abcd");
        whole.fin = true;
        let held = held(&whole, 1);
        let goes_on = |left, seq, text: &[u8], fin| {
            let mut part = segment(seq, text);
            part.fin = fin;
            let (packet, bytes) = parsed(&part);
            held.goes_on_with(left, &packet, &bytes)
        };
        assert!(goes_on(0, 100, b"ab", false));
        assert!(!goes_on(0, 100, b"ab", true));
        assert!(goes_on(2, 102, b"cd", true));
        assert!(!goes_on(2, 102, b"cd", false));
        assert!(!goes_on(2, 100, b"ab", false), "it has left");
        assert!(!goes_on(0, 100, b"aX", false));
    }

    #[test]
    fn a_part_that_fits_none_is_of_one_that_takes_another_s_place() {
        // Both begin with the same bytes, and the first part was taken for one of the shorter.
        let mut queue = Queue::default();
        queue.push(held_as(1, &segment(100, b"ab"), 1));
        queue.push(held_as(2, &segment(100, b"abcd"), 1));
        queue.leave(0, b"a", false);
        let mut known = [Incarnation::default()];
        known[0].bytes.insert(100, b"a");
        let (packet, bytes) = parsed(&segment(101, b"bcd"));
        let found = queue.exchanges(&packet, &bytes, &known);
        assert_eq!(found, [(2, vec![(1, 0), (2, 1)])]);
        let (packet, bytes) = parsed(&segment(101, b"bXd"));
        assert!(queue.exchanges(&packet, &bytes, &known).is_empty());
    }
}
