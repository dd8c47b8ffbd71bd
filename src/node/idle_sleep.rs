//! How long a core without work sleeps between two rounds.
//!
//! In: the length of each round, and whether it found work. Out: how long to sleep behind it. A core that has long been
//! idle sleeps for `--idle-sleep`, and one that has been idle for a moment sleeps for a [`SHARE`] of that moment. So what
//! comes behind a pause is delayed by at most a quarter of the pause, and never by more than `--idle-sleep`. Each round
//! with work halves the time that counts as idle, so a core under load does not sleep, and a heartbeat alone does not
//! keep it awake.

use crate::frame::Ticks;

/// A core sleeps for this part of the time for which it was idle.
const SHARE: Ticks = 4;
/// Empty rounds in a row before a core sleeps: what a frame sets off at other ports is often a few rounds away.
const ROUNDS_BEHIND_WORK: u32 = 64;
/// The same behind a sleep.
const ROUNDS_BEHIND_SLEEP: u32 = 4;

/// The sleeps of one core.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdleSleep {
    shortest: Ticks,
    longest: Ticks,
    /// For how long the core has been idle. It stops growing where the sleep has twice its longest length, so that one
    /// round with work leaves that length.
    idle: Ticks,
    /// Empty rounds to come before the next sleep.
    rounds: u32,
}

impl IdleSleep {
    /// No sleep is shorter than the first time, which is more than 0, or longer than the second one.
    pub(crate) fn new(shortest: Ticks, longest: Ticks) -> Self {
        debug_assert!(shortest > 0, "a sleep of no length is none");
        Self {
            shortest: shortest.min(longest),
            longest,
            idle: 0,
            rounds: ROUNDS_BEHIND_WORK,
        }
    }

    /// A round has ended, `took` behind the end of the one before. Returns how long to sleep now.
    #[inline]
    pub(crate) fn end_round(&mut self, took: Ticks, busy: bool) -> Option<Ticks> {
        if busy {
            self.idle /= 2;
            self.rounds = ROUNDS_BEHIND_WORK;
            return None;
        }
        self.idle = (self.idle + took).min(2 * SHARE * self.longest);
        self.rounds = self.rounds.saturating_sub(1);
        if self.rounds > 0 {
            return None;
        }
        let sleep = (self.idle / SHARE).min(self.longest);
        if sleep < self.shortest {
            return None;
        }
        self.rounds = ROUNDS_BEHIND_SLEEP;
        Some(sleep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORTEST: Ticks = 1_000;
    const LONGEST: Ticks = 100_000;
    /// How long an empty round takes.
    const ROUND: Ticks = 100;

    /// A core that has nothing to do for this time. Returns when its last sleep ends, and all sleeps.
    fn rest(core: &mut IdleSleep, time: Ticks) -> (Ticks, Vec<Ticks>) {
        let (mut now, mut took, mut sleeps) = (0, ROUND, Vec::new());
        while now < time {
            let sleep = core.end_round(took, false);
            sleeps.extend(sleep);
            took = ROUND + sleep.unwrap_or(0);
            now += took;
        }
        (now, sleeps)
    }

    fn rested() -> IdleSleep {
        let mut core = IdleSleep::new(SHORTEST, LONGEST);
        rest(&mut core, 100 * LONGEST);
        core
    }

    #[test]
    fn what_comes_behind_a_pause_is_delayed_by_a_quarter_of_it_at_most() {
        for pause in (0..40).map(|n| 1_000 << (n / 4)).chain([17_777_777]) {
            let mut core = IdleSleep::new(SHORTEST, LONGEST);
            let (end, _) = rest(&mut core, pause);
            let late = end - pause;
            assert!(late <= pause / SHARE + 2 * ROUND, "{late} behind {pause}");
            assert!(late <= LONGEST + ROUND);
        }
    }

    #[test]
    fn a_core_that_has_long_been_idle_sleeps_nearly_all_the_time() {
        let mut core = rested();
        let (end, sleeps) = rest(&mut core, 1_000 * LONGEST);
        assert!(sleeps.iter().all(|sleep| *sleep == LONGEST));
        let asleep: Ticks = sleeps.iter().sum();
        assert!(asleep * 100 > end * 99, "{asleep} of {end}");
    }

    #[test]
    fn a_heartbeat_does_not_keep_a_core_awake_and_load_does() {
        let mut core = rested();
        assert_eq!(core.end_round(ROUND, true), None);
        let (_, sleeps) = rest(&mut core, LONGEST);
        assert_eq!(sleeps.first(), Some(&LONGEST));
        for _ in 0..20 {
            assert_eq!(core.end_round(ROUND, true), None);
        }
        let (_, sleeps) = rest(&mut core, SHORTEST * SHARE / 2);
        assert!(sleeps.is_empty(), "{sleeps:?}");
    }

    #[test]
    fn a_core_polls_for_a_while_behind_its_work() {
        let mut core = rested();
        core.end_round(ROUND, true);
        for _ in 1..ROUNDS_BEHIND_WORK {
            assert_eq!(core.end_round(ROUND, false), None);
        }
        assert!(core.end_round(ROUND, false).is_some());
    }

    #[test]
    fn a_longest_sleep_below_the_shortest_is_kept() {
        let mut core = IdleSleep::new(SHORTEST, SHORTEST / 2);
        let (_, sleeps) = rest(&mut core, 100 * SHORTEST);
        assert!(sleeps.iter().all(|sleep| *sleep == SHORTEST / 2));
        assert!(!sleeps.is_empty());
    }
}
