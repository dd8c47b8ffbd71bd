//! What goes wrong at a time, and what ends it.

use dpdk_colo::frame::Ticks;

use super::World;
use super::deaths::Side;
use crate::nodes::Node;
use crate::profile::Fault;
use crate::qemu::Step;
use crate::setup::{MS, TIMING, setup};

impl World {
    fn later(&mut self, fault: Fault, most: Ticks) {
        let at = self.now + 100 + self.rng.below(most as usize) as Ticks;
        self.ends.push((at, fault));
    }

    pub(super) fn begin(&mut self, fault: Fault) {
        let now = self.now;
        // In the midst of a takeover these cost offsets (docs/failure-model.md, "What is not promised").
        let costly = matches!(
            fault,
            Fault::RestartPrimary | Fault::RestartSecondary | Fault::CutSecondaryMonitor
        );
        if costly && self.has_moved() {
            return;
        }
        self.story.push(format!("{now:>7} {fault:?}"));
        let stops = self.qemu.ring_stops();
        let up = [self.qemu.primary.up, self.qemu.secondary.up];
        let colo = self.qemu.colo;
        match fault {
            Fault::LossyLink => {
                let one_in = [3, 10, 100][self.rng.below(3)];
                self.to_secondary.loss = one_in;
                self.to_primary.loss = one_in;
                self.later(fault, 30 * MS);
            }
            Fault::DeadLink => {
                let until = now + self.rng.between(1, 40) as Ticks * MS;
                for channel in [&mut self.to_secondary, &mut self.to_primary] {
                    if !self.rng.one_in(4) {
                        channel.dead_until = until;
                    }
                }
            }
            Fault::CutMonitor => {
                self.qemu.disconnect(now);
                self.later(fault, 10 * MS);
            }
            Fault::CutSecondaryMonitor => {
                self.qemu.disconnect_secondary(now);
                self.later(fault, 10 * MS);
            }
            Fault::SlowMonitor => {
                self.qemu.primary.delay = 20 * MS as usize;
                self.later(fault, 30 * MS);
            }
            Fault::ResetDriver => {
                let which = self.rng.below(3);
                self.qemu.reset_driver(which, now);
            }
            Fault::OperatorStop => {
                self.qemu.operator_stops(now);
                self.later(fault, 5 * MS);
            }
            Fault::OperatorStopSecondary => {
                self.qemu.operator_stops_secondary(now);
                self.later(fault, 5 * MS);
            }
            Fault::ContInside | Fault::ContInsideSecondary => {
                let primary = fault == Fault::ContInside;
                let inside = match primary {
                    true => [Step::Move, Step::Load, Step::Resume],
                    false => [Step::StopPrimary, Step::Move, Step::Load],
                };
                self.qemu.cont = Some((primary, inside[self.rng.below(inside.len())]));
                self.qemu.latched |= self.qemu.colo;
            }
            Fault::OperatorBlink => self.qemu.operator_blinks(now),
            Fault::RestartPrimary => {
                self.qemu.lose_primary_backend(now);
                self.oracle.forget_held();
                let setup = setup(self.boot, self.profile.failover);
                self.to_secondary.from.borrow_mut().restart(self.boot);
                self.boot += 1;
                self.primary = Node::primary(setup, self.owners.clone(), now);
                self.primary_reads_file();
                self.primary_forgets_order();
                self.capture.start();
                self.later(fault, 5 * MS);
                self.later(Fault::CutMonitor, 8 * MS);
            }
            Fault::RestartSecondary => {
                self.qemu.lose_backend(now);
                let setup = setup(self.boot, self.profile.failover);
                self.to_primary.from.borrow_mut().restart(self.boot);
                self.boot += 1;
                self.secondary = Node::secondary(setup, self.owners.clone(), now);
                self.secondary_reads_file();
                self.later(fault, 10 * MS);
            }
            Fault::Starve => {
                // Several times the silence after which a peer is lost.
                let until = now + self.rng.between(20, 100) as Ticks * MS;
                self.starved_until[self.rng.below(2)] = until;
            }
            Fault::StallSecondary => {
                self.qemu.svm.stalls_until = now + self.rng.between(5, 60) as Ticks * MS;
            }
            Fault::StallPrimary => {
                self.qemu.pvm.stalls_until = now + self.rng.between(1, 30) as Ticks * MS;
            }
            Fault::BlockUplink => {
                let until = now + self.rng.between(1, 20) as Ticks * MS;
                self.primary.queues.uplink_blocked_until = until;
            }
            Fault::BlockLink => {
                let until = now + self.rng.between(1, 10) as Ticks * MS;
                let nodes = [&mut self.primary, &mut self.secondary];
                nodes[self.rng.below(2)].queues.link_blocked_until = until;
            }
            Fault::NoHeaders => {
                let until = now + self.rng.between(1, 5) as Ticks * MS;
                let nodes = [&mut self.primary, &mut self.secondary];
                nodes[self.rng.below(2)].queues.short_until = until;
            }
            Fault::Checkpoint => self.qemu.latched |= self.qemu.colo,
            Fault::TwoCheckpoints => {
                self.qemu.latched |= self.qemu.colo;
                self.later(fault, 4 * MS);
            }
            Fault::FailOver => self.qemu.fail_over(now),
            Fault::KillPrimary | Fault::KillSecondary => {
                let phase = Step::PHASES[self.rng.below(Step::PHASES.len())];
                self.qemu.latched |= self.qemu.colo && phase != Step::Idle;
                self.deaths
                    .kill
                    .get_or_insert((fault, phase, now + 10 * MS));
            }
            Fault::Partition | Fault::Split => {
                let until = now + self.rng.between(20, 120) as Ticks * MS;
                self.to_secondary.dead_until = until;
                self.to_primary.dead_until = until;
                if fault == Fault::Split && self.qemu.colo && self.deaths.equal_once {
                    self.later(fault, 10 * MS);
                }
            }
            Fault::Usurp => self.usurp(),
            Fault::Switchover => self.begin_switchover(),
            Fault::Unprotect => self.begin_unprotection(),
            Fault::FailedCheckpoint => {
                self.qemu.fails = true;
                self.qemu.latched |= self.qemu.colo;
            }
        }
        let happened = match fault {
            Fault::CutMonitor => up[0],
            Fault::CutSecondaryMonitor => up[1],
            Fault::ResetDriver
            | Fault::OperatorStop
            | Fault::OperatorStopSecondary
            | Fault::OperatorBlink => self.qemu.ring_stops() != stops,
            Fault::Checkpoint | Fault::TwoCheckpoints | Fault::FailedCheckpoint => colo,
            Fault::Partition => colo,
            Fault::FailOver => self.qemu.step == Step::FailOver,
            // Counted where they come true.
            Fault::ContInside
            | Fault::ContInsideSecondary
            | Fault::KillPrimary
            | Fault::KillSecondary
            | Fault::Split
            | Fault::Usurp
            | Fault::Switchover
            | Fault::Unprotect => false,
            _ => true,
        };
        if happened {
            self.outcome.happened(fault);
        }
    }

    /// Where it can be; the PVM lags behind the SVM then, so that some of what the SVM has sent is still to come of it.
    fn usurp(&mut self) {
        let now = self.now;
        let can = self.deaths.equal_once && self.primary_runs && self.secondary_runs;
        if can && self.qemu.usurp(now) {
            self.outcome.happened(Fault::Usurp);
            self.qemu.pvm.stalls_until = now + self.rng.between(0, 4) as Ticks * MS;
            self.to_primary.loses_leads = self.rng.between(1, 12) as u32;
            self.deaths.decide = Some((now, Side::Secondary));
        }
    }

    pub(super) fn end_faults(&mut self) {
        let now = self.now;
        for (at, fault) in std::mem::take(&mut self.ends) {
            if at > now {
                self.ends.push((at, fault));
                continue;
            }
            match fault {
                Fault::LossyLink => {
                    self.to_secondary.loss = 0;
                    self.to_primary.loss = 0;
                }
                Fault::CutMonitor if !self.qemu.primary.up => {
                    self.qemu.connect(now);
                }
                Fault::CutSecondaryMonitor if !self.qemu.secondary.up => {
                    self.qemu.connect_secondary(now);
                }
                Fault::SlowMonitor => self.qemu.primary.delay = self.profile.monitor,
                Fault::OperatorStop => self.qemu.operator_continues(now),
                Fault::OperatorStopSecondary => {
                    self.qemu.operator_continues_secondary(now);
                }
                Fault::RestartPrimary => self.qemu.primary_backend = true,
                Fault::RestartSecondary => {
                    self.qemu.backend = true;
                    self.qemu.connect_secondary(now);
                }
                Fault::Split if self.qemu.split(now) => {
                    self.outcome.happened(fault);
                    self.deaths.decide = Some((now + TIMING.silence, Side::Secondary));
                }
                Fault::TwoCheckpoints => self.qemu.latched |= self.qemu.colo,
                _ => {}
            }
        }
        if self.qemu.is_idle()
            && self
                .ends
                .iter()
                .all(|(_, fault)| *fault != Fault::OperatorStop)
        {
            self.qemu.operator_continues(now);
            self.qemu.operator_continues_secondary(now);
        }
    }
}
