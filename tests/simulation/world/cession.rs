//! A planned move of the lead: the steps of the primary's control thread, nodes that are started again in between, and
//! an operator who decides where they lead nowhere.

use dpdk_colo::control::{Next, Switchover};
use dpdk_colo::frame::Ticks;
use dpdk_colo::pair::ToPoll;
use dpdk_colo::protect::CessionNews;

use super::World;
use super::deaths::Side;
use crate::profile::Fault;
use crate::qemu::Step;
use crate::setup::MS;

/// A move without a takeover after this is decided by an operator.
const PATIENCE: Ticks = 80 * MS;

/// What the primary's control thread knows, and its file.
#[derive(Default)]
pub struct Cession {
    switchover: Option<Switchover>,
    /// The file is there.
    pub written: bool,
    /// Since when nothing may leave.
    pub silent: Option<Ticks>,
}

impl Cession {
    /// No order is under way, and no lead is given up.
    pub fn is_idle(&self) -> bool {
        self.switchover.is_none() && !self.written
    }
}

impl World {
    /// The order, where the control threads would not refuse it.
    pub(super) fn begin_switchover(&mut self) {
        let able = self.cession.switchover.is_none()
            && !self.ending.is_under_way()
            && self.primary_runs
            && self.secondary_runs
            && self.zombie.is_none()
            && self.deaths.enter.is_none()
            && self.qemu.colo
            && !self.qemu.fails
            && self.secondary.follows().is_promotable();
        if able {
            let ms = self.now / MS;
            let mut switchover = Switchover::new(ms);
            switchover.answered(Ok(()), ms);
            self.cession.switchover = Some(switchover);
        }
    }

    pub(super) fn cession_news(&mut self, side: Side, news: CessionNews) {
        if side == Side::Secondary {
            return self.renunciation_news(news);
        }
        if news == CessionNews::Silent {
            self.cession.silent = Some(self.now);
        }
        let ms = self.now / MS;
        let switchover = self.cession.switchover.as_mut();
        let next = switchover.and_then(|it| it.news(news, ms));
        self.go_on_with_switchover(next);
    }

    pub(super) fn look_at_switchover(&mut self) {
        let (state, colo) = (self.primary.speaks().state(), self.qemu.colo);
        let ms = self.now / MS;
        let next = self
            .cession
            .switchover
            .as_mut()
            .and_then(|it| it.look(state, colo, ms));
        self.go_on_with_switchover(next);
        let ended = self
            .cession
            .switchover
            .as_mut()
            .and_then(Switchover::take_outcome);
        if ended.is_some() {
            self.cession.switchover = None;
        }
        self.decide_for_who_has_ceded();
    }

    fn go_on_with_switchover(&mut self, next: Option<Next>) {
        let Some(next) = next else {
            return;
        };
        self.story.push(format!("{:>7} {next:?}", self.now));
        match next {
            Next::Cede => self.primary.tell(ToPoll::Cede),
            Next::Write => {
                let written = match self.rng.one_in(8) {
                    true => Err("full".to_owned()),
                    false => Ok(()),
                };
                self.cession.written = written.is_ok();
                let ms = self.now / MS;
                let switchover = self.cession.switchover.as_mut();
                let next = switchover.and_then(|it| it.written(written, ms));
                self.go_on_with_switchover(next);
            }
            Next::Tell => {
                self.outcome.happened(Fault::Switchover);
                self.primary.tell(ToPoll::CessionIsWritten);
            }
            Next::TakeBack => {
                self.cession.silent = None;
                self.primary.tell(ToPoll::TakeBack);
            }
            Next::Quit => {}
        }
    }

    /// The node that comes in the primary's place reads the file.
    pub(super) fn primary_reads_file(&mut self) {
        self.cession.switchover = None;
        self.cession.silent = None;
        if self.cession.written {
            self.cession.silent = Some(self.now);
            self.cession.switchover = Some(Switchover::left(self.now / MS));
            self.primary.tell(ToPoll::CessionIsWritten);
        }
    }

    /// Ends the secondary's host, and takes the lead back, where the SVM does not go on.
    fn decide_for_who_has_ceded(&mut self) {
        let Some(since) = self.cession.silent.filter(|_| self.cession.written) else {
            return;
        };
        let undecided =
            self.qemu.step == Step::Idle && self.qemu.colo && self.deaths.decide.is_none();
        if self.now - since < PATIENCE || !undecided || !self.secondary_runs {
            return;
        }
        self.story.push(format!("{:>7} taken back", self.now));
        self.outcome.taken_back += 1;
        self.kill_secondary(true);
        self.cession = Cession::default();
        self.primary.tell(ToPoll::TakeBack);
        self.deaths.decide = Some((self.now, Side::Primary));
    }

    /// QEMU gets the failover command beside a primary that has ceded. Inside a checkpoint it comes to nothing, and the
    /// node gives it again.
    pub(super) fn succeed(&mut self) {
        assert!(
            self.cession.written && self.cession.silent.is_some(),
            "R6: the secondary goes on though the primary has not ceded for good"
        );
        if self.qemu.usurp(self.now) {
            self.deaths.decide = Some((self.now, Side::Secondary));
        }
    }

    /// Whether a restart would be one of a node in the midst of its takeover, or of one that has led since.
    pub(super) fn has_moved(&self) -> bool {
        self.outcome.takeovers + self.outcome.survivals + self.outcome.taken_back > 0
            || matches!(
                self.qemu.step,
                Step::Orphan | Step::TakeOver | Step::TakenOver
            )
    }
}
