//! The segments of the VM that have not left whole, in its order, and the last ones that left in parts.

use std::collections::VecDeque;

use dpdk_colo::packet::Packet;

use super::incarnation::Incarnation;
use super::segment::{acknowledged, payload, payload_at};
use crate::verdict::CapturePoint;

/// How many segments that have left in parts are kept for an exchange.
const KEPT: usize = 32;

/// A segment that the VM sent.
pub(super) struct Held {
    pub(super) captured: CapturePoint,
    /// Its incarnation, by number.
    pub(super) incarnation: usize,
    pub(super) packet: Packet,
    pub(super) bytes: Box<[u8]>,
    /// Bytes of payload that have left (the node may let it leave in parts, and the uplink's port cuts).
    left: u32,
    freed: bool,
}

/// How much segments have left, by their records.
pub(super) type Lefts = Vec<(u64, u32)>;

impl Held {
    /// A segment of which nothing has left.
    pub(super) fn new(
        captured: CapturePoint,
        incarnation: usize,
        packet: Packet,
        bytes: Box<[u8]>,
    ) -> Self {
        Self {
            captured,
            incarnation,
            packet,
            bytes,
            left: 0,
            freed: false,
        }
    }

    /// Its record.
    pub(super) fn record(&self) -> u64 {
        self.captured.record
    }

    /// All of its payload.
    pub(super) fn payload(&self) -> &[u8] {
        payload(&self.packet, &self.bytes)
    }

    /// The number of its first byte of payload, and all of them.
    pub(super) fn placed(&self) -> (u32, &[u8]) {
        (payload_at(&self.packet), self.payload())
    }

    /// Bytes of payload that have left.
    pub(super) fn left(&self) -> u32 {
        self.left
    }

    /// The first sequence number of what has not left, and its payload.
    pub(super) fn rest(&self) -> (u32, &[u8]) {
        let at = payload_at(&self.packet).wrapping_add(self.left);
        (at, self.behind(self.left))
    }

    /// The payload behind its first bytes.
    pub(super) fn behind(&self, left: u32) -> &[u8] {
        self.payload().get(left as usize..).unwrap_or_default()
    }

    /// Whether all of it has left.
    pub(super) fn is_whole(&self) -> bool {
        self.left == self.packet.payload_len
    }
}

/// The segments of one connection at one node.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Held>,
    /// The last segments that left in parts, or whole before older ones, whose parts may look the same.
    gone: VecDeque<Held>,
    /// Sequence numbers of the client's RSTs.
    client_resets: Vec<u32>,
}

impl Queue {
    /// The segments that wait, in the VM's order.
    pub(super) fn held(&self) -> impl Iterator<Item = &Held> {
        self.waiting.iter()
    }

    /// The segments in front of one.
    pub(super) fn older(&self, index: usize) -> impl Iterator<Item = &Held> {
        self.waiting.iter().take(index)
    }

    /// One that waits.
    pub(super) fn get(&self, index: usize) -> &Held {
        &self.waiting[index]
    }

    /// The segments that wait and the last ones that left in parts.
    pub(super) fn all(&self) -> impl Iterator<Item = &Held> {
        self.waiting.iter().chain(&self.gone)
    }

    /// Adds a segment behind all others.
    pub(super) fn push(&mut self, held: Held) {
        self.waiting.push_back(held);
    }

    /// The client has reset the connection, and both VMs got it.
    pub(super) fn client_reset(&mut self, seq: u32) {
        self.client_resets.push(seq);
    }

    /// Lets incarnations know of what a commit covers: segments that were taken before this many fences are free.
    pub(super) fn commit(&mut self, committed: u64, incarnations: &mut [Incarnation]) {
        for held in &mut self.waiting {
            if held.captured.fences < committed && !held.freed {
                held.freed = true;
                let payload = payload(&held.packet, &held.bytes);
                incarnations[held.incarnation].free(&held.packet, &held.bytes, 0, payload);
            }
        }
    }

    /// Whether a segment need not leave: its client had reset the connection, with the very number that the
    /// segment acknowledges.
    fn may_be_dropped(&self, held: &Held) -> bool {
        acknowledged(&held.packet).is_some_and(|ack| self.client_resets.contains(&ack))
    }

    /// How many in front of one must have vanished if it is the next.
    pub(super) fn missing(&self, index: usize) -> u64 {
        let older = self.older(index);
        older.filter(|held| !self.may_be_dropped(held)).count() as u64
    }

    /// Drops the segments in front of one.
    pub(super) fn drop_older(&mut self, index: usize) {
        self.waiting.drain(..index);
    }

    /// A piece of one that waits has left. `overtook` says that older ones still wait.
    pub(super) fn leave(&mut self, index: usize, piece: &[u8], overtook: bool) {
        let held = &mut self.waiting[index];
        held.left += piece.len() as u32;
        let in_parts = piece.len() < held.packet.payload_len as usize;
        if held.is_whole()
            && let Some(held) = self.waiting.remove(index)
            && (in_parts || overtook && !piece.is_empty())
        {
            self.gone.push_back(held);
            self.trim();
        }
    }

    /// Forgets the oldest that left.
    pub(super) fn trim(&mut self) {
        while self.gone.len() > KEPT {
            self.gone.pop_front();
        }
    }

    /// Sets how many bytes of each segment have left. Returns the former numbers. A segment that has left whole does
    /// not wait.
    pub(super) fn set_left(&mut self, lefts: &Lefts) -> Lefts {
        let mut before = Vec::with_capacity(lefts.len());
        for &(record, left) in lefts {
            let mut all = self.waiting.iter_mut().chain(&mut self.gone);
            if let Some(held) = all.find(|held| held.record() == record) {
                before.push((record, std::mem::replace(&mut held.left, left)));
            }
        }
        for &(record, _) in lefts {
            let is_it = |held: &Held| held.record() == record;
            if let Some(index) = self.gone.iter().position(is_it)
                && !self.gone[index].is_whole()
                && let Some(held) = self.gone.remove(index)
            {
                self.waiting.insert(self.place(record), held);
            } else if let Some(held) = self.waiting.get(self.place(record))
                && held.is_whole()
                && is_it(held)
                && let Some(held) = self.waiting.remove(self.place(record))
            {
                self.gone.push_back(held);
            }
        }
        before
    }

    /// The place of a record among those that wait.
    pub(super) fn place(&self, record: u64) -> usize {
        self.waiting.partition_point(|held| held.record() < record)
    }
}

#[cfg(test)]
mod tests {
    use colo_testkit::packets::Segment;

    use super::*;
    use crate::tcp::tests::{held, held_as};

    fn segment(seq: u32, ack: u32, text: &[u8]) -> Segment {
        Segment {
            seq,
            ack: Some(ack),
            payload: text.to_vec(),
            ..Segment::default()
        }
    }

    fn records(queue: &Queue) -> Vec<u64> {
        queue.held().map(Held::record).collect()
    }

    #[test]
    fn a_segment_waits_until_its_last_byte_has_left() {
        let mut queue = Queue::default();
        queue.push(held_as(1, &segment(100, 7, b"abc"), 1));
        queue.leave(0, b"ab", false);
        assert_eq!(queue.get(0).rest(), (102, &b"c"[..]));
        queue.leave(0, b"c", false);
        assert!(records(&queue).is_empty());
        assert_eq!(queue.all().count(), 1, "it is kept for an exchange");
        // One that left at once is not.
        queue.push(held_as(2, &segment(103, 7, b"def"), 1));
        queue.leave(0, b"def", false);
        assert_eq!(queue.all().count(), 1);
    }

    #[test]
    fn the_last_ones_that_left_in_parts_are_kept() {
        let mut queue = Queue::default();
        let all = KEPT as u64 + 4;
        for record in 0..all {
            queue.push(held_as(record, &segment(100, 7, b"abc"), 1));
            queue.leave(0, b"ab", false);
            queue.leave(0, b"c", false);
        }
        let kept: Vec<_> = queue.all().map(Held::record).collect();
        assert_eq!(kept, (4..all).collect::<Vec<_>>());
    }

    #[test]
    fn segments_change_place_with_what_they_have_left() {
        let mut queue = Queue::default();
        for record in 1..4 {
            queue.push(held_as(record, &segment(100, 7, b"abc"), 1));
        }
        queue.leave(1, b"ab", false);
        queue.leave(1, b"c", false);
        assert_eq!(records(&queue), [1, 3]);
        let before = queue.set_left(&vec![(2, 0), (3, 3)]);
        assert_eq!(before, [(2, 3), (3, 0)]);
        assert_eq!(records(&queue), [1, 2]);
        queue.set_left(&before);
        assert_eq!(records(&queue), [1, 3]);
    }

    #[test]
    fn what_a_client_s_reset_answers_need_not_leave() {
        let mut queue = Queue::default();
        for ack in [7, 8] {
            queue.push(held(&segment(100, ack, b"abc"), 1));
        }
        assert_eq!(queue.missing(2), 2);
        queue.client_reset(8);
        assert_eq!(queue.missing(2), 1);
        assert_eq!(queue.missing(1), 1);
    }

    #[test]
    fn a_commit_frees_what_was_taken_before_its_fence_once() {
        let mut queue = Queue::default();
        let mut known = [Incarnation::default()];
        let mut later = held_as(2, &segment(103, 7, b"def"), 1);
        later.captured.fences = 1;
        queue.push(held_as(1, &segment(100, 7, b"abc"), 1));
        queue.push(later);
        queue.commit(1, &mut known);
        let bytes = known[0].bytes.read(102, 2);
        assert_eq!(bytes, [Some(b'c'), None]);
        queue.commit(2, &mut known);
        assert_eq!(known[0].bytes.read(103, 1), [Some(b'd')]);
    }
}
