//! The comparator: the PVM's frames and the SVM's go in, those of the PVM's that may leave come out.
//!
//! [`Comparator::primary`] and [`Comparator::secondary`] take frames as they arrive;
//! [`Comparator::next_release`] gives back the P that may be sent, per flow in the PVM's order;
//! [`Comparator::take_divergence`] and [`Comparator::overdue`] say when a checkpoint is wanted.
//! [`Comparator::fence`] ends an epoch and [`Comparator::commit`] lets everything held leave. Rules
//! R1, R2, R4 and R5 are kept in [`stream`] and [`datagram`], R10 in [`hold`].

mod bytes;
mod datagram;
mod divergence;
mod hold;
mod policy;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

pub use bytes::window;
pub use divergence::{Divergence, REASONS, Reason};
pub use policy::{Policy, Rule};
pub use stream::Synchronized;

use crate::flow::{FlowId, FlowKey, FlowTable};
use crate::frame::{Frame, Ticks};
use crate::packet::{Kind, Packet};
use datagram::Datagrams;
use hold::{Hold, NIL, SlotId, Standing};
use stream::Stream;

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
    /// Age at which a flow without traffic is forgotten.
    pub idle: Ticks,
}

/// What a comparator has counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// P that left because the S was equal.
    pub released: u64,
    /// P that left because a commit covers them.
    pub committed: u64,
    /// P that a policy rule exempted.
    pub exempted: u64,
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

/// A P that may leave, and what its time in here tells.
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

/// How many of the longest unused flows are looked at for one to give up when the table is full.
const REACH: usize = 16;

enum Output {
    Stream(Stream),
    Datagrams(Datagrams),
}

struct Flow {
    output: Output,
    seen: Ticks,
}

/// What the comparison of one flow reaches beyond the flow.
struct Context<'a, F> {
    hold: &'a mut Hold<F>,
    synchronized: &'a mut VecDeque<Synchronized>,
    found: &'a mut Option<Divergence<F>>,
    counts: &'a mut Counts,
    released: &'a mut u64,
    flow: FlowId,
    key: FlowKey,
    epoch: u32,
    numbers: Numbers,
    suspended: bool,
    now: Ticks,
}

impl<F: Frame> Context<'_, F> {
    /// Makes room for an S; without any it is dropped, which asks for a checkpoint (rule R8).
    fn keep(&mut self, frame: F, arrived: Ticks) -> Option<SlotId> {
        match self.hold.insert_secondary(frame, arrived) {
            Ok(id) => Some(id),
            Err(_) => {
                self.counts.secondary_overflow += 1;
                self.report(Reason::SecondaryOverflow, None, None, None, 0);
                None
            }
        }
    }

    fn report(
        &mut self,
        reason: Reason,
        offset: Option<u32>,
        p: Option<SlotId>,
        s: Option<SlotId>,
        at: u32,
    ) {
        self.counts.divergences[reason as usize] += 1;
        if self.found.is_some() {
            return;
        }
        let side = |id: SlotId| {
            let slot = self.hold.slot(id);
            let frame = self.hold.frame(id);
            let offset = slot.payload as usize + at.wrapping_sub(slot.seq) as usize;
            (frame.share(), offset.min(frame.len()))
        };
        *self.found = Some(Divergence {
            reason,
            flow: Some(self.key),
            stream_offset: offset,
            primary: p.map(side),
            secondary: s.map(side),
            primary_arrived: p.map(|id| self.hold.slot(id).arrived),
            secondary_arrived: s.map(|id| self.hold.slot(id).arrived),
            seen: self.now,
        });
    }
}

/// Compares the output of two VMs.
pub struct Comparator<F> {
    flows: FlowTable<Flow>,
    /// Of the flows' hashes: without it no peer can choose flows that collide.
    seed: u64,
    hold: Hold<F>,
    synchronized: VecDeque<Synchronized>,
    found: Option<Divergence<F>>,
    policy: Policy,
    limits: Limits,
    numbers: Numbers,
    counts: Counts,
    epoch: u32,
    suspended: bool,
    /// A P without a flow entry is held: a flow that is new now might overtake it.
    overfull: bool,
}

impl<F: Frame> Comparator<F> {
    /// An empty comparator; all memory that it will ever use is allocated here.
    pub fn new(limits: Limits, numbers: Numbers, policy: Policy) -> Self {
        Self {
            flows: FlowTable::new(limits.flows),
            seed: RandomState::new().hash_one(()),
            hold: Hold::new(limits.primary, limits.secondary, limits.history),
            synchronized: VecDeque::with_capacity(limits.primary + 1),
            found: None,
            policy,
            limits,
            numbers,
            counts: Counts::default(),
            epoch: 1,
            suspended: false,
            overfull: false,
        }
    }

    /// P that may still come in; with less room than a burst the caller pushes back on the guest (rule R8).
    pub fn room(&self) -> usize {
        self.hold.primary_room()
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

    /// Takes in a frame that the PVM sent. Without room it comes back.
    pub fn primary(&mut self, frame: F, now: Ticks) -> Result<(), F> {
        let packet = Packet::parse(frame.head(), frame.len());
        let id = self.hold.insert_primary(frame, now)?;
        self.counts.held_max = self.counts.held_max.max(self.hold.held_count() as u64);
        if self.policy.exempts(packet.kind, &packet.key) {
            self.counts.exempted += 1;
            self.hold.stand(id, Standing::Released);
            return Ok(());
        }
        if let Kind::Unreadable(_) = packet.kind {
            self.counts.unreadable_primary += 1;
            return Ok(());
        }
        let Some(flow) = self.flow(&packet, now) else {
            self.counts.flow_table_full += 1;
            self.overfull = true;
            return Ok(());
        };
        self.within(flow, now, |output, cx| match output {
            Output::Stream(stream) => stream.primary(cx, id, &packet),
            Output::Datagrams(datagrams) => datagrams.primary(cx, id, &packet),
        });
        Ok(())
    }

    /// Takes in a frame that the SVM sent in the same epoch.
    pub fn secondary(&mut self, frame: F, now: Ticks) {
        let packet = Packet::parse(frame.head(), frame.len());
        if self.suspended || self.policy.covers(packet.kind, &packet.key) {
            return;
        }
        if let Kind::Unreadable(_) = packet.kind {
            self.counts.unreadable_secondary += 1;
            return;
        }
        while self.hold.secondary_is_full() {
            if !self.drop_oldest_history() {
                break;
            }
        }
        let Some(flow) = self.flow(&packet, now) else {
            self.counts.secondary_overflow += 1;
            return;
        };
        self.within(flow, now, |output, cx| match output {
            Output::Stream(stream) => stream.secondary(cx, frame, &packet, now),
            Output::Datagrams(datagrams) => datagrams.secondary(cx, frame, &packet, now),
        });
    }

    /// The next P to send. Offsets in [`Comparator::next_synchronized`] must have been told first.
    pub fn next_release(&mut self) -> Option<Release<F>> {
        let id = self.hold.released.head;
        if id == NIL {
            return None;
        }
        let slot = self.hold.slot(id);
        let (arrived, cleared, witnessed) = (slot.arrived, slot.cleared, slot.witnessed);
        Some(Release {
            frame: self.hold.remove(id),
            arrived,
            cleared,
            witnessed,
        })
    }

    /// Offsets that the secondary must know before any frame released from now on leaves.
    pub fn next_synchronized(&mut self) -> Option<Synchronized> {
        self.synchronized.pop_front()
    }

    /// The first difference since the last call.
    pub fn take_divergence(&mut self) -> Option<Divergence<F>> {
        self.found.take()
    }

    /// What has waited for longer than the timeout; the oldest frame stands for all (rule R9).
    pub fn overdue(&mut self, now: Ticks) -> Option<Divergence<F>> {
        let old = |arrived: Ticks| now.saturating_sub(arrived) >= self.limits.timeout;
        let (p, s) = (self.hold.held.head, self.hold.pending.head);
        let divergence = if p != NIL && old(self.hold.slot(p).arrived) {
            self.overdue_primary(p, now)
        } else if s != NIL && old(self.hold.slot(s).arrived) {
            let slot = self.hold.slot(s);
            Divergence {
                reason: Reason::MissingPrimary,
                flow: slot.flow.map(|f| *self.flows.key(f)),
                stream_offset: self.stream_offset(slot.flow, slot.seq),
                primary: None,
                secondary: Some((self.hold.frame(s).share(), slot.payload as usize)),
                primary_arrived: None,
                secondary_arrived: Some(slot.arrived),
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
        let mut at = slot.payload as usize;
        let mut counterpart = None;
        let mut offset = None;
        let reason = match slot.flow {
            None if self.overfull => Reason::FlowTableFull,
            None => Reason::Unreadable,
            Some(flow) => match &self.flows[flow].output {
                Output::Stream(stream) => {
                    at += slot.verified as usize;
                    offset = stream.stream_offset(slot.seq.wrapping_add(slot.verified));
                    stream.reason_of_wait(&self.hold, p)
                }
                Output::Datagrams(datagrams) => {
                    counterpart = datagrams.counterpart();
                    if let Some(k) =
                        counterpart.and_then(|s| datagram::first_mismatch(&self.hold, p, s))
                    {
                        at += k;
                        offset = Some(k as u32);
                    }
                    datagrams.reason_of_wait(&self.hold)
                }
            },
        };
        Divergence {
            reason,
            flow: slot.flow.map(|f| *self.flows.key(f)),
            stream_offset: offset,
            primary: Some((self.hold.frame(p).share(), at)),
            secondary: counterpart.map(|s| (self.hold.frame(s).share(), at)),
            primary_arrived: Some(slot.arrived),
            secondary_arrived: counterpart.map(|s| self.hold.slot(s).arrived),
            seen: now,
        }
    }

    fn stream_offset(&self, flow: Option<FlowId>, at: u32) -> Option<u32> {
        match &self.flows[flow?].output {
            Output::Stream(stream) => stream.stream_offset(at),
            Output::Datagrams(_) => None,
        }
    }

    /// Ends the epoch: what was not released waits for the commit, what the SVM sent is void.
    pub fn fence(&mut self) {
        self.suspended = true;
        self.found = None;
        while self.hold.pending.head != NIL {
            let id = self.hold.pending.head;
            if let Some(flow) = self.hold.slot(id).flow {
                match &mut self.flows[flow].output {
                    Output::Stream(stream) if stream.cut(&mut self.hold, id) => continue,
                    Output::Stream(stream) => stream.forget(&mut self.hold, id),
                    Output::Datagrams(datagrams) => datagrams.forget(&mut self.hold, id),
                }
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
                match &mut self.flows[flow].output {
                    Output::Stream(stream) => stream.commit(&mut self.hold, id, self.numbers, now),
                    Output::Datagrams(datagrams) => datagrams.leave(&mut self.hold, id),
                }
            }
            self.hold.slot_mut(id).cleared = now;
            self.hold.stand(id, Standing::Released);
            self.counts.committed += 1;
        }
        while self.hold.history_is_over() && self.drop_oldest_history() {}
        self.epoch = self.epoch.wrapping_add(1);
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
                match &mut self.flows[flow].output {
                    Output::Stream(stream) => stream.leave(&mut self.hold, id),
                    Output::Datagrams(datagrams) => datagrams.leave(&mut self.hold, id),
                }
            }
            self.hold.remove(id);
            dropped += 1;
        }
        while let Some(id) = self.flows.oldest() {
            self.forget(id);
        }
        dropped
    }

    /// Forgets flows that have been quiet for the idle time, at most `most` of them.
    pub fn age(&mut self, now: Ticks, most: usize) {
        for _ in 0..most {
            match self.flows.oldest() {
                Some(id) if now.saturating_sub(self.flows[id].seen) >= self.limits.idle => {
                    if self.is_quiet(id) {
                        self.forget(id);
                    } else {
                        self.flows.touch(id);
                    }
                }
                _ => return,
            }
        }
    }

    fn within(
        &mut self,
        flow: FlowId,
        now: Ticks,
        act: impl FnOnce(&mut Output, &mut Context<'_, F>),
    ) {
        let key = *self.flows.key(flow);
        let mut released = 0;
        let mut context = Context {
            hold: &mut self.hold,
            synchronized: &mut self.synchronized,
            found: &mut self.found,
            counts: &mut self.counts,
            released: &mut released,
            flow,
            key,
            epoch: self.epoch,
            numbers: self.numbers,
            suspended: self.suspended,
            now,
        };
        act(&mut self.flows[flow].output, &mut context);
        self.counts.released += released;
        while self.hold.history_is_over() && self.drop_oldest_history() {}
    }

    /// The flow of a packet, known or new.
    fn flow(&mut self, packet: &Packet, now: Ticks) -> Option<FlowId> {
        let hash = packet.key.hash_seeded(self.seed);
        if let Some(id) = self.flows.find(&packet.key, hash) {
            self.flows[id].seen = now;
            self.flows.touch(id);
            return Some(id);
        }
        if self.overfull {
            return None;
        }
        if self.flows.len() == self.flows.capacity() {
            let quiet = std::iter::successors(self.flows.oldest(), |&id| self.flows.newer(id))
                .take(REACH)
                .find(|&id| self.is_quiet(id) && !self.is_offset(id))?;
            self.forget(quiet);
        }
        let output = match packet.kind {
            Kind::Tcp => Output::Stream(Stream::default()),
            _ => Output::Datagrams(Datagrams::default()),
        };
        self.flows
            .insert(packet.key, hash, Flow { output, seen: now })
            .ok()
    }

    fn is_quiet(&self, id: FlowId) -> bool {
        match &self.flows[id].output {
            Output::Stream(stream) => stream.is_quiet(&self.hold, self.epoch),
            Output::Datagrams(datagrams) => datagrams.is_quiet(),
        }
    }

    fn is_offset(&self, id: FlowId) -> bool {
        match &self.flows[id].output {
            Output::Stream(stream) => stream.is_offset(self.epoch),
            Output::Datagrams(_) => false,
        }
    }

    fn forget(&mut self, id: FlowId) {
        match self.flows.remove(id).output {
            Output::Stream(mut stream) => stream.clear(&mut self.hold),
            Output::Datagrams(mut datagrams) => datagrams.clear(&mut self.hold),
        }
    }

    fn drop_oldest_history(&mut self) -> bool {
        let Some(id) = self.hold.oldest_history() else {
            return false;
        };
        if let Some(flow) = self.hold.slot(id).flow
            && let Output::Stream(stream) = &mut self.flows[flow].output
        {
            stream.forget(&mut self.hold, id);
        }
        self.hold.remove(id);
        true
    }
}
