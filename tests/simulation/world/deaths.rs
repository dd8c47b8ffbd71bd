//! Who dies in which phase of a checkpoint, who decides that a side goes on, and the new secondary
//! that comes then.

use dpdk_colo::frame::Ticks;
use dpdk_colo::link::secure::Role;
use dpdk_colo::pair::ToPoll;
use dpdk_colo::protect::Action;

use super::World;
use crate::nodes::Node;
use crate::profile::Fault;
use crate::qemu::Step;
use crate::setup::{MS, setup};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Primary,
    Secondary,
}

/// Deaths to come and what follows from them.
#[derive(Default)]
pub struct Deaths {
    /// Who dies in which phase, or at a time.
    pub kill: Option<(Fault, Step, Ticks)>,
    /// When somebody decides that a side goes on.
    pub decide: Option<(Ticks, Side)>,
    /// Fencing commands under way: when they end, who runs them, the number.
    fences: Vec<(Ticks, Side, u32)>,
    /// When there is a new secondary, and when COLO begins again.
    renew: Option<Ticks>,
    pub enter: Option<Ticks>,
    /// The VMs were equal at least once.
    pub equal_once: bool,
}

impl World {
    /// What a node wants done.
    pub(super) fn act(&mut self, side: Side, action: Action) {
        if side == Side::Secondary && self.ending.is_renounced() {
            return;
        }
        match action {
            Action::Fence(number) => {
                let at = self.now + self.rng.between(100, 4_000) as Ticks;
                self.story.push(format!("{:>7} {side:?} fences", self.now));
                self.outcome.fences += 1;
                self.deaths.fences.push((at, side, number));
            }
            Action::Succeed => self.succeed(),
            // A QEMU that is not in COLO any more refuses it.
            Action::FailOver if side == Side::Primary && !self.qemu.colo => {}
            Action::FailOver => self.deaths.decide = Some((self.now, side)),
        }
    }

    /// Deaths, and what others make of them.
    pub(super) fn disasters(&mut self) {
        let now = self.now;
        self.deaths.equal_once |= self.primary.is_protecting();
        if let Some((fault, phase, at)) = self.deaths.kill
            && (self.qemu.step == phase || now >= at)
        {
            self.deaths.kill = None;
            let in_phase = Step::PHASES.contains(&self.qemu.step) && self.deaths.enter.is_none();
            if in_phase
                && !self.qemu.fails
                && self.qemu.colo
                && self.deaths.equal_once
                && self.secondary_runs
                && self.primary_runs
            {
                self.die(fault);
            }
        }
        for (at, side, number) in std::mem::take(&mut self.deaths.fences) {
            if at > now {
                self.deaths.fences.push((at, side, number));
            } else if !self.rng.one_in(3) {
                self.fenced(side, number, true);
            } else {
                self.fenced(side, number, false);
            }
        }
        if let Some((at, side)) = self.deaths.decide
            && now >= at
        {
            match side {
                Side::Secondary => self.qemu.take_over(now),
                Side::Primary => self.qemu.fail_over(now),
            }
            if matches!(self.qemu.step, Step::TakeOver | Step::FailOver) {
                self.deaths.decide = None;
            }
        }
        if self.qemu.step == Step::Over && self.deaths.renew.is_none() && self.may_renew() {
            self.outcome.survivals += u64::from(self.oracle.alone);
            self.deaths.renew = Some(now + self.rng.between(2, 30) as Ticks * MS);
        }
        if self.deaths.renew.is_some_and(|at| now >= at) {
            self.deaths.renew = None;
            self.zombie = None;
            self.to_secondary.loses_leads = 0;
            let setup = setup(self.boot, self.profile.failover);
            let mut station = self.to_primary.from.borrow_mut();
            station.replace(Role::Secondary, self.boot);
            drop(station);
            self.boot += 1;
            self.secondary = Node::secondary(setup, self.owners.clone(), now);
            self.secondary_runs = true;
            self.qemu.renew_secondary(now);
            self.ending = Default::default();
            self.deaths.enter = Some(now + self.rng.between(2, 20) as Ticks * MS);
        }
        // Without a link a new secondary would not learn what the survivor knows from before.
        let linked = now > 5 * MS + self.to_primary.dead_until.max(self.to_secondary.dead_until);
        if linked && self.deaths.enter.is_some_and(|at| now >= at) {
            self.deaths.enter = None;
            self.deaths.equal_once = false;
            self.oracle.begin_again();
            self.qemu.enter(now);
        }
    }

    fn may_renew(&self) -> bool {
        let deadly = [
            Fault::KillPrimary,
            Fault::KillSecondary,
            Fault::Split,
            Fault::Usurp,
            Fault::Switchover,
            Fault::Unprotect,
        ];
        self.deaths.enter.is_none()
            && (self.profile.failover.auto
                || self
                    .profile
                    .faults
                    .iter()
                    .any(|fault| deadly.contains(fault)))
    }

    fn fenced(&mut self, side: Side, number: u32, down: bool) {
        let now = self.now;
        let runs = match side {
            Side::Primary => self.primary_runs,
            Side::Secondary => self.secondary_runs,
        };
        if !runs {
            return;
        }
        // What takes the only VM that is left away ends no case: that command fails.
        let down = down && self.qemu.colo && Step::PHASES.contains(&self.qemu.step);
        if down {
            self.story.push(format!("{now:>7} {side:?} has fenced"));
            match side {
                Side::Primary if self.secondary_runs => self.kill_secondary(true),
                Side::Secondary if self.primary_runs => self.kill_primary(true),
                _ => {}
            }
        }
        let node = match side {
            Side::Primary => &mut self.primary,
            Side::Secondary => &mut self.secondary,
        };
        node.tell(ToPoll::Fenced { number, down });
        self.oracle.alone |= down && side == Side::Primary;
    }

    fn die(&mut self, fault: Fault) {
        let now = self.now;
        self.story
            .push(format!("{now:>7} {fault:?} in {:?}", self.qemu.step));
        self.outcome.happened(fault);
        let after = now + self.rng.between(100, 20_000) as Ticks;
        let host = self.rng.one_in(2);
        match fault {
            Fault::KillPrimary => {
                self.kill_primary(host);
                self.deaths.decide = Some((after, Side::Secondary));
            }
            _ => {
                self.kill_secondary(host);
                self.deaths.decide = Some((after, Side::Primary));
            }
        }
    }

    fn kill_primary(&mut self, host: bool) {
        self.qemu.kill_primary(&mut self.oracle, self.now);
        if host {
            self.primary_runs = false;
            self.to_secondary.from.borrow_mut().runs = false;
            self.qemu.pvm.seen = self.qemu.pvm.stops;
        }
    }

    pub(super) fn kill_secondary(&mut self, host: bool) {
        self.qemu.kill_secondary(self.now);
        self.oracle.missed.clear();
        if host {
            self.secondary_runs = false;
            self.to_primary.from.borrow_mut().runs = false;
            self.qemu.svm.seen = self.qemu.svm.stops;
        }
    }
}
