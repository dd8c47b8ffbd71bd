//! Whose a frame is: a burst goes in, and comes out as one list for each core.

use super::glance::at_a_glance;
use super::{BURST, Shares};
use crate::compare::Policy;
use crate::flow::FlowKey;
use crate::frame::Frame;
use crate::packet::{Kind, Packet};

/// A core that compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Core(usize);

impl Core {
    /// The front's own.
    pub const OWN: Self = Self(0);

    /// A worker's, by its place among them.
    pub const fn of_worker(worker: usize) -> Self {
        Self(worker + 1)
    }
}

/// Sorts frames by the core that compares their flow.
pub(super) struct Sorter<F> {
    shares: Shares,
    /// One for each core, empty but while a burst is passed on.
    lists: Box<[Vec<F>]>,
}

impl<F: Frame> Sorter<F> {
    /// For a front and its workers.
    pub fn new(shares: Shares, workers: usize) -> Self {
        Self {
            shares,
            lists: (0..=workers).map(|_| Vec::with_capacity(BURST)).collect(),
        }
    }

    /// Takes a burst of frames at most, and at most so many, off an iterator; returns how many.
    pub fn sort(
        &mut self,
        frames: &mut impl Iterator<Item = F>,
        most: usize,
        policy: &Policy,
    ) -> usize {
        let glances = policy.ignores(Kind::Tcp) && policy.ignores(Kind::Udp);
        let mut taken = 0;
        while taken < most.min(BURST)
            && let Some(frame) = frames.next()
        {
            // An index instead of a branch, which nobody could foretell.
            let core = self.core_of(frame.head(), frame.len(), glances, policy);
            self.lists[core].push(frame);
            taken += 1;
        }
        taken
    }

    #[inline(always)]
    fn core_of(&self, head: &[u8], frame_len: usize, glances: bool, policy: &Policy) -> usize {
        let glance = |flow: FlowKey| self.shares.of(&flow);
        match if glances {
            at_a_glance(head, frame_len, glance)
        } else {
            None
        } {
            Some(core) => core,
            None => self.core_of_any(head, frame_len, policy),
        }
    }

    /// What is not compared stays with the front: a fixed core keeps the PVM's order among such
    /// frames.
    #[inline(never)]
    fn core_of_any(&self, head: &[u8], frame_len: usize, policy: &Policy) -> usize {
        let packet = Packet::parse(head, frame_len);
        if matches!(packet.kind, Kind::Unreadable(_)) || policy.covers(packet.kind, &packet.key) {
            Core::OWN.0
        } else {
            self.shares.of(&packet.key)
        }
    }

    /// A core's frames.
    #[inline]
    pub fn of(&self, core: Core) -> &[F] {
        &self.lists[core.0]
    }

    /// Takes a core's frames out.
    #[inline]
    pub fn take(&mut self, core: Core) -> std::vec::Drain<'_, F> {
        self.lists[core.0].drain(..)
    }

    /// Takes the first of a core's frames out.
    #[cold]
    pub fn take_first(&mut self, core: Core) -> Option<F> {
        let list = &mut self.lists[core.0];
        (!list.is_empty()).then(|| list.remove(0))
    }
}
