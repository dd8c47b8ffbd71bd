//! The PVM's recovery from loss, as its retransmissions show it.
//!
//! The SVM, whose window may be wider, can be ahead with new data that the PVM sends only when the client has
//! acknowledged what was lost. The PVM's timer doubles with each attempt (RFC 6298, 5.5), so that may take
//! longer than the comparison's timeout. Nothing that the client waits for is held meanwhile.

use super::Stream;
use crate::frame::Ticks;

/// When the PVM repeats what it has sent.
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

    /// Whether the next retransmission may still come: after twice the last interval, and the timeout's time
    /// for what it brings.
    fn goes_on(&self, now: Ticks, timeout: Ticks) -> bool {
        let until = self
            .last
            .saturating_add(2 * self.gap)
            .saturating_add(timeout);
        self.last != 0 && now <= until
    }
}

impl Stream {
    /// Whether new data of the SVM waits for the PVM's recovery.
    pub(crate) fn repeats(&self, epoch: u32, now: Ticks, timeout: Ticks) -> bool {
        self.epoch == epoch && !self.diverged && self.recovery.goes_on(now, timeout)
    }
}
