//! The poll loop: it polls the pairs of this core in rounds.
//!
//! It does not allocate, lock, log or make a system call, except for the sleep of `--idle-sleep` after a run of rounds
//! without work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::clock::Clock;
use super::compare::CompareNode;
use super::guest::GuestNode;
use super::round_timer::RoundTimer;
use crate::frame::Ticks;
use crate::observability::counters::Writer;
use crate::observability::latency::Recorder;

/// Period of the work that depends on time alone.
const TICK: Duration = Duration::from_micros(50);

/// One pair, by role.
pub(crate) enum Pair {
    /// A node with a VM.
    Guest(Box<GuestNode>),
    /// The standalone comparator.
    Compare(Box<CompareNode>),
}

impl Pair {
    fn poll(&mut self, now: Ticks) -> bool {
        match self {
            Pair::Guest(pair) => pair.poll(now),
            Pair::Compare(pair) => pair.poll(now),
        }
    }

    fn tick(&mut self, now: Ticks) {
        match self {
            Pair::Guest(pair) => pair.tick(now),
            Pair::Compare(pair) => pair.tick(now),
        }
    }

    fn publish(&mut self, timer: &RoundTimer) {
        match self {
            Pair::Guest(pair) => pair.publish(),
            Pair::Compare(pair) => pair.publish(),
        }
        timer.publish(self.writer());
    }

    fn finish(&mut self) {
        match self {
            Pair::Guest(pair) => pair.finish(),
            Pair::Compare(pair) => pair.finish(),
        }
    }

    fn into_recorder(self) -> Recorder {
        match self {
            Pair::Guest(pair) => pair.into_recorder(),
            Pair::Compare(pair) => pair.into_recorder(),
        }
    }

    fn writer(&self) -> &Writer {
        match self {
            Pair::Guest(pair) => pair.writer(),
            Pair::Compare(pair) => pair.writer(),
        }
    }
}

/// Makes a pair. It runs on the core that will poll the pair, because pollers cannot move between threads.
pub(crate) type Builder = Box<dyn FnOnce() -> Pair + Send>;

/// A poll core before it starts.
pub(crate) struct PollCore {
    /// Builders of the pairs, with the pairs' numbers in the settings.
    pub pairs: Vec<(usize, Builder)>,
    /// The TSC's rate.
    pub clock: Clock,
    /// How long to sleep after a run of rounds without work.
    pub idle_sleep: Option<Duration>,
}

impl PollCore {
    /// Polls until `stop` is set. Returns the pairs' histograms. Before the end it sends the frames that are released;
    /// frames still held do not leave.
    pub(crate) fn run(self, stop: &AtomicBool) -> Vec<(usize, Recorder)> {
        let (numbers, mut pairs): (Vec<usize>, Vec<Pair>) = self
            .pairs
            .into_iter()
            .map(|(number, build)| (number, build()))
            .unzip();
        let mut timer = RoundTimer::new(self.clock, self.idle_sleep);
        let tick = self.clock.ticks(TICK);
        let mut last_tick = timer.now();
        while !stop.load(Ordering::Relaxed) {
            let now = timer.now();
            let mut busy = false;
            for pair in &mut pairs {
                busy |= pair.poll(now);
            }
            if now.wrapping_sub(last_tick) >= tick {
                last_tick = now;
                pairs.iter_mut().for_each(|pair| pair.tick(now));
            }
            if timer.end_round(busy) {
                pairs.iter_mut().for_each(|pair| pair.publish(&timer));
            }
        }
        for pair in &mut pairs {
            pair.finish();
            pair.publish(&timer);
        }
        let recorders = pairs.into_iter().map(Pair::into_recorder);
        numbers.into_iter().zip(recorders).collect()
    }
}
