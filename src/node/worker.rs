//! A core that compares for pairs whose ports another core polls.
//!
//! It serves one share of every such pair in turn. Under the same rules as the poll loop: no
//! allocation, lock, log line or system call, but for the sleep of `--idle-sleep`.

use std::time::Duration;

use super::clock::Clock;
use super::counts;
use super::pace::Pace;
use crate::compare::{Limits, Numbers, Policy};
use crate::dpdk::Mbuf;
use crate::monitor::counters::Writer;
use crate::spread::{Worker, WorkerEnd};

/// One pair's share, before the core has taken it.
pub struct Seat {
    /// The rings to the core that polls the pair's ports.
    pub end: WorkerEnd<Mbuf>,
    /// The share's bounds.
    pub limits: Limits,
    /// How the SVM's numbers come.
    pub numbers: Numbers,
    /// The pair's policy.
    pub policy: Policy,
    /// Where the share's counters go.
    pub writer: Writer,
}

/// A share in work.
struct Share {
    worker: Worker<Mbuf>,
    writer: Writer,
}

impl Share {
    fn new(seat: Seat) -> Self {
        let Seat {
            end,
            limits,
            numbers,
            policy,
            writer,
        } = seat;
        Self {
            worker: Worker::new(end, limits, numbers, policy),
            writer,
        }
    }

    fn publish(&self, pace: &Pace) {
        counts::comparator(&self.writer, self.worker.comparator());
        pace.publish(&self.writer);
    }
}

/// What one comparing core is to do.
pub struct WorkerCore {
    /// The shares, whose comparators are made on the core.
    pub seats: Vec<Seat>,
    /// The TSC's rate.
    pub clock: Clock,
    /// How long to sleep after a run of rounds without work.
    pub idle_sleep: Option<Duration>,
}

impl WorkerCore {
    /// Compares until all cores that it compares for have ended. What it still holds then is freed.
    pub fn run(self) {
        let mut shares: Vec<Share> = self.seats.into_iter().map(Share::new).collect();
        let mut pace = Pace::new(self.clock, self.idle_sleep);
        while !shares.iter().all(|share| share.worker.is_over()) {
            let mut busy = false;
            for share in &mut shares {
                busy |= share.worker.poll();
            }
            if pace.end_round(busy) {
                shares.iter().for_each(|share| share.publish(&pace));
            }
        }
        shares.iter().for_each(|share| share.publish(&pace));
    }
}
