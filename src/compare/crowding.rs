//! Who takes the room for frames that wait, and who gets the last of it (rule R10).
//!
//! The guest's ring is first in, first out. So while the room for P is full no flow's P comes in, and no flow can be
//! kept from filling it. A checkpoint makes room, and takes a while. It is wanted at half of the room if most of what
//! waits there is of one flow, of connections that are not established, or of flows with one datagram each. Established
//! flows go on meanwhile.
//!
//! An S may be dropped. The last quarter of the room for S is kept for flows with few waiting frames, so it is the flow
//! that takes more whose S are dropped, and not the one whose S comes next.
//!
//! Nothing is counted for each flow: a sample of the slots shows which flow has most of them.

use super::hold::SlotId;
use super::{Comparator, Divergence, Reason};
use crate::flow::FlowId;
use crate::frame::{Frame, Ticks};
use crate::packet::Packet;

impl<F: Frame> Comparator<F> {
    /// A checkpoint that is wanted before the room for P is full, and the oldest that was found of the frames that take it.
    pub fn crowding(&mut self, now: Ticks) -> Option<Divergence<F>> {
        match self.hold.primary_is_half_full() {
            true => self.crowd(now),
            false => None,
        }
    }

    /// The same however much room there is.
    #[cold]
    pub fn crowd(&mut self, now: Ticks) -> Option<Divergence<F>> {
        if self.suspended || !self.hold.waits_mostly() {
            return None;
        }
        let (most, all) = (self.most_frequent(), self.hold.sample().count());
        let [of_one, half_open, single] =
            [Reason::FlowHold, Reason::HalfOpenHold, Reason::DatagramHold].map(|reason| {
                let of_kind = |id: &SlotId| self.is_of(reason, *id, most);
                let oldest = |id: &SlotId| self.hold.slot(*id).arrived;
                let found = 2 * self.hold.sample().filter(of_kind).count() > all;
                let first = self.hold.sample().filter(of_kind).min_by_key(oldest);
                first.filter(|_| found).map(|id| (reason, id))
            });
        let (reason, p) = of_one.or(half_open).or(single)?;
        self.counts.divergences[reason as usize] += 1;
        let slot = self.hold.slot(p);
        Some(Divergence {
            flow: slot.flow.map(|flow| *self.flows.key(flow)),
            stream_offset: self.stream_offset(slot.flow, slot.seq),
            primary: Some((self.hold.frame(p).share(), slot.payload as usize)),
            primary_arrived: Some(slot.arrived),
            ..Divergence::without_frames(reason, now)
        })
    }

    /// The flow of most of the sample, if one has more than half of it; else any (Boyer and Moore).
    fn most_frequent(&self) -> Option<FlowId> {
        let flows = self.hold.sample().map(|id| self.hold.slot(id).flow);
        let vote = |(most, lead): (Option<FlowId>, usize), flow| match lead {
            0 => (flow, 1),
            _ if flow == most => (most, lead + 1),
            _ => (most, lead - 1),
        };
        flows.fold((None, 0), vote).0
    }

    fn is_of(&self, reason: Reason, id: SlotId, most: Option<FlowId>) -> bool {
        let Some(flow) = self.hold.slot(id).flow else {
            return false;
        };
        let output = &self.flows[flow].output;
        match reason {
            Reason::FlowHold => most == Some(flow),
            Reason::HalfOpenHold => output.is_half_open(),
            _ => output.has_one_datagram(),
        }
    }

    /// Whether an S may be kept. Gives up history where that is needed.
    #[cold]
    #[inline(never)]
    pub(super) fn admits_secondary(
        &mut self,
        packet: &Packet,
        hash: u64,
        flow: Option<FlowId>,
    ) -> bool {
        while self.hold.secondary_is_full() && self.drop_oldest_history() {}
        if self.hold.secondary_is_full() {
            return false;
        }
        if !self.hold.only_reserve_is_left() {
            return true;
        }
        let flow = flow.or_else(|| self.flows.find(&packet.key, hash));
        flow.is_some_and(|id| self.flows[id].output.waits_little(&self.hold))
    }

    /// Keeps all room for S for flows with few waiting frames, because there is little left on all cores together; or,
    /// as from the start, the last of it.
    #[inline]
    pub fn reserve_room(&mut self, all: bool) {
        self.hold.reserve_all(all);
    }
}
