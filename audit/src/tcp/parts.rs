//! Segments that leave in parts: which of those that wait a part belongs to.
//!
//! A node lets the part of a segment leave that was found equal, and the uplink's port cuts long ones. Where
//! the VM has sent the same bytes more than once, a part does not say whose it is, so it is taken for the
//! first that it fits, and before that for the rest of the oldest one whose rest it is. Where something later fits
//! none, segments exchange how far they have left: each byte still leaves as often as the VM has sent it, and no
//! more (rule R5).

use dpdk_colo::packet::{Packet, TcpFlags};

use super::{Flow, Life, Order, Taken, payload, payload_at};
use crate::node::{Releasing, Why};

/// How many segments that have left are kept for an exchange.
const KEPT: usize = 32;

/// Control bits that each part has as the whole segment has them.
fn shared(packet: &Packet) -> u8 {
    let own = TcpFlags::FIN | TcpFlags::PSH | TcpFlags::CWR;
    packet.tcp.flags.0 & !own.0
}

impl Taken {
    /// The first sequence number of what has not left, and its payload.
    pub(super) fn rest(&self) -> (u32, &[u8]) {
        let at = payload_at(&self.packet).wrapping_add(self.left);
        (at, self.behind(self.left))
    }

    /// The payload behind its first bytes.
    fn behind(&self, left: u32) -> &[u8] {
        self.payload().get(left as usize..).unwrap_or_default()
    }

    /// Whether `out` is the last part of this segment.
    pub(super) fn ends_with(&self, packet: &Packet, out: &[u8]) -> bool {
        let left = self.packet.payload_len - self.left;
        payload(packet, out).len() == left as usize && self.begins_with(packet, out)
    }

    /// Whether `out` is the next part of this segment.
    pub(super) fn begins_with(&self, packet: &Packet, out: &[u8]) -> bool {
        self.goes_on_with(self.left, packet, out)
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
        self.packet.tcp.flags.contains(TcpFlags::FIN) && self.left == self.packet.payload_len
    }

    /// Whether all of it has left.
    fn is_whole(&self) -> bool {
        self.left == self.packet.payload_len
    }

    /// Whether a part of this segment may be the other's.
    fn is_like(&self, other: &Self) -> bool {
        self.life == other.life
            && self.packet.tcp.ack == other.packet.tcp.ack
            && shared(&self.packet) == shared(&other.packet)
            && !self.has_ended()
            && !other.has_ended()
            && self.packet.payload_len > 0
            && other.packet.payload_len > 0
    }

    /// How much of this segment has left if it has left as far as another one now; `None` where that cannot be.
    fn takes(&self, other: &Self, life: &Life) -> Option<u32> {
        if !self.is_like(other) {
            return None;
        }
        let left = self.left_up_to(other.rest().0)?;
        let (at, rest) = self.rest();
        let gained = left.saturating_sub(self.left) as usize;
        let known = life.bytes.read(at, gained);
        let is_equal = (known.iter().zip(rest)).all(|(known, byte)| *known == Some(*byte));
        is_equal.then_some(left)
    }
}

/// How much segments have left, by their records.
type Lefts = Vec<(u64, u32)>;

impl Flow {
    /// Keeps a segment that has left.
    pub(super) fn keep(&mut self, taken: Taken) {
        if self.gone.len() == KEPT {
            self.gone.pop_front();
        }
        self.gone.push_back(taken);
    }

    /// Lets segments exchange how far they have left, so that what left now may be a part of one of them:
    /// its index among those that wait, and why and in which order it may leave.
    pub(super) fn exchange(
        &mut self,
        packet: &Packet,
        out: &[u8],
        cx: &Releasing,
        lives: &[Life],
    ) -> Option<(usize, Why, Order)> {
        for (record, lefts) in self.exchanges(packet, out, lives) {
            let before = self.set_left(&lefts);
            let index = self.place(record);
            if let Ok((why, order)) = self.judge(index, packet, out, cx, lives) {
                while self.gone.len() > KEPT {
                    self.gone.pop_front();
                }
                return Some((index, why, order));
            }
            self.set_left(&before);
        }
        None
    }

    /// The segments that would go on with what left if others took over how far they have left, and what all of
    /// these would have left then.
    fn exchanges(&self, packet: &Packet, out: &[u8], lives: &[Life]) -> Vec<(u64, Lefts)> {
        let all: Vec<&Taken> = self.waiting.iter().chain(&self.gone).collect();
        let holds = |taken: &&&Taken| taken.rest().0 == packet.tcp.seq;
        let mut found = Vec::new();
        for taken in &all {
            let life = &lives[taken.life];
            // The first whose place it takes; that one takes another's, and so on until one takes its own.
            let is_another = |other: &&&Taken| other.standing.record != taken.standing.record;
            for holder in all.iter().filter(holds).filter(is_another) {
                let fits = (taken.takes(holder, life))
                    .filter(|left| taken.goes_on_with(*left, packet, out));
                let chain = fits.and_then(|_| chain(holder, taken, &all, life));
                if let (Some(left), Some(mut lefts)) = (fits, chain) {
                    lefts.push((taken.standing.record, left));
                    found.push((taken.standing.record, lefts));
                    break;
                }
            }
        }
        found
    }

    /// Sets how many bytes of each segment have left. Returns the former numbers. A segment that has left whole does
    /// not wait.
    fn set_left(&mut self, lefts: &Lefts) -> Lefts {
        let mut before = Vec::with_capacity(lefts.len());
        for &(record, left) in lefts {
            let mut all = self.waiting.iter_mut().chain(&mut self.gone);
            if let Some(taken) = all.find(|taken| taken.standing.record == record) {
                before.push((record, std::mem::replace(&mut taken.left, left)));
            }
        }
        for &(record, _) in lefts {
            let is_it = |taken: &Taken| taken.standing.record == record;
            if let Some(index) = self.gone.iter().position(is_it)
                && !self.gone[index].is_whole()
                && let Some(taken) = self.gone.remove(index)
            {
                self.waiting.insert(self.place(record), taken);
            } else if let Some(taken) = self.waiting.get(self.place(record))
                && taken.is_whole()
                && is_it(taken)
                && let Some(taken) = self.waiting.remove(self.place(record))
            {
                self.gone.push_back(taken);
            }
        }
        before
    }

    /// The place of a record among those that wait.
    fn place(&self, record: u64) -> usize {
        self.waiting
            .partition_point(|waits| waits.standing.record < record)
    }
}

/// Who takes whose place so that `last` gives up its own: the shortest chain from `first` on, with what each has
/// left then.
fn chain(first: &Taken, last: &Taken, all: &[&Taken], life: &Life) -> Option<Lefts> {
    let record = |taken: &Taken| taken.standing.record;
    // Who was reached, from where, and what that one has left then.
    let mut reached: Vec<(&Taken, usize, u32)> = vec![(first, 0, 0)];
    let mut next = 0;
    while next < reached.len() {
        let (taken, ..) = reached[next];
        if record(taken) == record(last) {
            let mut lefts = Vec::new();
            let mut at = next;
            while at != 0 {
                let (_, from, left) = reached[at];
                lefts.push((record(reached[from].0), left));
                at = from;
            }
            return Some(lefts);
        }
        for &other in all {
            let is_new = reached
                .iter()
                .all(|(known, ..)| record(known) != record(other));
            if is_new && let Some(left) = taken.takes(other, life) {
                reached.push((other, next, left));
            }
        }
        next += 1;
    }
    None
}
