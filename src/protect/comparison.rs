//! The comparator, and what follows from what it finds: a wanted checkpoint, a divergence to write down.
//!
//! In: P and S, time. Out: wanted checkpoints, divergences. What ends an epoch and what commits one is its owner's
//! decision.

use super::{Cause, Checkpoints, Setup};
use crate::compare::{Divergence, Reason};
use crate::frame::{BURST, Frame, Ticks};
use crate::spread::{Dispatcher, DispatcherEnd, RedirectionTable};

/// A comparator and its findings.
pub struct Comparison<F> {
    pub(super) comparator: Dispatcher<F>,
    pub(super) checkpoints: Checkpoints,
    record: Option<Divergence<F>>,
    unrecorded: u64,
    discarded: u64,
}

impl<F: Frame> Comparison<F> {
    /// Nothing was compared yet. A worker behind each of `ends` compares its share of the flows.
    pub(super) fn new(setup: Setup, ends: Vec<DispatcherEnd<F>>, table: RedirectionTable) -> Self {
        Self {
            comparator: Dispatcher::new(setup.limits, setup.numbers, setup.policy, ends, table),
            checkpoints: Checkpoints::new(setup.repeat, setup.checkpoint_share),
            record: None,
            unrecorded: 0,
            discarded: 0,
        }
    }

    /// The comparator, for its counters.
    pub fn comparator(&self) -> &Dispatcher<F> {
        &self.comparator
    }

    /// The requests and their counters.
    pub fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }

    /// P that were dropped, because their VM is gone or because they found no room.
    pub fn discarded(&self) -> u64 {
        self.discarded
    }

    /// Divergences that were found while an earlier one still waited to be written down.
    pub fn unrecorded(&self) -> u64 {
        self.unrecorded
    }

    /// Frames that are in here.
    pub fn frames(&self) -> usize {
        self.comparator.frames() + self.record.as_ref().map_or(0, Divergence::frames)
    }

    /// Whether a burst of P has room.
    pub(super) fn has_room(&self) -> bool {
        self.comparator.is_ready() && self.comparator.room() >= BURST
    }

    /// Whether a burst of S has room.
    pub(crate) fn wants_secondary(&mut self) -> bool {
        self.comparator.wants_secondary()
    }

    /// How many P and S the next round should take at most, where it finds more.
    #[inline]
    pub(crate) fn take_budget(&mut self) -> [usize; 2] {
        self.comparator.take_budget()
    }

    /// Gives the workers what was taken in since the last call, and takes in what they found. To
    /// be called once a round.
    pub(crate) fn exchange(&mut self, now: Ticks) {
        self.comparator.exchange();
        self.discarded += self.comparator.take_discarded() as u64;
        self.examine(now);
    }

    /// Whether no worker has anything left to do.
    pub(crate) fn is_settled(&self) -> bool {
        self.comparator.is_settled()
    }

    /// Takes in P and S of one epoch.
    #[inline]
    pub(super) fn ingest(
        &mut self,
        primary: &mut impl Iterator<Item = F>,
        secondary: &mut impl Iterator<Item = F>,
        now: Ticks,
    ) {
        self.comparator.ingest(primary, secondary, now);
        let left = primary.count();
        debug_assert_eq!(left, 0, "the caller has seen that a burst has room");
        self.discarded += left as u64;
        self.examine(now);
    }

    /// Drops all that is held, and forgets all flows.
    pub(super) fn discard(&mut self) {
        self.discarded += self.comparator.discard() as u64;
    }

    /// That many more P were dropped that the comparator had released.
    pub(super) fn count_discarded(&mut self, frames: usize) {
        self.discarded += frames as u64;
    }

    /// Looks at what the comparator found.
    fn examine(&mut self, now: Ticks) {
        if let Some(divergence) = self.comparator.take_divergence() {
            self.diverged(divergence);
        }
        if self.comparator.take_overflow() {
            let cause = Cause::Difference(Reason::SecondaryOverflow);
            self.checkpoints.want(cause, now);
        }
    }

    fn diverged(&mut self, divergence: Divergence<F>) {
        let cause = Cause::Difference(divergence.reason);
        match divergence.reason {
            // The overflow flag counts it: it has those, too, that come behind another divergence.
            Reason::SecondaryOverflow => {
                self.checkpoints
                    .want_uncounted(cause, divergence.flow, divergence.seen);
            }
            _ => self
                .checkpoints
                .want_for(cause, divergence.flow, divergence.seen),
        }
        match self.record {
            Some(_) => self.unrecorded += 1,
            None => self.record = Some(divergence),
        }
    }

    /// Wants a checkpoint for a frame that has waited for too long, or for room where the hold is full or one flow takes
    /// most of it. True for such a frame.
    pub(super) fn overdue(&mut self, now: Ticks) -> bool {
        if let Some(divergence) = self.comparator.overdue(now) {
            self.diverged(divergence);
            return true;
        }
        if !self.checkpoints.is_wanted() {
            self.want_room(now);
        }
        false
    }

    fn want_room(&mut self, now: Ticks) {
        if let Some(divergence) = self.comparator.crowding(now) {
            self.diverged(divergence);
        } else if self.comparator.room() < BURST && self.comparator.held() > 0 {
            self.checkpoints
                .want(Cause::Difference(Reason::HoldFull), now);
        }
    }

    /// The next divergence to write down.
    pub(crate) fn next_record(&mut self) -> Option<Divergence<F>> {
        self.record.take()
    }
}
