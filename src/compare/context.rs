//! What the comparison of one flow reaches beyond the flow.

use std::collections::VecDeque;

use super::divergence::{Divergence, Reason};
use super::hold::{Hold, SlotId};
use super::masked::MaskedBytes;
use super::partial::Partial;
use super::policy::Policy;
use super::stream::Synchronized;
use super::{Counts, Numbers};
use crate::flow::{FlowId, FlowKey};
use crate::frame::{Frame, Ticks};

/// The comparator's parts and what is to be known of the moment.
pub(super) struct Context<'a, F> {
    pub hold: &'a mut Hold<F>,
    pub synchronized: &'a mut VecDeque<Synchronized>,
    pub partial: &'a mut Partial,
    pub policy: &'a mut Policy,
    pub masked: &'a mut MaskedBytes,
    pub found: &'a mut Option<Divergence<F>>,
    pub counts: &'a mut Counts,
    pub released: &'a mut u64,
    pub flow: FlowId,
    pub key: &'a FlowKey,
    pub epoch: u32,
    pub numbers: Numbers,
    pub suspended: bool,
    /// The flow has no claim to the room that is left for S.
    pub refused: bool,
    pub timeout: Ticks,
    pub now: Ticks,
}

impl<F: Frame> Context<'_, F> {
    /// Makes room for an S; without any it is dropped, which asks for a checkpoint (rule R8).
    #[inline(always)]
    pub(super) fn keep(&mut self, frame: F, arrived: Ticks) -> Option<SlotId> {
        if !self.refused
            && let Ok(id) = self.hold.insert_secondary(frame, arrived)
        {
            return Some(id);
        }
        self.report_overflow();
        None
    }

    #[inline(never)]
    fn report_overflow(&mut self) {
        self.counts.secondary_overflow += 1;
        self.report(Reason::SecondaryOverflow, None, None, None, 0);
    }

    #[inline(never)]
    pub(super) fn report(
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
            flow: Some(*self.key),
            stream_offset: offset,
            primary: p.map(side),
            secondary: s.map(side),
            primary_arrived: p.map(|id| self.hold.slot(id).arrived),
            secondary_arrived: s.map(|id| self.hold.slot(id).came()),
            seen: self.now,
        });
    }
}
