//! Whose a frame is: a burst of each VM goes in, and comes out as lists for each core.

use std::vec::Drain;

use super::Shares;
use crate::compare::Policy;
use crate::flow::FlowKey;
use crate::frame::{BURST, Frame};
use crate::packet::{Kind, Packet, is_of_the_same_flow, shallow_parse};

/// A core that compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Core(usize);

impl Core {
    /// The front's own.
    pub(super) const OWN: Self = Self(0);

    /// A worker's, by its place among them.
    pub(super) const fn of_worker(worker: usize) -> Self {
        Self(worker + 1)
    }

    /// The place of the worker, if it is one's.
    pub(super) const fn worker(self) -> Option<usize> {
        self.0.checked_sub(1)
    }
}

/// Sorts frames by the core that compares their flow.
pub(super) struct Sorter<F> {
    shares: Shares,
    /// A list for each core, empty but while a burst is passed on.
    primary: Box<[Vec<F>]>,
    /// The same for what the SVM sent.
    secondary: Box<[Vec<F>]>,
}

impl<F: Frame> Sorter<F> {
    /// For a front and its workers.
    pub(super) fn new(shares: Shares, workers: usize) -> Self {
        let lists = || (0..=workers).map(|_| Vec::with_capacity(BURST)).collect();
        Self {
            shares,
            primary: lists(),
            secondary: lists(),
        }
    }

    /// Takes a burst each of P and S at most, and at most so many P, off the iterators; returns how
    /// many the more of the two were.
    pub(super) fn sort(
        &mut self,
        primary: &mut impl Iterator<Item = F>,
        most: usize,
        secondary: &mut impl Iterator<Item = F>,
        policy: &Policy,
    ) -> usize {
        let shallow = policy.is_default();
        let most = most.min(BURST);
        for taken in 0..BURST {
            let p = if taken < most { primary.next() } else { None };
            let s = secondary.next();
            if p.is_none() && s.is_none() {
                return taken;
            }
            let mut plain = None;
            let mut of_primary = Core::OWN.0;
            // An index instead of a branch, which nobody could foretell.
            if let Some(p) = &p {
                plain = self.shallow_hash(p, shallow);
                of_primary = plain.unwrap_or_else(|| self.core_of_any(p, policy));
            }
            if let Some(s) = s {
                // VMs in step send frames of the same flows.
                let of_secondary = match (plain, &p) {
                    (Some(core), Some(p)) if is_of_flow(&s, p) => core,
                    _ => self
                        .shallow_hash(&s, shallow)
                        .unwrap_or_else(|| self.core_of_any(&s, policy)),
                };
                self.secondary[of_secondary].push(s);
            }
            if let Some(p) = p {
                self.primary[of_primary].push(p);
            }
        }
        BURST
    }

    /// The core that compares a flow, whichever of its directions is named.
    pub(super) fn core_of_flow(&self, key: &FlowKey) -> Core {
        Core(self.shares.of(key))
    }

    #[inline(always)]
    fn shallow_hash(&self, frame: &F, shallow: bool) -> Option<usize> {
        if shallow {
            shallow_parse(frame.head(), frame.len(), |flow| self.shares.of(&flow))
        } else {
            None
        }
    }

    /// What is not compared stays with the front: a fixed core keeps the PVM's order among such
    /// frames.
    #[inline(never)]
    fn core_of_any(&self, frame: &F, policy: &Policy) -> usize {
        let packet = Packet::parse(frame.head(), frame.len());
        if matches!(packet.kind, Kind::Unreadable(_)) || policy.covers(packet.kind, &packet.key) {
            Core::OWN.0
        } else {
            self.shares.of(&packet.key)
        }
    }

    /// A core's S.
    #[inline]
    pub(super) fn secondary(&self, core: Core) -> &[F] {
        &self.secondary[core.0]
    }

    /// Drops all but the first `n` of a core's S; returns how many.
    pub(super) fn keep_secondary(&mut self, core: Core, n: usize) -> usize {
        let list = &mut self.secondary[core.0];
        let before = list.len();
        list.truncate(n);
        before - list.len()
    }

    /// Takes a core's P and S out.
    #[inline]
    pub(super) fn take(&mut self, core: Core) -> (Drain<'_, F>, Drain<'_, F>) {
        let Self {
            primary, secondary, ..
        } = self;
        (primary[core.0].drain(..), secondary[core.0].drain(..))
    }
}

#[inline(always)]
fn is_of_flow<F: Frame>(frame: &F, plain: &F) -> bool {
    is_of_the_same_flow((plain.head(), plain.len()), (frame.head(), frame.len()))
}
