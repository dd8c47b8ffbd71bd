//! How long the peer has been silent, as far as that says that it is dead (rule R6).
//!
//! In: when the peer was heard, when this node looked, and what the peer said of itself: that it lacks CPU, or that it
//! is about to restart. Out: whether the silence counts as a loss.
//!
//! Three kinds of silence do not count: time in which this node itself did not run, time in which the peer's control
//! thread reported that its poll core does not run, and a restart that the peer has announced. Each has a bound, so a
//! dead peer is lost in the end whatever was said before.

use crate::frame::Ticks;

/// The bounds, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// A peer that is silent for this long is lost.
    pub silence: Ticks,
    /// A node that runs looks at least this often; what a look is later than that, it did not run.
    pub gap: Ticks,
    /// Reports that the peer lacks CPU count until the peer has not been heard for this long.
    pub stall: Ticks,
    /// An announced restart may take this long.
    pub restart: Ticks,
}

/// The silence of one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence {
    limits: Limits,
    /// The latest time at which the peer is known to have lived, or this began.
    heard: Ticks,
    /// Silence counts from here, at `heard` or behind it.
    counts_from: Ticks,
    looked: Ticks,
    /// An announced restart ends here.
    restart_until: Option<Ticks>,
}

impl Silence {
    /// A peer that may be heard from now on.
    pub(crate) fn new(limits: Limits, now: Ticks) -> Self {
        Self {
            limits,
            heard: now,
            counts_from: now,
            looked: now,
            restart_until: None,
        }
    }

    /// The peer was alive at this time, which may be a while ago.
    #[inline]
    pub(crate) fn hear(&mut self, at: Ticks) {
        self.heard = self.heard.max(at);
        self.counts_from = self.counts_from.max(at);
    }

    /// This node runs. To be called at least once per gap, and before [`Silence::is_over`] once it has not run.
    #[inline]
    pub(crate) fn look(&mut self, now: Ticks) {
        let gap = now.saturating_sub(std::mem::replace(&mut self.looked, now));
        // The part that a node has by right counts: one that runs seldom still loses a dead peer.
        let excess = gap.saturating_sub(self.limits.gap);
        self.counts_from = self.counts_from.saturating_add(excess).min(now);
    }

    /// The peer's control thread has reported that its poll core does not run.
    pub(crate) fn excuse_stall(&mut self, now: Ticks) {
        if self.since_heard(now) < self.limits.stall {
            self.counts_from = now;
        }
    }

    /// The peer has announced that its node restarts.
    pub(crate) fn expect_restart(&mut self, now: Ticks) {
        self.restart_until = Some(now.saturating_add(self.limits.restart));
    }

    /// The restart is over, or the VM behind it is.
    pub(crate) fn end_restart(&mut self) {
        self.restart_until = None;
    }

    /// Whether a restart that the peer has announced is under way.
    pub(crate) fn is_restart_expected(&self, now: Ticks) -> bool {
        self.restart_until.is_some_and(|until| now < until)
    }

    /// Whether the peer is lost by its silence.
    #[inline]
    pub(crate) fn is_over(&self, now: Ticks) -> bool {
        let from = match self.restart_until {
            Some(until) => self
                .counts_from
                .max(until.saturating_sub(self.limits.silence)),
            None => self.counts_from,
        };
        now.saturating_sub(from) >= self.limits.silence
    }

    /// How long ago the peer was heard, or this began.
    #[inline]
    pub(crate) fn since_heard(&self, now: Ticks) -> Ticks {
        now.saturating_sub(self.heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        silence: 500,
        gap: 20,
        stall: 5_000,
        restart: 30_000,
    };

    /// A node that looks at each tick of time from `from` to before `to`.
    fn look(silence: &mut Silence, from: Ticks, to: Ticks) {
        (from..to).for_each(|now| silence.look(now));
    }

    #[test]
    fn a_dead_peer_is_lost_in_the_configured_time() {
        let mut silence = Silence::new(LIMITS, 0);
        look(&mut silence, 0, 100);
        silence.hear(100);
        look(&mut silence, 100, 600);
        assert!(!silence.is_over(599));
        assert!(silence.is_over(600));
    }

    #[test]
    fn time_in_which_this_node_did_not_run_does_not_count() {
        let mut silence = Silence::new(LIMITS, 0);
        look(&mut silence, 0, 100);
        silence.look(3_100);
        assert!(!silence.is_over(3_100));
        assert_eq!(silence.since_heard(3_100), 3_100);
        look(&mut silence, 3_101, 3_480);
        assert!(
            !silence.is_over(3_479),
            "99 before the gap, 20 of the gap, and 379 behind it"
        );
        assert!(silence.is_over(3_481));
    }

    #[test]
    fn a_node_that_runs_seldom_still_loses_a_dead_peer() {
        let mut silence = Silence::new(LIMITS, 0);
        let lost = (1..).map(|n| n * 40).find(|&now| {
            silence.look(now);
            silence.is_over(now)
        });
        assert_eq!(lost, Some(1_000), "half of its time counts");
    }

    #[test]
    fn a_peer_that_was_heard_behind_the_gap_starts_anew() {
        let mut silence = Silence::new(LIMITS, 0);
        silence.hear(3_000);
        silence.look(3_000);
        assert!(!silence.is_over(3_499) && silence.is_over(3_500));
    }

    #[test]
    fn a_stalled_peer_is_waited_for_up_to_the_bound_and_no_longer() {
        let mut silence = Silence::new(LIMITS, 0);
        for now in 1..5_000 {
            silence.look(now);
            silence.excuse_stall(now);
            assert!(!silence.is_over(now));
        }
        for now in 5_000..5_499 {
            silence.look(now);
            silence.excuse_stall(now);
            assert!(!silence.is_over(now), "{now}");
        }
        silence.look(5_499);
        silence.excuse_stall(5_499);
        assert!(
            silence.is_over(5_499),
            "a thread that only reports is no node"
        );
    }

    #[test]
    fn a_peer_that_runs_again_and_dies_is_lost_in_the_configured_time() {
        let mut silence = Silence::new(LIMITS, 0);
        look(&mut silence, 0, 1_000);
        silence.excuse_stall(400);
        look(&mut silence, 400, 450);
        silence.hear(450);
        look(&mut silence, 450, 950);
        assert!(silence.is_over(950));
    }

    #[test]
    fn an_announced_restart_ends_at_its_bound_or_with_the_vm() {
        let mut silence = Silence::new(LIMITS, 0);
        silence.expect_restart(100);
        look(&mut silence, 0, 30_100);
        assert!(!silence.is_over(30_099) && silence.is_restart_expected(30_099));
        assert!(silence.is_over(30_100));

        let mut silence = Silence::new(LIMITS, 0);
        silence.expect_restart(100);
        look(&mut silence, 0, 10_000);
        silence.end_restart();
        assert!(silence.is_over(10_000), "its VM is gone");
    }

    #[test]
    fn a_restart_that_is_over_leaves_nothing_behind() {
        let mut silence = Silence::new(LIMITS, 0);
        silence.expect_restart(0);
        look(&mut silence, 0, 100);
        silence.hear(100);
        silence.end_restart();
        look(&mut silence, 100, 600);
        assert!(silence.is_over(600));
    }
}
