//! Segments that leave in parts: which of those that wait a part belongs to.
//!
//! A node lets the part of a segment leave that was found equal, and the uplink's port cuts long ones. Where
//! the VM has sent the same bytes more than once, a part does not say whose it is, so it is taken for the
//! first that it fits. Where something later fits none, two segments exchange how far they have left: each
//! byte still leaves as often as the VM has sent it, and no more (rule R5).

use dpdk_colo::packet::{Packet, TcpFlags};

use super::{Flow, Life, Order, Taken, payload, payload_at};
use crate::node::{Releasing, Why};

/// How many segments that have left are kept for an exchange.
const KEPT: usize = 16;

/// Control bits that each part has as the whole segment has them.
fn shared(packet: &Packet) -> u8 {
    let own = TcpFlags::FIN | TcpFlags::PSH | TcpFlags::CWR;
    packet.tcp.flags.0 & !own.0
}

impl Taken {
    /// The first sequence number of what has not left, and its payload.
    pub(super) fn rest(&self) -> (u32, &[u8]) {
        let at = payload_at(&self.packet).wrapping_add(self.left);
        (at, &self.payload()[self.left as usize..])
    }

    /// Whether `out` is the next part of this segment.
    pub(super) fn begins_with(&self, packet: &Packet, out: &[u8]) -> bool {
        let (own, other) = (self.packet.tcp, packet.tcp);
        let (at, rest) = self.rest();
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

    fn between(&self, from: u32, to: u32) -> Option<&[u8]> {
        let (from, to) = (self.left_up_to(from)?, self.left_up_to(to)?);
        self.payload().get(from as usize..to as usize)
    }

    /// Whether a FIN of this segment has left.
    fn has_ended(&self) -> bool {
        self.packet.tcp.flags.contains(TcpFlags::FIN) && self.left == self.packet.payload_len
    }

    /// What both have left if they exchange how far that is; `None` where a part of one cannot be the other's.
    fn exchanged(&self, other: &Self) -> Option<[u32; 2]> {
        let alike = self.life == other.life
            && self.packet.tcp.ack == other.packet.tcp.ack
            && shared(&self.packet) == shared(&other.packet)
            && !self.has_ended()
            && !other.has_ended()
            && self.packet.payload_len > 0
            && other.packet.payload_len > 0;
        let (own, theirs) = (self.rest().0, other.rest().0);
        if !alike || own == theirs {
            return None;
        }
        let (from, to) = match self.left_up_to(theirs)? {
            left if left < self.left => (theirs, own),
            _ => (own, theirs),
        };
        let is_equal = self.between(from, to)? == other.between(from, to)?;
        is_equal.then_some([self.left_up_to(theirs)?, other.left_up_to(own)?])
    }
}

impl Flow {
    /// Keeps a segment that has left in parts.
    pub(super) fn keep(&mut self, taken: Taken) {
        if self.gone.len() == KEPT {
            self.gone.pop_front();
        }
        self.gone.push_back(taken);
    }

    /// Lets two segments exchange how far they have left, so that what left now may be a part of one of them:
    /// its index among those that wait, and why and in which order it may leave.
    pub(super) fn exchange(
        &mut self,
        packet: &Packet,
        out: &[u8],
        cx: &Releasing,
        lives: &[Life],
    ) -> Option<(usize, Why, Order)> {
        for second in 0..self.waiting.len() {
            for first in 0..second {
                let found = self.exchange_pair([first, second], packet, out, cx, lives);
                if found.is_some() {
                    return found;
                }
            }
            for gone in 0..self.gone.len() {
                if self.gone[gone].exchanged(&self.waiting[second]).is_none() {
                    continue;
                }
                let first = self.bring_back(gone);
                let second = second + usize::from(first <= second);
                let found = self.exchange_pair([first, second], packet, out, cx, lives);
                if found.is_some() {
                    return found;
                }
                let taken = self.waiting.remove(first).expect("it was brought back");
                self.gone.insert(gone, taken);
            }
        }
        None
    }

    fn exchange_pair(
        &mut self,
        pair: [usize; 2],
        packet: &Packet,
        out: &[u8],
        cx: &Releasing,
        lives: &[Life],
    ) -> Option<(usize, Why, Order)> {
        let [one, other] = pair;
        let exchanged = self.waiting[one].exchanged(&self.waiting[other])?;
        let before = pair.map(|index| self.waiting[index].left);
        self.set_left(pair, exchanged);
        let found = pair.into_iter().find_map(|index| {
            let fits = self.waiting[index].begins_with(packet, out);
            let judged = fits.then(|| self.judge(index, packet, out, cx, lives))?;
            judged.ok().map(|(why, order)| (index, why, order))
        });
        let Some((index, why, order)) = found else {
            self.set_left(pair, before);
            return None;
        };
        let rest = if index == one { other } else { one };
        let is_whole = self.waiting[rest].left == self.waiting[rest].packet.payload_len;
        if is_whole && let Some(taken) = self.waiting.remove(rest) {
            self.keep(taken);
        }
        let index = index - usize::from(is_whole && rest < index);
        // One place ahead is free now.
        let order = if index == 0 { Order::Next } else { order };
        Some((index, why, order))
    }

    fn set_left(&mut self, pair: [usize; 2], left: [u32; 2]) {
        for (index, left) in pair.into_iter().zip(left) {
            self.waiting[index].left = left;
        }
    }

    /// Lets a segment wait again, in its place, which is the result.
    fn bring_back(&mut self, index: usize) -> usize {
        let taken = self.gone.remove(index).expect("it was found there");
        let record = taken.standing.record;
        let place = self
            .waiting
            .partition_point(|waits| waits.standing.record < record);
        self.waiting.insert(place, taken);
        place
    }
}
