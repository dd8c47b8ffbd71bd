//! Rules R7, R9 and R10, as far as they show from step to step.

use dpdk_colo::frame::Ticks;
use dpdk_colo::protect::{State, UNLUCKY};

use super::World;
use crate::nodes::TICK;
use crate::ports::PREEMPTED;
use crate::setup::{EVIDENCE, MS, REPEAT, SHARE_PAUSE, SLACK, TIMEOUT};

/// What a P or an input frame may wait before a checkpoint is wanted.
const LIMIT: Ticks = TIMEOUT + MS + 2 * TICK + 400;

/// What is remembered from step to step.
#[derive(Default)]
pub struct Judge {
    /// Since when input waits.
    input_waits: Option<Ticks>,
    /// When the node was last seen to do something else than protect.
    unprotected: Ticks,
    /// When the PVM was not listened to last.
    deaf: Ticks,
    /// Since when a request could be written and was wanted.
    able_since: Option<Ticks>,
}

impl Judge {
    /// A request was written.
    pub fn asked(&mut self) {
        self.able_since = None;
    }

    /// Another node is the primary.
    pub fn another(&mut self) {
        self.able_since = None;
        self.input_waits = None;
    }
}

impl World {
    pub(super) fn check_rules(&mut self) {
        self.judge_memory();
        if !self.primary_runs {
            return;
        }
        if self.now < self.starved_until[0] {
            // It keeps no time while it does not run.
            self.judge.unprotected = self.now;
            self.judge.deaf = self.now;
            self.judge.another();
            return;
        }
        if !self.primary.is_protecting() {
            self.judge.unprotected = self.now;
        }
        self.judge_output();
        if !self.primary.speaks().wants_output() {
            // Until the monitor's events have ended the checkpoint, the PVM's ring is not polled.
            self.judge.deaf = self.now;
        }
        self.judge_mirror();
        self.judge_input();
        self.judge_requests();
    }

    /// What a thread that does not run for a while adds to every time.
    fn lag(&self) -> Ticks {
        match self.profile.preempt {
            0 => 0,
            _ => 4 * PREEMPTED,
        }
    }

    /// R10: every frame has one owner.
    fn judge_memory(&self) {
        let zombie = self.zombie.as_ref().map_or(0, |z| z.node.frames());
        let inside = self.primary.frames() + self.secondary.frames() + zombie;
        assert_eq!(
            self.owners.get(),
            inside,
            "R10: frames that nobody owns or that are counted twice"
        );
    }

    /// R9: what is held is released or leads to a request.
    fn judge_output(&self) {
        let now = self.now;
        let state = self.primary.speaks().state();
        let wanted = self.primary.speaks().comparison().checkpoints().is_wanted();
        if self.primary.is_protecting()
            && let Some(taken) = self.oracle.oldest()
        {
            // What is free to leave and waits for the uplink is no longer the protection's matter.
            let leaving = self
                .primary
                .queues
                .uplink_blocked_until
                .max(self.judge.unprotected + MS);
            let taken = taken.max(leaving).min(now);
            assert!(
                wanted || now - taken <= LIMIT + self.lag(),
                "R9: a frame taken at {taken} is held at {now} and no checkpoint is wanted, {state:?}"
            );
        }
    }

    /// R7: what the SVM missed leads to a checkpoint.
    fn judge_mirror(&mut self) {
        let now = self.now;
        let state = self.primary.speaks().state();
        let wanted = self.primary.speaks().comparison().checkpoints().is_wanted();
        let lag = self.lag();
        let missed = &mut self.oracle.missed;
        while let Some((at, period, again)) = missed.front().copied() {
            let dead = self.to_primary.dead_until.max(self.to_secondary.dead_until);
            let [p, s] = [&self.primary.queues, &self.secondary.queues];
            let dead = [p, s]
                .map(|queues| queues.link_blocked_until.max(queues.short_until))
                .into_iter()
                .fold(dead.max(self.starved_until[1]), Ticks::max);
            let backend = if self.qemu.backend { 0 } else { now };
            let noticed = at.max(dead).max(self.judge.unprotected).max(backend);
            let noticed = noticed.max(self.judge.deaf);
            if now < noticed + lag + 4 * SLACK + 2 * self.profile.link as Ticks
                && period == self.oracle.stops
            {
                break;
            }
            assert!(
                self.profile.confused
                    || (again && self.profile.disturbs_the_secondary())
                    || period != self.oracle.stops
                    || wanted
                    || self.oracle.alone
                    || state == State::PeerLost,
                "R7: the SVM missed input at {at} and no checkpoint is wanted at {now}"
            );
            missed.pop_front();
        }
    }

    /// R9: input that waits leads to a checkpoint.
    fn judge_input(&mut self) {
        let now = self.now;
        let wanted = self.primary.speaks().comparison().checkpoints().is_wanted();
        let waits = (!self.uplink.is_empty() || self.primary.waiting_input() > 0)
            && self.qemu.pvm.takes_input()
            && self.primary.is_protecting()
            && !wanted;
        let since = self.judge.input_waits.filter(|_| waits).unwrap_or(now);
        self.judge.input_waits = waits.then_some(since);
        assert!(
            now - since <= 2 * LIMIT + self.lag(),
            "R9: input waits since {since} and no checkpoint is wanted at {now}"
        );
    }

    /// R9: a checkpoint that is wanted is asked for.
    fn judge_requests(&mut self) {
        let now = self.now;
        let wanted = self.primary.speaks().comparison().checkpoints().is_wanted();
        // After some stops without proof requests come more and more seldom.
        let unproven = self
            .primary
            .speaks()
            .comparison()
            .checkpoints()
            .unproven_count();
        let pause = match unproven.checked_sub(UNLUCKY) {
            Some(doublings) => REPEAT << doublings.min(6),
            None => 0,
        };
        let pause = match self.profile.share {
            100 => pause,
            _ => pause + SHARE_PAUSE,
        };
        let able = wanted && self.qemu.primary.up && self.qemu.colo && self.primary.is_protecting();
        let since = self.judge.able_since.filter(|_| able).unwrap_or(now);
        self.judge.able_since = able.then_some(since);
        assert!(
            now - since
                <= self.lag()
                    + pause
                    + REPEAT
                    + EVIDENCE
                    + 8 * MS
                    + 2 * self.qemu.primary.delay as Ticks,
            "R9: a checkpoint is wanted since {since} and not asked for at {now}"
        );
    }
}
