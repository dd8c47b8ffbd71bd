//! The comparator alone, for traffic that somebody else mirrors (`--role compare`).
//!
//! There is no guest port, so the fence is the monitor's STOP: frames taken before it were sent
//! before it. Until RESUME no P is taken and every S is dropped, since S carry no epoch here.

use super::output_commit::BURST;
use super::{Cause, Checkpoints, Migration, QemuEvent, Request, Setup, State};
use crate::compare::{Divergence, Reason, Release};
use crate::frame::{Frame, Ticks};
use crate::spread::{Dispatcher, DispatcherEnd, RedirectionTable};

/// A comparator with, perhaps, a monitor.
pub struct Standalone<F> {
    comparator: Dispatcher<F>,
    checkpoints: Checkpoints,
    connected: bool,
    colo: bool,
    stopped: bool,
    pass: bool,
    epoch: u32,
    record: Option<Divergence<F>>,
    unrecorded: u64,
    /// The frame that was reported as overdue last; without a monitor it stays the oldest.
    reported: Option<Ticks>,
    stale: u64,
    discarded: u64,
}

impl<F: Frame> Standalone<F> {
    /// A comparator on this core alone that compares from the first frame on.
    pub fn new(setup: Setup) -> Self {
        Self::with_workers(setup, Vec::new(), RedirectionTable::even(1, 1))
    }

    /// The same with a worker behind each of `ends`, which compares its share of the flows.
    pub fn with_workers(
        setup: Setup,
        ends: Vec<DispatcherEnd<F>>,
        table: RedirectionTable,
    ) -> Self {
        Self {
            comparator: Dispatcher::new(setup.limits, setup.numbers, setup.policy, ends, table),
            checkpoints: Checkpoints::new(setup.repeat),
            connected: false,
            colo: false,
            stopped: false,
            pass: false,
            epoch: 1,
            record: None,
            unrecorded: 0,
            reported: None,
            stale: 0,
            discarded: 0,
        }
    }

    /// The word for what the node does now.
    pub fn state(&self) -> State {
        if self.stopped {
            State::Checkpointing
        } else {
            State::Protected
        }
    }

    /// Number of the epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The comparator, for its counters.
    pub fn comparator(&self) -> &Dispatcher<F> {
        &self.comparator
    }

    /// The requests and their counters.
    pub fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }

    /// S that were dropped because they came during a checkpoint.
    pub fn stale(&self) -> u64 {
        self.stale
    }

    /// P that found no room, which a caller that asks first will not see.
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

    /// Whether P may be taken in.
    pub(crate) fn wants_primary(&self) -> bool {
        !self.stopped && self.comparator.is_ready() && self.comparator.room() >= BURST
    }

    /// Whether S may be taken in.
    pub(crate) fn wants_secondary(&mut self) -> bool {
        self.comparator.wants_secondary()
    }

    /// How many P and S the next round should take at most, where it finds more.
    pub(crate) fn take_budget(&mut self) -> [usize; 2] {
        self.comparator.take_budget()
    }

    /// Gives the workers what was taken in since the last call, and takes in what they found. To
    /// be called once a round.
    pub(crate) fn exchange(&mut self, now: Ticks) {
        self.comparator.exchange();
        self.examine(now);
    }

    /// Whether no worker has anything left to do.
    pub(crate) fn is_settled(&self) -> bool {
        self.comparator.is_settled()
    }

    /// Takes in at most a burst of P, of which the caller has none unless it has seen
    /// [`Standalone::wants_primary`], and S.
    pub(crate) fn ingest(
        &mut self,
        primary: &mut impl Iterator<Item = F>,
        secondary: &mut impl Iterator<Item = F>,
        now: Ticks,
    ) {
        if self.stopped {
            self.stale += secondary.count() as u64;
        }
        self.comparator.ingest(primary, secondary, now);
        self.discarded += primary.count() as u64;
        self.examine(now);
    }

    /// Takes in what the monitor says.
    pub(crate) fn monitor(&mut self, event: QemuEvent, now: Ticks) {
        match event {
            QemuEvent::Connected {
                migration, running, ..
            } => {
                self.connected = true;
                self.colo = migration == Migration::Colo;
                self.checkpoints.retry();
                self.stopped &= !running;
                if !self.stopped && self.comparator.is_suspended() {
                    self.checkpoints.want(Cause::MonitorLost, now);
                }
            }
            QemuEvent::Disconnected => {
                self.connected = false;
                self.pass = false;
                self.checkpoints.retry();
                if self.colo {
                    // Checkpoints that nobody tells of would mix the epochs (rule R8).
                    self.comparator.suspend();
                }
            }
            QemuEvent::Stop => {
                self.checkpoints.stopped();
                self.comparator.fence();
                self.stopped = true;
                self.pass = false;
            }
            QemuEvent::Pass => self.pass = self.stopped,
            QemuEvent::Migration(migration) => self.colo = migration == Migration::Colo,
            QemuEvent::Resume if self.stopped => {
                self.stopped = false;
                if self.colo && self.pass {
                    self.epoch = self.epoch.wrapping_add(1);
                    self.comparator.commit(now);
                    self.checkpoints.committed();
                    self.reported = None;
                } else {
                    self.checkpoints.retry();
                    self.checkpoints.want(Cause::GuestReset, now);
                }
            }
            QemuEvent::Resume
            | QemuEvent::ColoExit
            | QemuEvent::StoppedFor { .. }
            | QemuEvent::Answered { .. }
            | QemuEvent::Barrier { .. }
            | QemuEvent::StartedWithoutMonitor { .. } => {}
        }
    }

    fn examine(&mut self, now: Ticks) {
        if let Some(divergence) = self.comparator.take_divergence() {
            self.diverged(divergence);
        }
        if self.comparator.take_overflow() {
            self.checkpoints
                .want(Cause::Difference(Reason::SecondaryOverflow), now);
        }
    }

    fn diverged(&mut self, divergence: Divergence<F>) {
        self.checkpoints
            .want(Cause::Difference(divergence.reason), divergence.seen);
        match self.record {
            Some(_) => self.unrecorded += 1,
            None => self.record = Some(divergence),
        }
    }

    /// What depends on time alone.
    pub(crate) fn tick(&mut self, now: Ticks) {
        if self.stopped {
            return;
        }
        self.comparator.age(now, BURST);
        let oldest = self.comparator.oldest_waiting();
        if self.reported.is_some() && self.reported == oldest {
            return;
        }
        if let Some(divergence) = self.comparator.overdue(now) {
            self.reported = oldest;
            self.diverged(divergence);
        } else if !self.checkpoints.is_wanted() {
            self.want_room(now);
        }
    }

    /// Wants a checkpoint where the room for P is full, or is about to be.
    fn want_room(&mut self, now: Ticks) {
        if let Some(divergence) = self.comparator.crowding(now) {
            self.diverged(divergence);
        } else if self.comparator.room() < BURST && self.comparator.held() > 0 {
            self.checkpoints
                .want(Cause::Difference(Reason::HoldFull), now);
        }
    }

    /// The next frame for the output port.
    pub(crate) fn next_release(&mut self) -> Option<Release<F>> {
        while self.comparator.next_synchronized().is_some() {}
        self.comparator.next_release()
    }

    /// The next checkpoint request to write to the monitor.
    pub(crate) fn next_request(&mut self, now: Ticks) -> Option<Request> {
        self.checkpoints
            .next(now, self.connected && self.colo && !self.stopped)
    }

    /// The next divergence to write down.
    pub(crate) fn next_record(&mut self) -> Option<Divergence<F>> {
        self.record.take()
    }
}
