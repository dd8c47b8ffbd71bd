//! The comparator alone, for traffic that somebody else mirrors (`--role compare`).
//!
//! There is no guest port, so the fence is the monitor's STOP: frames taken before it were sent
//! before it. Until RESUME no P is taken and every S is dropped, since S carry no epoch here.

use super::comparison::Comparison;
use super::qemu::Qemu;
use super::{Cause, QemuEvent, Request, Setup, State};
use crate::compare::Release;
use crate::frame::{BURST, Frame, Ticks};
use crate::spread::{DispatcherEnd, RedirectionTable};

/// A comparator with, perhaps, a monitor.
pub struct Standalone<F> {
    comparison: Comparison<F>,
    qemu: Qemu,
    stopped: bool,
    pass: bool,
    epoch: u32,
    /// The frame that was reported as overdue last; without a monitor it stays the oldest.
    reported: Option<Ticks>,
    stale: u64,
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
            comparison: Comparison::new(setup, ends, table),
            qemu: Qemu::default(),
            stopped: false,
            pass: false,
            epoch: 1,
            reported: None,
            stale: 0,
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

    /// The comparator and its findings.
    pub fn comparison(&self) -> &Comparison<F> {
        &self.comparison
    }

    /// The comparator and its findings, for what does not depend on epochs.
    #[inline]
    pub(crate) fn comparison_mut(&mut self) -> &mut Comparison<F> {
        &mut self.comparison
    }

    /// Frames that wait for their counterpart are overdue at this age from now on.
    pub(crate) fn set_timeout(&mut self, timeout: Ticks) {
        self.comparison.comparator.set_timeout(timeout);
    }

    /// S that were dropped because they came during a checkpoint.
    pub fn stale(&self) -> u64 {
        self.stale
    }

    /// Whether P may be taken in.
    pub(crate) fn wants_primary(&self) -> bool {
        !self.stopped && self.comparison.has_room()
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
            debug_assert_eq!(primary.size_hint().0, 0, "the caller has asked for P");
            self.stale += secondary.count() as u64;
        }
        self.comparison.ingest(primary, secondary, now);
    }

    /// Takes in what the monitor says.
    pub(crate) fn monitor(&mut self, event: QemuEvent, now: Ticks) {
        match event {
            QemuEvent::Connected {
                migration, running, ..
            } => {
                self.qemu.connected();
                self.qemu.migrated(migration);
                self.comparison.checkpoints.retry();
                self.stopped &= !running;
                if !self.stopped && self.comparison.comparator.is_suspended() {
                    self.comparison.checkpoints.want(Cause::MonitorLost, now);
                }
            }
            QemuEvent::Disconnected => {
                self.qemu.disconnected();
                self.pass = false;
                self.comparison.checkpoints.disconnected();
                if self.qemu.in_colo() {
                    // Checkpoints that nobody tells of would mix the epochs (rule R8).
                    self.comparison.comparator.suspend();
                }
            }
            QemuEvent::Stop => {
                self.comparison.checkpoints.stopped(now);
                self.comparison.comparator.fence();
                self.stopped = true;
                self.pass = false;
            }
            QemuEvent::Pass => self.pass = self.stopped,
            QemuEvent::Migration(migration) => {
                self.qemu.migrated(migration);
            }
            QemuEvent::Resume if self.stopped => {
                self.stopped = false;
                self.comparison.checkpoints.resumed(now);
                if self.qemu.in_colo() && self.pass {
                    self.epoch = self.epoch.wrapping_add(1);
                    self.comparison.comparator.commit(now);
                    self.comparison.checkpoints.committed();
                    self.reported = None;
                } else {
                    self.comparison.checkpoints.retry();
                    self.comparison.checkpoints.want(Cause::GuestReset, now);
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

    /// What depends on time alone.
    pub(crate) fn tick(&mut self, now: Ticks) {
        if self.stopped {
            return;
        }
        self.comparison.comparator.age(now, BURST);
        let oldest = self.comparison.comparator.oldest_waiting();
        if self.reported.is_some() && self.reported == oldest {
            return;
        }
        if self.comparison.overdue(now) {
            self.reported = oldest;
        }
    }

    /// The next frame for the output port.
    pub(crate) fn next_release(&mut self) -> Option<Release<F>> {
        while self.comparison.comparator.next_synchronized().is_some() {}
        self.comparison.comparator.next_release()
    }

    /// The next checkpoint request to write to the monitor.
    pub(crate) fn next_request(&mut self, now: Ticks) -> Option<Request> {
        self.comparison
            .checkpoints
            .next(now, self.qemu.takes_commands() && !self.stopped)
    }
}
