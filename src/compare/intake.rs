//! Intake of frames one by one: what they are, whose they are, and which comparison takes them. The stages
//! *read*, *in order* and *general* of [`super::ingest`].
//!
//! A burst is read whole before its first frame is compared: all headers, then the index entries
//! of all flows, then the flows. So the cache misses of different frames overlap instead of adding
//! up, without a hint to the processor.

use std::ops::Range;

use super::Comparator;
use super::context::Context;
use super::hold::{Oldest, SlotId};
use super::output::Output;
use super::stream::{Arrival, Path};
use crate::flow::FlowId;
use crate::frame::{BURST, Frame, Ticks};
use crate::packet::{Kind, Packet};

/// An arriving burst.
pub(super) struct Batch<F> {
    pub frames: [Option<F>; BURST],
    pub packets: [Packet; BURST],
    pub hashes: [u64; BURST],
    /// The flows that were known when the headers were read.
    flows: [Option<FlowId>; BURST],
    pub len: usize,
    /// [`crate::flow::FlowTable::removals`] at that time.
    removals: u64,
}

impl<F: Frame> Batch<F> {
    fn new() -> Self {
        Self {
            frames: [const { None }; BURST],
            packets: [const { Packet::EMPTY }; BURST],
            hashes: [0; BURST],
            flows: [None; BURST],
            len: 0,
            removals: 0,
        }
    }

    /// Takes at most `most` frames.
    #[inline(always)]
    pub(super) fn fill(&mut self, frames: &mut impl Iterator<Item = F>, most: usize) {
        let mut len = 0;
        while len < most.min(BURST)
            && let Some(frame) = frames.next()
        {
            self.frames[len] = Some(frame);
            len += 1;
        }
        self.len = len;
    }

    /// Loads the headers, while others are read.
    #[inline(always)]
    pub(super) fn touch_headers(&self) {
        let mut touched = 0;
        for frame in self.frames[..self.len].iter().flatten() {
            touched ^= frame.head().first().copied().unwrap_or_default();
        }
        std::hint::black_box(touched);
    }
}

/// A burst of each VM.
pub(super) struct Bursts<F> {
    pub primary: Batch<F>,
    pub secondary: Batch<F>,
}

impl<F: Frame> Bursts<F> {
    pub(super) fn new() -> Self {
        Self {
            primary: Batch::new(),
            secondary: Batch::new(),
        }
    }
}

impl<F: Frame> Comparator<F> {
    /// Takes in those of a burst's P that are there still, whose headers were read.
    #[inline(never)]
    pub(super) fn take_primaries(&mut self, batch: &mut Batch<F>, range: Range<usize>, now: Ticks) {
        for i in range {
            let Some(frame) = batch.frames[i].take() else {
                continue;
            };
            let flow = self.flow_of(batch, i);
            self.take_primary(frame, &batch.packets[i], batch.hashes[i], flow, now);
        }
        self.trim_history();
    }

    /// Reads those of a burst's S that are there still, and takes them in.
    #[inline(never)]
    pub(super) fn take_secondaries(
        &mut self,
        batch: &mut Batch<F>,
        range: Range<usize>,
        now: Ticks,
    ) {
        self.read(batch, range.clone());
        for i in range {
            let Some(frame) = batch.frames[i].take() else {
                continue;
            };
            let flow = self.flow_of(batch, i);
            self.take_secondary(frame, &batch.packets[i], batch.hashes[i], flow, now);
        }
        self.trim_history();
    }

    /// Reads what frames of a burst are and finds their flows.
    #[inline(always)]
    pub(super) fn read(&self, batch: &mut Batch<F>, range: Range<usize>) {
        let frames = batch.frames[range.clone()].iter();
        let packets = &mut batch.packets[range.clone()];
        let hashes = &mut batch.hashes[range.clone()];
        let flows = &mut batch.flows[range];
        for ((frame, packet), hash) in frames.zip(packets.iter_mut()).zip(hashes.iter_mut()) {
            if let Some(frame) = frame {
                packet.read(frame.head(), frame.len());
                *hash = packet.key.hash_seeded(self.seed);
            }
        }
        batch.removals = self.flows.removals();
        for (flow, hash) in flows.iter_mut().zip(hashes.iter()) {
            *flow = self.flows.guess(*hash);
        }
        // A loop of its own, so short that the misses of many flows overlap.
        let mut touched = 0;
        for id in flows.iter().flatten() {
            touched ^= self.flows[*id].touch();
        }
        std::hint::black_box(touched);
        for ((flow, packet), hash) in flows.iter_mut().zip(packets).zip(hashes) {
            if let Some(id) = *flow
                && !self.flows.has(id, &packet.key)
            {
                *flow = self.flows.find(&packet.key, *hash);
            }
        }
    }

    /// The flow of a frame of the burst, unless others of the burst have changed which there are.
    #[inline(always)]
    pub(super) fn flow_of(&self, batch: &Batch<F>, i: usize) -> Option<FlowId> {
        if self.flows.removals() == batch.removals {
            batch.flows[i]
        } else {
            None
        }
    }

    #[inline]
    pub(super) fn note_held(&mut self) {
        let held = self.hold.held_count() as u64;
        self.counts.held_max = self.counts.held_max.max(held);
    }

    /// Takes in a P. The caller has seen that there is room.
    #[inline(always)]
    pub(super) fn take_primary(
        &mut self,
        frame: F,
        packet: &Packet,
        hash: u64,
        flow: Option<FlowId>,
        now: Ticks,
    ) {
        if !self.policy.ignores(packet.kind) && self.policy.exempts(packet.kind, &packet.key) {
            // While nothing is compared another node may be about to speak for the VM (rule R6).
            if self.suspended {
                let held = self.hold.insert_primary(frame, now);
                debug_assert!(held.is_ok(), "the caller has seen that there is room");
                return;
            }
            self.counts.exempted += 1;
            self.pass_by(true, frame.head(), packet, hash, now);
            self.hold.pass(frame, now, None);
            return;
        }
        let mut frame = frame;
        if let Some(id) = flow
            && self.fast
            && !self.suspended
        {
            let flow = &mut self.flows[id];
            let arrival = Arrival {
                frame,
                packet,
                flow: id,
                epoch: self.epoch,
                now,
            };
            let (output, seen) = (&mut flow.output, &mut flow.seen);
            match output.primary_in_order(seen, &mut self.hold, arrival) {
                Path::Fast(released) => {
                    self.counts.in_order += 1;
                    self.counts.released += released;
                    return;
                }
                Path::Part(released) => {
                    self.counts.in_order += 1;
                    self.counts.released += released;
                    self.note_part(id, now);
                    return;
                }
                Path::General(back) => frame = back,
            }
        }
        self.take_primary_in_general(frame, packet, hash, flow, now);
    }

    #[inline(never)]
    fn take_primary_in_general(
        &mut self,
        frame: F,
        packet: &Packet,
        hash: u64,
        flow: Option<FlowId>,
        now: Ticks,
    ) {
        self.counts.general += 1;
        let held = self.hold.insert_primary(frame, now);
        debug_assert!(held.is_ok(), "the caller has seen that there is room");
        let Ok(id) = held else {
            return;
        };
        if let Kind::Unreadable(_) = packet.kind {
            self.counts.unreadable_primary += 1;
            return;
        }
        let Some(flow) = self.flow(packet, hash, flow, now) else {
            self.counts.flow_table_full += 1;
            self.overfull = true;
            return;
        };
        let half_open = self.within(flow, now, |output, cx| output.primary(cx, id, packet));
        if half_open {
            self.stand(flow, now);
        }
    }

    #[inline(always)]
    pub(super) fn take_secondary(
        &mut self,
        frame: F,
        packet: &Packet,
        hash: u64,
        flow: Option<FlowId>,
        now: Ticks,
    ) {
        let ignored = self.policy.ignores(packet.kind);
        if self.suspended {
            return;
        }
        if !ignored && self.policy.covers(packet.kind, &packet.key) {
            self.pass_by(false, frame.head(), packet, hash, now);
            return;
        }
        let mut full = self.hold.secondary_is_crowded();
        if full && !matches!(packet.kind, Kind::Unreadable(_)) {
            full = !self.admits_secondary(packet, hash, flow);
        }
        let mut frame = frame;
        if let Some(id) = flow
            && self.fast
            && !full
        {
            let flow = &mut self.flows[id];
            let arrival = Arrival {
                frame,
                packet,
                flow: id,
                epoch: self.epoch,
                now,
            };
            let (output, seen) = (&mut flow.output, &mut flow.seen);
            match output.secondary_in_order(seen, &mut self.hold, arrival) {
                Path::Fast(released) => {
                    self.counts.released += released;
                    return;
                }
                Path::Part(released) => {
                    self.counts.released += released;
                    self.note_part(id, now);
                    return;
                }
                Path::General(back) => frame = back,
            }
        }
        self.take_secondary_in_general(frame, packet, hash, flow, full, now);
    }

    #[inline(never)]
    fn take_secondary_in_general(
        &mut self,
        frame: F,
        packet: &Packet,
        hash: u64,
        flow: Option<FlowId>,
        refused: bool,
        now: Ticks,
    ) {
        if let Kind::Unreadable(_) = packet.kind {
            self.counts.unreadable_secondary += 1;
            return;
        }
        let Some(flow) = self.flow(packet, hash, flow, now) else {
            self.counts.secondary_overflow += 1;
            return;
        };
        let half_open = self.within(flow, now, |output, cx| {
            cx.refused = refused;
            output.secondary(cx, frame, packet, now);
        });
        if half_open {
            self.stand(flow, now);
        }
    }

    /// Does something to a flow; true if the flow was half-open before or is now. The caller sees to
    /// [`Comparator::trim_history`] then.
    pub(super) fn within(
        &mut self,
        id: FlowId,
        now: Ticks,
        act: impl FnOnce(&mut Output, &mut Context<'_, F>),
    ) -> bool {
        let (key, flow) = self.flows.get_mut(id);
        let mut released = 0;
        let mut context = Context {
            hold: &mut self.hold,
            synchronized: &mut self.synchronized,
            partial: &mut self.partial,
            policy: &mut self.policy,
            masked: &mut self.masked,
            found: &mut self.found,
            counts: &mut self.counts,
            released: &mut released,
            flow: id,
            key,
            epoch: self.epoch,
            numbers: self.numbers,
            suspended: self.suspended,
            refused: false,
            timeout: self.limits.timeout,
            now,
        };
        act(&mut flow.output, &mut context);
        let half_open = flow.is_half_open() || flow.stands_half_open();
        self.counts.released += released;
        half_open
    }

    /// Brings history back to its bound. Once for a burst: until then an S that finds no room makes some
    /// ([`Comparator::admits_secondary`]).
    #[inline(always)]
    pub(super) fn trim_history(&mut self) {
        self.hold.trim_entries();
        while self.hold.history_is_over() && self.drop_oldest_history() {}
    }

    #[inline(always)]
    pub(super) fn drop_oldest_history(&mut self) -> bool {
        match self.hold.drop_oldest_history() {
            Oldest::Dropped => true,
            Oldest::None => false,
            Oldest::InSlot(id) => {
                self.drop_history(id);
                true
            }
        }
    }

    #[inline(never)]
    fn drop_history(&mut self, id: SlotId) {
        if let Some(flow) = self.hold.slot(id).flow {
            self.flows[flow].output.drop_history(&mut self.hold, id);
        }
        self.hold.drop_history(id);
    }
}
