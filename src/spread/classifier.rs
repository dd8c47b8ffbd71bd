//! Sorts a burst of each VM into one list for each core.

use std::vec::Drain;

use super::RedirectionTable;
use crate::compare::Policy;
use crate::flow::FlowKey;
use crate::frame::{BURST, Frame};
use crate::packet::{Kind, Packet, is_of_the_same_flow, shallow_parse};

/// A core that compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Core(usize);

impl Core {
    /// The dispatcher's own.
    pub(super) const OWN: Self = Self(0);

    /// The core of the worker with this index.
    pub(super) const fn of_worker(worker: usize) -> Self {
        Self(worker + 1)
    }

    /// The index of the core's worker; `None` for the dispatcher's core.
    pub(super) const fn worker(self) -> Option<usize> {
        self.0.checked_sub(1)
    }
}

/// Sorts frames by the core that compares their flow.
pub(super) struct Classifier<F> {
    table: RedirectionTable,
    /// P for each core. The lists are empty between bursts.
    primary: Box<[Vec<F>]>,
    /// S for each core.
    secondary: Box<[Vec<F>]>,
}

impl<F: Frame> Classifier<F> {
    /// A classifier for a dispatcher with `workers` workers.
    pub(super) fn new(table: RedirectionTable, workers: usize) -> Self {
        let lists = || (0..=workers).map(|_| Vec::with_capacity(BURST)).collect();
        Self {
            table,
            primary: lists(),
            secondary: lists(),
        }
    }

    /// Takes at most a burst of P and a burst of S off the iterators, and at most `primary_limit` P. Returns the number
    /// of P or of S, whichever is greater.
    pub(super) fn sort(
        &mut self,
        primary: &mut impl Iterator<Item = F>,
        primary_limit: usize,
        secondary: &mut impl Iterator<Item = F>,
        policy: &Policy,
    ) -> usize {
        let shallow = policy.is_default();
        let primary_limit = primary_limit.min(BURST);
        for taken in 0..BURST {
            let p = if taken < primary_limit {
                primary.next()
            } else {
                None
            };
            let s = secondary.next();
            if p.is_none() && s.is_none() {
                return taken;
            }
            let mut plain = None;
            let mut of_primary = Core::OWN.0;
            // A list is chosen by index: the CPU could not predict a branch on the core.
            if let Some(p) = &p {
                plain = self.shallow_core(p, shallow);
                of_primary = plain.unwrap_or_else(|| self.core_of_parsed(p, policy));
            }
            if let Some(s) = s {
                // VMs in lock-step send frames of the same flow, so that the P's hash serves for the S.
                let of_secondary = match (plain, &p) {
                    (Some(core), Some(p)) if is_of_flow(&s, p) => core,
                    _ => self
                        .shallow_core(&s, shallow)
                        .unwrap_or_else(|| self.core_of_parsed(&s, policy)),
                };
                self.secondary[of_secondary].push(s);
            }
            if let Some(p) = p {
                self.primary[of_primary].push(p);
            }
        }
        BURST
    }

    /// The core that compares a flow, given either direction of it.
    pub(super) fn core_of_flow(&self, key: &FlowKey) -> Core {
        Core(self.table.core_of(key))
    }

    #[inline(always)]
    fn shallow_core(&self, frame: &F, shallow: bool) -> Option<usize> {
        if shallow {
            shallow_parse(frame.head(), frame.len(), |flow| self.table.core_of(&flow))
        } else {
            None
        }
    }

    /// Frames that are not compared stay with the dispatcher. One fixed core keeps the PVM's order among them.
    #[inline(never)]
    fn core_of_parsed(&self, frame: &F, policy: &Policy) -> usize {
        let packet = Packet::parse(frame.head(), frame.len());
        if matches!(packet.kind, Kind::Unreadable(_)) || policy.covers(packet.kind, &packet.key) {
            Core::OWN.0
        } else {
            self.table.core_of(&packet.key)
        }
    }

    /// A core's S.
    #[inline]
    pub(super) fn secondary(&self, core: Core) -> &[F] {
        &self.secondary[core.0]
    }

    /// Drops all but the first `n` of a core's S. Returns the number of dropped frames.
    pub(super) fn truncate_secondary(&mut self, core: Core, n: usize) -> usize {
        let list = &mut self.secondary[core.0];
        let before = list.len();
        list.truncate(n);
        before - list.len()
    }

    /// Removes a core's P and S.
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
