//! A VM's recovery from loss, as its retransmissions show it.
//!
//! A VM whose window is smaller after a loss sends new data only when the client has acknowledged what was lost. Its
//! timer doubles with each attempt (RFC 6298, 5.5), so that may take longer than the comparison's timeout. The other VM
//! may have sent that data already.
//!
//! An S that waits for the PVM's recovery waits as long as that takes: the client waits for nothing that is held. A P
//! that waits for the SVM's recovery is held back from the client, so its wait has an end.

use super::Stream;
use crate::compare::hold::{Hold, SlotId};
use crate::frame::{Frame, Ticks};

/// After this many timeouts a P is overdue, whatever the SVM repeats.
const PATIENCE: Ticks = 4;

/// When a VM repeats what it has sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recovery {
    /// The last retransmission, and how long after the one before it; 0: none.
    last: Ticks,
    gap: Ticks,
}

impl Recovery {
    /// Notes a retransmission.
    pub(super) fn note(&mut self, now: Ticks, timeout: Ticks) {
        self.gap = match self.goes_on(now, timeout) {
            true => now.saturating_sub(self.last),
            false => 0,
        };
        self.last = now;
    }

    /// Until when the next retransmission may still come: after twice the last interval, and the timeout's time for
    /// what it brings.
    fn until(&self, timeout: Ticks) -> Ticks {
        self.last
            .saturating_add(2 * self.gap)
            .saturating_add(timeout)
    }

    fn goes_on(&self, now: Ticks, timeout: Ticks) -> bool {
        self.last != 0 && now <= self.until(timeout)
    }
}

impl Stream {
    /// Whether new data of the SVM waits for the PVM's recovery.
    pub(crate) fn repeats(&self, epoch: u32, now: Ticks, timeout: Ticks) -> bool {
        self.epoch == epoch && !self.diverged && self.recovery.goes_on(now, timeout)
    }

    /// Until when an overdue P waits on for the SVM's recovery, if it does: it lacks bytes that no S has brought, or
    /// stands behind such a P, and the SVM has acknowledged what it acknowledges.
    pub(crate) fn excuses<F: Frame>(
        &self,
        hold: &Hold<F>,
        p: SlotId,
        epoch: u32,
        now: Ticks,
        timeout: Ticks,
    ) -> Option<Ticks> {
        let slot = hold.slot(p);
        let most = slot
            .arrived
            .saturating_add(timeout.saturating_mul(PATIENCE));
        let waits_for_bytes = self.epoch == epoch
            && !self.diverged
            && self.lacks_bytes(hold)
            && self.acknowledged_by_both(slot.flags, slot.ack);
        let recovers = self.secondary_recovery.goes_on(now, timeout);
        let until = self.secondary_recovery.until(timeout).min(most);
        (waits_for_bytes && recovers && now < until).then_some(until)
    }

    /// Whether the oldest P lacks bytes that no S has brought, on a connection that neither opens nor ends.
    fn lacks_bytes<F: Frame>(&self, hold: &Hold<F>) -> bool {
        if self.primaries.is_empty() {
            return false;
        }
        let oldest = hold.slot(self.primaries.head);
        self.established && !oldest.complete && !oldest.opens && oldest.verified < oldest.len
    }
}
