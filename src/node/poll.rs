//! The poll loop: round after round over the pairs of this core.
//!
//! No allocation, lock, log line or system call happens here, except the sleep that
//! `--idle-sleep` asks for after a run of rounds that found nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::clock::Clock;
use super::compare::CompareNode;
use super::primary::PrimaryNode;
use super::secondary::SecondaryNode;
use crate::dpdk::tsc;
use crate::frame::Ticks;
use crate::monitor::counters::{Counter, Writer};
use crate::monitor::latency::Recorder;

/// Rounds without work before a core sleeps.
const IDLE_ROUNDS: u32 = 64;
/// Time between two looks at what depends on time alone.
const TICK: Duration = Duration::from_micros(50);
/// Time between two publications of the counters.
const PUBLISH: Duration = Duration::from_millis(1);

/// One pair, by role.
pub enum Pair {
    /// The PVM's node.
    Primary(Box<PrimaryNode>),
    /// The SVM's node.
    Secondary(Box<SecondaryNode>),
    /// The bare comparator.
    Compare(Box<CompareNode>),
}

impl Pair {
    fn poll(&mut self, now: Ticks) -> bool {
        match self {
            Pair::Primary(pair) => {
                let busy = pair.poll(now);
                pair.ask(now);
                busy
            }
            Pair::Secondary(pair) => pair.poll(now),
            Pair::Compare(pair) => {
                let busy = pair.poll(now);
                pair.ask(now);
                busy
            }
        }
    }

    fn tick(&mut self, now: Ticks) {
        match self {
            Pair::Primary(pair) => pair.tick(now),
            Pair::Secondary(pair) => pair.tick(now),
            Pair::Compare(pair) => pair.tick(now),
        }
    }

    fn publish(&mut self) {
        match self {
            Pair::Primary(pair) => pair.publish(),
            Pair::Secondary(pair) => pair.publish(),
            Pair::Compare(pair) => pair.publish(),
        }
    }

    fn finish(&mut self) {
        match self {
            Pair::Primary(pair) => pair.finish(),
            Pair::Secondary(_) => {}
            Pair::Compare(pair) => pair.finish(),
        }
    }

    fn into_recorder(self) -> Recorder {
        match self {
            Pair::Primary(pair) => pair.into_recorder(),
            Pair::Secondary(pair) => pair.into_recorder(),
            Pair::Compare(pair) => pair.into_recorder(),
        }
    }

    fn writer(&self) -> &Writer {
        match self {
            Pair::Primary(pair) => pair.writer(),
            Pair::Secondary(pair) => pair.writer(),
            Pair::Compare(pair) => pair.writer(),
        }
    }
}

/// Makes a pair on the core that will poll it: pollers never leave their thread.
pub type Builder = Box<dyn FnOnce() -> Pair + Send>;

/// The loop's own figures.
#[derive(Default)]
struct Rounds {
    polls: u64,
    busy_cycles: u64,
    idle_cycles: u64,
}

impl Rounds {
    fn publish(&self, writer: &Writer) {
        writer.set(Counter::Polls, self.polls);
        writer.set(Counter::BusyCycles, self.busy_cycles);
        writer.set(Counter::IdleCycles, self.idle_cycles);
    }
}

/// What one poll core is to do.
pub struct PollCore {
    /// The pairs, yet to be made on the core.
    pub pairs: Vec<Builder>,
    /// The TSC's rate.
    pub clock: Clock,
    /// How long to sleep after a run of rounds without work.
    pub idle_sleep: Option<Duration>,
}

impl PollCore {
    /// Polls until told to stop, and gives the pairs' histograms back. What was free to leave is
    /// sent before the end; frames still held stay held, and nothing that was not compared leaves.
    pub fn run(self, stop: &AtomicBool) -> Vec<Recorder> {
        let mut pairs: Vec<Pair> = self.pairs.into_iter().map(|build| build()).collect();
        let (tick, publish) = (self.clock.ticks(TICK), self.clock.ticks(PUBLISH));
        let (mut last_tick, mut last_publish) = (tsc::now(), tsc::now());
        let mut rounds = Rounds::default();
        let mut idle_rounds = 0u32;
        let mut now = tsc::now();
        while !stop.load(Ordering::Relaxed) {
            let mut busy = false;
            for pair in &mut pairs {
                busy |= pair.poll(now);
            }
            if now.wrapping_sub(last_tick) >= tick {
                last_tick = now;
                pairs.iter_mut().for_each(|pair| pair.tick(now));
            }
            rounds.polls += 1;
            idle_rounds = if busy { 0 } else { idle_rounds + 1 };
            if idle_rounds >= IDLE_ROUNDS
                && let Some(sleep) = self.idle_sleep
            {
                idle_rounds = 0;
                thread::sleep(sleep);
            }
            let then = now;
            now = tsc::now();
            *(if busy {
                &mut rounds.busy_cycles
            } else {
                &mut rounds.idle_cycles
            }) += now.wrapping_sub(then);
            if now.wrapping_sub(last_publish) >= publish {
                last_publish = now;
                for pair in &mut pairs {
                    pair.publish();
                    rounds.publish(pair.writer());
                }
            }
        }
        for pair in &mut pairs {
            pair.finish();
            pair.publish();
            rounds.publish(pair.writer());
        }
        pairs.into_iter().map(Pair::into_recorder).collect()
    }
}
