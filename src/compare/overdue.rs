//! What has waited for longer than the timeout (rule R9).
//!
//! The oldest P stands for all, unless the SVM repeats what was lost on its connection: such a P is *excused*, and the
//! next one is asked. A call passes [`MOST`] P at most, and remembers the last one. The P that were passed are asked
//! again when the first of their excuses ends.

use super::hold::{Hold, NIL, SlotId};
use super::output::Wait;
use super::{Comparator, Divergence, Reason};
use crate::flow::FlowId;
use crate::frame::{Frame, Ticks};

/// Frames that one call drops, excuses or lets wait anew at most.
const MOST: usize = 32;
/// The part of the timeout for which a P is excused at least.
const LEAST: Ticks = 16;

/// The excused P: a run of the oldest ones.
#[derive(Debug, Default)]
pub(super) struct Excused {
    /// The last one of the run and its arrival, since a slot is used again.
    last: Option<(SlotId, Ticks)>,
    /// When the first of their excuses ends.
    until: Ticks,
}

impl Excused {
    /// The last one of the run, if it still waits. What came at that time and is in that slot now is the same P: it
    /// has been there for the timeout.
    fn last<F: Frame>(&self, hold: &Hold<F>) -> Option<SlotId> {
        let (id, arrived) = self.last?;
        hold.has_held_since(id, arrived).then_some(id)
    }

    /// Whether the first of their excuses has ended.
    fn ends(&self, now: Ticks) -> bool {
        self.last.is_some() && now >= self.until
    }

    fn add(&mut self, id: SlotId, arrived: Ticks, until: Ticks) {
        self.until = match self.last {
            Some(_) => self.until.min(until),
            None => until,
        };
        self.last = Some((id, arrived));
    }
}

impl<F: Frame> Comparator<F> {
    /// Frames that wait are overdue at this age from now on.
    pub fn set_timeout(&mut self, timeout: Ticks) {
        self.limits.timeout = timeout;
        self.excused = Excused::default();
    }

    /// What has waited for longer than the timeout; the oldest frame that is not excused stands for all (rule R9).
    pub fn overdue(&mut self, now: Ticks) -> Option<Divergence<F>> {
        if !self.excuse_primaries(now) {
            return None;
        }
        let p = self.first_asked();
        let divergence = if self.is_overdue(p, now) {
            self.overdue_primary(p, now)
        } else if self.excuse_secondaries(now) && self.is_overdue(self.hold.pending.head, now) {
            self.overdue_secondary(now)
        } else {
            return None;
        };
        self.counts.divergences[divergence.reason as usize] += 1;
        Some(divergence)
    }

    /// Arrival of the P that has waited for longest. The excused ones count as one that becomes overdue when the first
    /// of their excuses ends.
    pub fn oldest_primary(&self) -> Option<Ticks> {
        let first = self.arrival(self.first_asked());
        match self.excused.last(&self.hold) {
            None => first,
            Some(_) => {
                let again = self.excused.until.saturating_sub(self.limits.timeout);
                Some(first.map_or(again, |first| first.min(again)))
            }
        }
    }

    /// Arrival of the S that has waited for longest.
    pub fn oldest_secondary(&self) -> Option<Ticks> {
        self.arrival(self.hold.pending.head)
    }

    fn arrival(&self, id: SlotId) -> Option<Ticks> {
        (id != NIL).then(|| self.hold.slot(id).arrived)
    }

    fn is_overdue(&self, id: SlotId, now: Ticks) -> bool {
        self.arrival(id)
            .is_some_and(|arrived| now.saturating_sub(arrived) >= self.limits.timeout)
    }

    /// The oldest P behind those that are excused.
    fn first_asked(&self) -> SlotId {
        match self.excused.last(&self.hold) {
            Some(last) => self.hold.younger(last),
            None => self.hold.held.head,
        }
    }

    /// Drops overdue P of connections that have ended and passes those that are excused, as far as a call may. False
    /// if there may be more.
    fn excuse_primaries(&mut self, now: Ticks) -> bool {
        // Not before the end is reached, so that no P is passed by for good.
        if self.excused.ends(now) && !self.is_overdue(self.first_asked(), now) {
            self.excused = Excused::default();
        }
        (0..MOST).any(|_| !self.excuse_primary(now))
    }

    /// Whether the first P that is asked was dropped or is excused.
    fn excuse_primary(&mut self, now: Ticks) -> bool {
        let id = self.first_asked();
        if self.suspended || !self.is_overdue(id, now) {
            return false;
        }
        let slot = self.hold.slot(id);
        let (arrived, Some(flow)) = (slot.arrived, slot.flow) else {
            return false;
        };
        let (epoch, timeout) = (self.epoch, self.limits.timeout);
        let output = &mut self.flows[flow].output;
        if output.drop_primary(&mut self.hold, id, epoch, now) {
            self.counts.reset_dropped += 1;
            return true;
        }
        let Some(until) = output.excuses(&self.hold, id, epoch, now, timeout) else {
            return false;
        };
        self.excused
            .add(id, arrived, until.max(now.saturating_add(timeout / LEAST)));
        self.counts.excused += 1;
        true
    }

    /// Drops overdue S that no P will come for, and lets those wait anew that wait for the PVM's recovery, as far as a
    /// call may. False if there may be more.
    fn excuse_secondaries(&mut self, now: Ticks) -> bool {
        (0..MOST).any(|_| !self.excuse_secondary(now))
    }

    /// Whether the oldest S that waits was dropped, or waits anew.
    fn excuse_secondary(&mut self, now: Ticks) -> bool {
        let id = self.hold.pending.head;
        if !self.is_overdue(id, now) {
            return false;
        }
        let Some(flow) = self.hold.slot(id).flow else {
            return false;
        };
        let output = &mut self.flows[flow].output;
        if output.repeats(self.epoch, now, self.limits.timeout) {
            self.hold.wait_anew(id, now);
            return true;
        }
        let dropped = output.drop_secondary(&mut self.hold, id, self.epoch, now);
        self.counts.closed_resets += u64::from(dropped == Some(true));
        dropped.is_some()
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

    fn overdue_secondary(&self, now: Ticks) -> Divergence<F> {
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
    }

    pub(super) fn stream_offset(&self, flow: Option<FlowId>, at: u32) -> Option<u32> {
        self.flows[flow?].output.stream_offset(at)
    }
}
