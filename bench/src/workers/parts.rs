//! What a dispatcher and a worker each do for a pair that the worker compares, on one thread, so that
//! instructions can be counted apart.

use dpdk_colo::Ticks;
use dpdk_colo::compare::{Numbers, Policy};
use dpdk_colo::frame::BURST;
use dpdk_colo::spread::{Dispatcher, RedirectionTable, RingSizes, Worker, rings};

use super::limits;
use super::load::{HISTORY, Load};
use super::pool::PoolFrame;
use crate::engine::Case;

/// Bytes of frames of a chunk.
const CHUNK_BYTES: usize = 64 << 10;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Choosing the worker, passing the frames on, taking what may leave.
    Dispatcher,
    /// Taking the frames, comparing them, releasing what may leave.
    Worker,
}

impl Part {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Dispatcher, Self::Worker];

    /// The word for it in a case's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dispatcher => "dispatcher",
            Self::Worker => "worker",
        }
    }

    /// The functions in which its instructions are counted, as callgrind names them.
    pub const fn measured(self) -> &'static str {
        match self {
            Self::Dispatcher => "*workers::parts::dispatcher_*",
            Self::Worker => "*workers::parts::worker_*",
        }
    }
}

/// A dispatcher that compares nothing itself, and its only worker, under load.
pub struct Parts {
    dispatcher: Dispatcher<PoolFrame>,
    worker: Worker<PoolFrame>,
    load: Load,
    now: Ticks,
    out: Vec<PoolFrame>,
}

impl Parts {
    /// Both have seen every flow once and keep as much history as they may.
    pub fn new(case: &Case) -> Self {
        let table = RedirectionTable::weighted(&[0, 1], 0x9e37_79b9_7f4a_7c15);
        let (end, worker_end) = rings(RingSizes::default());
        let bounds = table.limits(&limits(case), 1);
        let numbers = Numbers::Translated;
        let worker = Worker::new(worker_end, bounds, numbers, Policy::default());
        let policy = Policy::default();
        let dispatcher = Dispatcher::new(limits(case), numbers, policy, vec![end], table);
        let load = Load::new(case, CHUNK_BYTES);
        let mut parts = Self {
            out: Vec::with_capacity(load.chunk()),
            dispatcher,
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
                dispatcher_in(self);
                worker_poll(self);
                dispatcher_out(self);
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
            dispatcher,
            load,
            now,
            ..
        } = self;
        let (mut p, mut s) = (load.p.drain(..BURST), load.s.drain(..BURST));
        dispatcher.ingest(&mut p, &mut s, *now);
        dispatcher.exchange();
    }

    #[inline(never)]
    fn work(&mut self) {
        while self.worker.poll() {}
    }

    #[inline(never)]
    fn take_out(&mut self) {
        let Self {
            dispatcher, out, ..
        } = self;
        while !dispatcher.is_settled() {
            dispatcher.exchange();
            while dispatcher.next_synchronized().is_some() {}
            while let Some(release) = dispatcher.next_release() {
                out.push(release.frame);
            }
        }
    }
}

#[inline(never)]
fn dispatcher_in(parts: &mut Parts) {
    parts.take_in();
}

#[inline(never)]
fn worker_poll(parts: &mut Parts) {
    parts.work();
}

#[inline(never)]
fn dispatcher_out(parts: &mut Parts) {
    parts.take_out();
}
