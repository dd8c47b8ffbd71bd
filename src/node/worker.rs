//! A core that compares flows of pairs whose ports another core polls.
//!
//! It runs one worker for each such pair, in turn. The rules of the poll loop hold here too: no allocation, lock, log
//! line or system call, except for the sleep of `--idle-sleep`.

use std::time::Duration;

use super::clock::Clock;
use super::counts;
use super::round_timer::RoundTimer;
use crate::compare::{Limits, Numbers, Policy};
use crate::dpdk::Mbuf;
use crate::observability::counters::Writer;
use crate::spread::{Worker, WorkerEnd};

/// What a core needs to make its worker for one pair.
pub(crate) struct WorkerConfig {
    /// The rings to the core that polls the pair's ports.
    pub end: WorkerEnd<Mbuf>,
    /// The limits of the worker's comparator.
    pub limits: Limits,
    /// The numbering of the SVM's segments.
    pub numbers: Numbers,
    /// The pair's policy.
    pub policy: Policy,
    /// Publishes the worker's counters.
    pub writer: Writer,
}

/// A worker that runs.
struct RunningWorker {
    worker: Worker<Mbuf>,
    writer: Writer,
}

impl RunningWorker {
    fn new(config: WorkerConfig) -> Self {
        let WorkerConfig {
            end,
            limits,
            numbers,
            policy,
            writer,
        } = config;
        Self {
            worker: Worker::new(end, limits, numbers, policy),
            writer,
        }
    }

    fn publish(&self, timer: &RoundTimer) {
        counts::comparator(&self.writer, self.worker.comparator());
        timer.publish(&self.writer);
    }
}

/// A comparing core before it starts.
pub(crate) struct WorkerCore {
    /// Its workers, one for each pair. The core itself makes their comparators, so that their memory is local to it.
    pub workers: Vec<WorkerConfig>,
    /// The TSC's rate.
    pub clock: Clock,
    /// How long to sleep after a run of rounds without work.
    pub idle_sleep: Option<Duration>,
}

impl WorkerCore {
    /// Compares until all cores that it compares for have ended. Then it frees the frames that it still holds.
    pub(crate) fn run(self) {
        let workers = self.workers.into_iter();
        let mut workers: Vec<RunningWorker> = workers.map(RunningWorker::new).collect();
        let mut timer = RoundTimer::new(self.clock, self.idle_sleep);
        while !workers.iter().all(|running| running.worker.is_over()) {
            let mut busy = false;
            for running in &mut workers {
                busy |= running.worker.poll();
            }
            if timer.end_round(busy) {
                workers.iter().for_each(|running| running.publish(&timer));
            }
        }
        workers.iter().for_each(|running| running.publish(&timer));
    }
}
