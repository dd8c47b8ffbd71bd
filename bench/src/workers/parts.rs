//! What a front and a worker each do for a pair that the worker compares, on one thread, so that
//! instructions can be counted apart.

use dpdk_colo::Ticks;
use dpdk_colo::compare::{Numbers, Policy};
use dpdk_colo::spread::{Front, Shares, Sizes, Worker, ends};

use super::limits;
use super::load::{BURST, HISTORY, Load};
use super::pool::PoolFrame;
use crate::engine::Case;

/// Bytes of frames of a chunk.
const CHUNK_BYTES: usize = 64 << 10;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Choosing the worker, passing the frames on, taking what may leave.
    Front,
    /// Taking the frames, comparing them, giving back what may leave.
    Worker,
}

impl Part {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Front, Self::Worker];

    /// The word for it in a case's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Front => "front",
            Self::Worker => "worker",
        }
    }

    /// The functions in which its instructions are counted, as callgrind names them.
    pub const fn measured(self) -> &'static str {
        match self {
            Self::Front => "*workers::parts::front_*",
            Self::Worker => "*workers::parts::worker_*",
        }
    }
}

/// A front that compares nothing itself, and its only worker, under load.
pub struct Parts {
    front: Front<PoolFrame>,
    worker: Worker<PoolFrame>,
    load: Load,
    now: Ticks,
    out: Vec<PoolFrame>,
}

impl Parts {
    /// Both have seen every flow once and keep as much history as they may.
    pub fn new(case: &Case) -> Self {
        let shares = Shares::weighted(&[0, 1], 0x9e37_79b9_7f4a_7c15);
        let (end, worker_end) = ends(Sizes::default());
        let bounds = shares.limits(&limits(case), 1);
        let numbers = Numbers::Translated;
        let worker = Worker::new(worker_end, bounds, numbers, Policy::default());
        let policy = Policy::default();
        let front = Front::new(limits(case), numbers, policy, vec![end], shares);
        let load = Load::new(case, CHUNK_BYTES);
        let mut parts = Self {
            out: Vec::with_capacity(load.chunk()),
            front,
            worker,
            load,
            now: 1,
        };
        parts.run(case.flows.max(2 * HISTORY), false);
        parts
    }

    /// Compares this many pairs, rounded up to a burst, where callgrind counts them.
    ///
    /// # Panics
    /// When a P was not released.
    pub fn count(&mut self, pairs: usize) {
        self.run(pairs, true);
    }

    fn run(&mut self, pairs: usize, counts: bool) {
        for _ in 0..pairs.div_ceil(BURST) {
            if self.load.p.is_empty() {
                self.load.prepare();
            }
            self.now += 1;
            if counts {
                front_in(self);
                worker_poll(self);
                front_out(self);
            } else {
                self.take_in();
                self.work();
                self.take_out();
            }
            assert_eq!(self.out.len(), BURST, "released");
            self.out.clear();
        }
    }

    #[inline(never)]
    fn take_in(&mut self) {
        let Self {
            front, load, now, ..
        } = self;
        let (mut p, mut s) = (load.p.drain(..BURST), load.s.drain(..BURST));
        front.ingest(&mut p, &mut s, *now);
        front.exchange();
    }

    #[inline(never)]
    fn work(&mut self) {
        while self.worker.poll() {}
    }

    #[inline(never)]
    fn take_out(&mut self) {
        let Self { front, out, .. } = self;
        while !front.is_settled() {
            front.exchange();
            while front.next_synchronized().is_some() {}
            while let Some(release) = front.next_release() {
                out.push(release.frame);
            }
        }
    }
}

#[inline(never)]
fn front_in(parts: &mut Parts) {
    parts.take_in();
}

#[inline(never)]
fn worker_poll(parts: &mut Parts) {
    parts.work();
}

#[inline(never)]
fn front_out(parts: &mut Parts) {
    parts.take_out();
}
