//! Times a core's rounds: when it sleeps, how many cycles were busy, when it publishes its counters.

use std::num::NonZeroU64;
use std::thread;
use std::time::Duration;

use rustix::thread::set_current_timer_slack;

use super::clock::Clock;
use super::idle_sleep::IdleSleep;
use crate::dpdk::tsc;
use crate::frame::Ticks;
use crate::observability::counters::{Counter, Writer};

/// A shorter sleep is not worth its system call.
const SHORTEST_SLEEP: Duration = Duration::from_micros(5);
/// A round that takes longer had no CPU for the rest: one over 28 pairs with full bursts takes a part of it.
const LONG_ROUND: Duration = Duration::from_millis(1);
/// Time between two publications of the counters.
const PUBLISH: Duration = Duration::from_millis(1);

/// The rounds of one core.
pub(crate) struct RoundTimer {
    idle_sleep: Option<IdleSleep>,
    publish: Ticks,
    now: Ticks,
    published: Ticks,
    /// What the round before took, its sleep included.
    took: Ticks,
    polls: u64,
    busy_cycles: u64,
    idle_cycles: u64,
    clock: Clock,
    long_round: Ticks,
    longest_round: Ticks,
    lost: Ticks,
}

impl RoundTimer {
    /// This core, which sleeps for `idle_sleep` at most when it has no work, or never.
    pub(crate) fn new(clock: Clock, idle_sleep: Option<Duration>) -> Self {
        if idle_sleep.is_some() {
            // The kernel's usual slack is 50 µs. If it stays, sleeps are only longer.
            let _ = set_current_timer_slack(NonZeroU64::new(1));
        }
        let now = tsc::now();
        Self {
            idle_sleep: idle_sleep
                .map(|longest| IdleSleep::new(clock.ticks(SHORTEST_SLEEP), clock.ticks(longest))),
            publish: clock.ticks(PUBLISH),
            now,
            published: now,
            took: 0,
            polls: 0,
            busy_cycles: 0,
            idle_cycles: 0,
            clock,
            long_round: clock.ticks(LONG_ROUND),
            longest_round: 0,
            lost: 0,
        }
    }

    /// The start of this round.
    pub(crate) fn now(&self) -> Ticks {
        self.now
    }

    /// Ends a round, and sleeps if that is due. Returns whether to publish the counters.
    pub(crate) fn end_round(&mut self, busy: bool) -> bool {
        self.polls += 1;
        let mut asleep = 0;
        if let Some(idle_sleep) = &mut self.idle_sleep
            && let Some(sleep) = idle_sleep.end_round(self.took, busy)
        {
            thread::sleep(Duration::from_nanos(self.clock.ns(sleep)));
            asleep = sleep;
        }
        let began = std::mem::replace(&mut self.now, tsc::now());
        let cycles = self.now.wrapping_sub(began);
        self.took = cycles;
        let awake = cycles.saturating_sub(asleep);
        self.longest_round = self.longest_round.max(awake);
        self.lost += awake.saturating_sub(self.long_round);
        if busy {
            self.busy_cycles += cycles;
        } else {
            self.idle_cycles += cycles;
        }
        let due = self.now.wrapping_sub(self.published) >= self.publish;
        if due {
            self.published = self.now;
        }
        due
    }

    /// Publishes the core's own counters.
    pub(crate) fn publish(&self, writer: &Writer) {
        writer.set(Counter::Polls, self.polls);
        writer.set(Counter::BusyCycles, self.busy_cycles);
        writer.set(Counter::IdleCycles, self.idle_cycles);
        writer.set(Counter::LongestRound, self.clock.ns(self.longest_round));
        writer.set(Counter::LostTime, self.clock.ns(self.lost));
    }
}
