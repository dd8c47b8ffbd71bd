//! The comparator: the PVM's frames and the SVM's go in, those of the PVM's that may leave come out.
//!
//! [`Comparator::ingest`] takes frames of both, as they have come in a round;
//! [`Comparator::next_release`] returns the P that may be sent, per flow in the PVM's order;
//! [`Comparator::take_divergence`] and [`Comparator::overdue`] say when a checkpoint is wanted.
//! [`Comparator::fence`] ends an epoch and [`Comparator::commit`] lets everything held leave. Rules
//! R1, R2, R4 and R5 are kept in [`stream`] and [`datagram`], R10 in [`hold`].

#![warn(unreachable_pub)]

mod balance;
mod bytes;
mod context;
mod crowding;
mod datagram;
mod divergence;
mod exempt;
mod few;
mod flows;
mod fragments;
mod history;
mod hold;
mod ingest;
mod intake;
mod mask;
mod masked;
mod outgoing;
mod output;
mod pairs;
mod partial;
mod policy;
mod reset;
mod slab;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

pub use bytes::window;
pub use divergence::{Divergence, REASONS, Reason};
pub use mask::{Extent, MAX_LITERAL, MAX_VALUE, MIN_LITERAL, Mask};
pub use policy::{Policy, Rule};
pub use stream::Synchronized;

use crate::flow::{FlowId, FlowTable};
use crate::frame::{Frame, Ticks};
use balance::Balance;
use context::Context;
use exempt::Exempt;
use flows::Flow;
use hold::{Hold, NIL, SlotId};
use intake::Bursts;
use masked::MaskedBytes;
use output::Wait;
use partial::Partial;

/// How the SVM's sequence numbers reach the comparator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// A rewriter gave every segment but the SYN the PVM's numbers.
    #[default]
    Translated,
    /// They are the SVM's own; both streams count from their ISN.
    OwnIsn,
}

/// Bounds of one comparator (rule R10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// P that may be held, those released but not sent yet included.
    pub primary: usize,
    /// S that may be kept.
    pub secondary: usize,
    /// Of those, S kept after their P left, as witnesses for retransmissions.
    pub history: usize,
    /// Flows that are known at a time.
    pub flows: usize,
    /// Age at which an unmatched frame asks for a checkpoint.
    pub timeout: Ticks,
    /// How long the equal part of a long P waits for the rest before it leaves alone.
    pub patience: Ticks,
    /// Age at which a flow without traffic is forgotten, unless it is a living connection whose numbers differ between
    /// the VMs.
    pub idle: Ticks,
    /// The same for a half-open connection.
    pub half_open: Ticks,
}

/// What a comparator has counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// P that left because the S was equal.
    pub released: u64,
    /// Parts of long P that left before the rest, counted among those.
    pub divided: u64,
    /// Of those, retransmissions and bare acknowledgments that left before older P of their connection.
    pub overtakes: u64,
    /// P that left because a commit covers them.
    pub committed: u64,
    /// P that were taken in together with their S, on the fast path of pairs.
    pub paired: u64,
    /// P that were taken in by themselves on the fast path of segments in order.
    pub in_order: u64,
    /// P that were taken in on the general path.
    pub general: u64,
    /// P that a policy rule exempted.
    pub exempted: u64,
    /// P that were dropped because their client had reset the connection.
    pub reset_dropped: u64,
    /// RSTs of one VM alone for a connection that both had closed: S that were dropped, P that left.
    pub closed_resets: u64,
    /// S that were dropped because no more could be kept.
    pub secondary_overflow: u64,
    /// P that could not be read.
    pub unreadable_primary: u64,
    /// S that could not be read, dropped.
    pub unreadable_secondary: u64,
    /// P that found no room in the flow table.
    pub flow_table_full: u64,
    /// Most P held at one time.
    pub held_max: u64,
    /// Divergences by [`Reason`].
    pub divergences: [u64; REASONS],
}

/// A P that may leave, and what its time in here shows.
#[derive(Debug)]
pub struct Release<F> {
    /// The frame.
    pub frame: F,
    /// When it arrived.
    pub arrived: Ticks,
    /// When it became free to leave.
    pub cleared: Ticks,
    /// Latest arrival of an S that it was compared with.
    pub witnessed: Option<Ticks>,
}

/// Compares the output of two VMs.
pub struct Comparator<F> {
    flows: FlowTable<Flow>,
    /// Of the flows' hashes: without it no peer can choose flows that collide.
    seed: u64,
    hold: Hold<F>,
    synchronized: VecDeque<Synchronized>,
    exempt: Exempt,
    masked: MaskedBytes,
    partial: Partial,
    found: Option<Divergence<F>>,
    policy: Policy,
    limits: Limits,
    numbers: Numbers,
    counts: Counts,
    epoch: u32,
    suspended: bool,
    /// A P without a flow entry is held: a flow that is new now might overtake it.
    overfull: bool,
    /// Segments in order may go the fast path.
    fast: bool,
    /// How far the VMs' frames are apart.
    balance: Balance,
    /// Where bursts are read; here all the time, but while one comes in.
    bursts: Option<Box<Bursts<F>>>,
}

impl<F: Frame> Comparator<F> {
    /// An empty comparator; all memory that it will ever use is allocated here.
    pub fn new(limits: Limits, numbers: Numbers, policy: Policy) -> Self {
        Self {
            flows: FlowTable::new(limits.flows),
            seed: RandomState::new().hash_one(()),
            hold: Hold::new(limits.primary, limits.secondary, limits.history),
            synchronized: VecDeque::with_capacity(limits.primary + 1),
            exempt: Exempt::new(!policy.is_default()),
            masked: MaskedBytes::new(policy.masks()),
            partial: Partial::new(limits.flows.min(limits.primary)),
            found: None,
            policy,
            limits,
            numbers,
            counts: Counts::default(),
            epoch: 1,
            suspended: false,
            overfull: false,
            fast: true,
            balance: Balance::new(),
            bursts: Some(Box::new(Bursts::new())),
        }
    }

    /// The same comparator without its fast path for segments in order, which must agree with the
    /// general one: for tests.
    pub fn without_fast_path(mut self) -> Self {
        self.fast = false;
        self
    }

    /// P that may still come in; with less room than a burst the caller pushes back on the guest (rule R8).
    pub fn room(&self) -> usize {
        self.hold.primary_room()
    }

    /// How many P and S the caller's next round should take at most, where it finds more, so that
    /// counterparts come in one round ([`Comparator::ingest`]). It holds for one round.
    #[inline]
    pub fn take_budget(&mut self) -> [usize; 2] {
        self.balance.take_budget()
    }

    /// P that wait for a counterpart or a commit.
    pub fn held(&self) -> usize {
        self.hold.held_count()
    }

    /// Buffers of the P in here, which the limit is for.
    pub fn primary_buffers(&self) -> usize {
        self.hold.primary_buffers()
    }

    /// Buffers of the S that are kept, likewise.
    pub fn secondary_buffers(&self) -> usize {
        self.hold.secondary_buffers()
    }

    /// P that are more than came in, because parts of long ones left by themselves, and the buffers
    /// that these have besides; since the last call.
    pub fn take_divided(&mut self) -> (usize, usize) {
        self.hold.take_divided()
    }

    /// P that were dropped though the SVM lives, and the buffers that they had; since the last call.
    pub fn take_dropped(&mut self) -> (usize, usize) {
        self.hold.take_dropped()
    }

    /// Frames in here, P and S, whatever their standing.
    pub fn frames(&self) -> usize {
        self.hold.in_use()
            + self
                .found
                .as_ref()
                .map_or(0, |d| d.primary.iter().count() + d.secondary.iter().count())
    }

    /// Flows that are known.
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// The counters.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The policy and how often its rules were used.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The next P to send. Offsets in [`Comparator::next_synchronized`] must have been sent to the secondary first.
    #[inline]
    pub fn next_release(&mut self) -> Option<Release<F>> {
        self.hold.next_release()
    }

    /// Offsets that the secondary must know before any frame released from now on leaves.
    pub fn next_synchronized(&mut self) -> Option<Synchronized> {
        self.synchronized.pop_front().or_else(|| self.exempt.next())
    }

    /// The first difference since the last call.
    pub fn take_divergence(&mut self) -> Option<Divergence<F>> {
        self.found.take()
    }

    /// Frames that wait are overdue at this age from now on.
    pub fn set_timeout(&mut self, timeout: Ticks) {
        self.limits.timeout = timeout;
    }

    /// What has waited for longer than the timeout; the oldest frame stands for all (rule R9).
    pub fn overdue(&mut self, now: Ticks) -> Option<Divergence<F>> {
        let timeout = self.limits.timeout;
        let old =
            |arrived: Option<Ticks>| arrived.is_some_and(|at| now.saturating_sub(at) >= timeout);
        if !self.excuse_primaries(now) {
            return None;
        }
        let divergence = if old(self.oldest_primary()) {
            self.overdue_primary(self.hold.held.head, now)
        } else if self.excuse_secondaries(now) && old(self.oldest_secondary()) {
            let s = self.hold.pending.head;
            let slot = self.hold.slot(s);
            Divergence {
                reason: Reason::MissingPrimary,
                flow: slot.flow.map(|f| *self.flows.key(f)),
                stream_offset: self.stream_offset(slot.flow, slot.seq),
                primary: None,
                secondary: Some((self.hold.frame(s).share(), slot.payload as usize)),
                primary_arrived: None,
                secondary_arrived: Some(slot.came()),
                seen: now,
            }
        } else {
            return None;
        };
        self.counts.divergences[divergence.reason as usize] += 1;
        Some(divergence)
    }

    /// Arrival of the P that has waited for longest.
    pub fn oldest_primary(&self) -> Option<Ticks> {
        self.arrival(self.hold.held.head)
    }

    /// Arrival of the S that has waited for longest.
    pub fn oldest_secondary(&self) -> Option<Ticks> {
        self.arrival(self.hold.pending.head)
    }

    fn arrival(&self, id: SlotId) -> Option<Ticks> {
        (id != NIL).then(|| self.hold.slot(id).arrived)
    }

    fn overdue_primary(&self, p: SlotId, now: Ticks) -> Divergence<F> {
        let slot = self.hold.slot(p);
        let mut wait = Wait {
            reason: Reason::Unreadable,
            counterpart: None,
            equal: 0,
            offset: None,
        };
        match slot.flow {
            Some(flow) => wait = self.flows[flow].output.wait(&self.hold, p),
            None if self.overfull => wait.reason = Reason::FlowTableFull,
            None => {}
        }
        let at = slot.payload as usize + wait.equal as usize;
        Divergence {
            reason: wait.reason,
            flow: slot.flow.map(|f| *self.flows.key(f)),
            stream_offset: wait.offset,
            primary: Some((self.hold.frame(p).share(), at)),
            secondary: wait.counterpart.map(|s| (self.hold.frame(s).share(), at)),
            primary_arrived: Some(slot.arrived),
            secondary_arrived: wait.counterpart.map(|s| self.hold.slot(s).arrived),
            seen: now,
        }
    }

    fn stream_offset(&self, flow: Option<FlowId>, at: u32) -> Option<u32> {
        self.flows[flow?].output.stream_offset(at)
    }

    /// Ends the epoch: what was not released waits for the commit, what the SVM sent is void.
    pub fn fence(&mut self) {
        self.suspended = true;
        self.found = None;
        self.exempt.clear();
        while self.hold.pending.head != NIL {
            let id = self.hold.pending.head;
            if let Some(flow) = self.hold.slot(id).flow
                && !self.flows[flow].output.fence(&mut self.hold, id)
            {
                continue;
            }
            self.hold.remove(id);
        }
        while self.hold.history_is_over() && self.drop_oldest_history() {}
    }

    /// Holds every P without a comparison until the next commit, because what the SVM sends says nothing.
    pub fn suspend(&mut self) {
        self.fence();
    }

    /// Whether comparing has stopped until a commit.
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// The SVM has loaded the PVM's state: everything held leaves, in the order in which the PVM
    /// sent it, and comparing begins again from the PVM's state.
    pub fn commit(&mut self, now: Ticks) {
        while self.hold.held.head != NIL {
            let id = self.hold.held.head;
            if let Some(flow) = self.hold.slot(id).flow {
                let output = &mut self.flows[flow].output;
                output.commit(&mut self.hold, id, self.numbers, now);
            }
            self.hold.release(id, now);
            self.counts.committed += 1;
        }
        while self.hold.history_is_over() && self.drop_oldest_history() {}
        self.epoch = self.epoch.wrapping_add(1);
        self.balance = Balance::new();
        self.suspended = false;
        self.overfull = false;
        self.found = None;
    }

    /// Drops every held P and forgets all flows: the VM that sent them is gone and nothing of
    /// them may be seen.
    pub fn discard(&mut self) -> usize {
        self.fence();
        let mut dropped = 0;
        while self.hold.held.head != NIL {
            let id = self.hold.held.head;
            if let Some(flow) = self.hold.slot(id).flow {
                self.flows[flow].output.leave(&mut self.hold, id);
            }
            self.hold.remove(id);
            dropped += 1;
        }
        while let Some(id) = self.flows.oldest() {
            self.forget(id);
        }
        dropped
    }
}
