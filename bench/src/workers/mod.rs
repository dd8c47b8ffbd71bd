//! How much more two cores compare than one, on frames in memory.
//!
//! | figure | what it is |
//! | --- | --- |
//! | `1` | a comparator alone |
//! | `2` | a dispatcher and a worker, each on its core, with the given share of the flows at the dispatcher |
//! | `apart` | two comparators that share nothing but the machine: the most that two cores can do |
//!
//! Time runs from the first frame of a chunk until the last has come out.

mod line;
mod load;
mod parts;
#[allow(
    unsafe_code,
    reason = "writes buffers that nobody owns, and prefetches"
)]
mod pool;

use std::thread;

use dpdk_colo::Ticks;
use dpdk_colo::compare::{Limits, Numbers, Policy};
use dpdk_colo::frame::BURST;
use dpdk_colo::spread::{Dispatcher, RedirectionTable, RingSizes, Worker, rings};

use crate::engine::{Case, LARGE, SMALL, Span, ticks};
use crate::figure::Figure;
use load::{HISTORY, Load};
pub use parts::{Part, Parts};
use pool::PoolFrame;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often each case runs.
    pub runs: usize,
    /// Pairs of a run, at least.
    pub pairs: usize,
    /// Entries of the redirection table that are the dispatcher's, of 128.
    pub shares: Vec<u32>,
    /// Only cases whose name has this in it.
    pub only: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            runs: 5,
            pairs: 400_000,
            shares: vec![64, 52, 40],
            only: String::new(),
        }
    }
}

/// How the flows are compared.
#[derive(Clone, Copy)]
enum Way {
    Alone,
    Spread { dispatcher: u32 },
    Apart,
}

impl Way {
    fn name(self) -> String {
        match self {
            Way::Alone => "1".into(),
            Way::Spread { dispatcher } => format!("2-dispatcher-{dispatcher}"),
            Way::Apart => "apart".into(),
        }
    }
}

/// For each case and way nanoseconds per pair, and how many times faster than one core that is.
pub fn run(options: &Options) -> Vec<Figure> {
    let cases: Vec<Case> = [SMALL, LARGE]
        .into_iter()
        .flat_map(|payload| [1000, 1_000_000].map(|flows| Case::plain(payload, flows)))
        .filter(|case| case.to_string().contains(&options.only))
        .collect();
    let ways: Vec<Way> = [Way::Alone, Way::Apart]
        .into_iter()
        .chain(
            options
                .shares
                .iter()
                .map(|&dispatcher| Way::Spread { dispatcher }),
        )
        .collect();
    let mut values = vec![vec![Vec::new(); ways.len()]; cases.len()];
    let mut lines = Vec::new();
    for _ in 0..options.runs {
        lines.push(line::there_and_back());
        for (case, of_case) in cases.iter().zip(&mut values) {
            for (way, of_way) in ways.iter().zip(of_case) {
                of_way.push(measure(case, *way, options.pairs));
            }
        }
    }
    let mut figures = vec![Figure::of("workers/line/ns".into(), "ns", lines)];
    for (case, of_case) in cases.iter().zip(values) {
        let alone = of_case[0].clone();
        for (way, ns) in ways.iter().zip(of_case) {
            let case = case.to_string().replace("engine/", "workers/");
            let name = format!("{case}/{}", way.name());
            let ratio = alone.iter().zip(&ns).map(|(one, two)| one / two).collect();
            figures.push(Figure::of(format!("{name}/ns"), "ns/pair", ns));
            figures.push(Figure::of(format!("{name}/speedup"), "", ratio));
        }
    }
    figures
}

/// Nanoseconds per pair.
fn measure(case: &Case, way: Way, pairs: usize) -> f64 {
    let span = Span::begin();
    let per_pair = match way {
        Way::Alone => alone(case, pairs, FIRST),
        Way::Spread { dispatcher } => spread(case, pairs, dispatcher),
        Way::Apart => apart(case, pairs),
    };
    per_pair * span.ns_per_tick()
}

/// Bytes of frames that are made, then measured in one go: they lie in the third-level cache, from
/// where any core can take them.
const CHUNK_BYTES: usize = 8 << 20;

/// Some 100 ns.
const PAUSES: usize = 4;

const FIRST: usize = 0;
const OTHER: usize = 1;

fn pin(core: usize) {
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
}

fn limits(case: &Case) -> Limits {
    Limits {
        primary: 16_384,
        secondary: 16_384,
        history: HISTORY,
        flows: case.flows + case.flows / 4 + 64,
        timeout: Ticks::MAX,
        patience: 1,
        idle: Ticks::MAX,
        half_open: Ticks::MAX,
    }
}

fn alone(case: &Case, pairs: usize, core: usize) -> f64 {
    pin(core);
    let dispatcher = Dispatcher::alone(limits(case), Numbers::Translated, Policy::default());
    Run::new(case, dispatcher, &mut Load::new(case, CHUNK_BYTES)).go(pairs)
}

/// Two at once; the mean of what each needs, halved.
fn apart(case: &Case, pairs: usize) -> f64 {
    let other = {
        let case = *case;
        pin(OTHER);
        thread::spawn(move || alone(&case, pairs, OTHER))
    };
    let mine = alone(case, pairs, FIRST);
    let theirs = other.join().expect("the other comparator");
    (mine + theirs) / 4.0
}

fn spread(case: &Case, pairs: usize, dispatcher: u32) -> f64 {
    let table = RedirectionTable::weighted(&[dispatcher, 128 - dispatcher], 0x9e37_79b9_7f4a_7c15);
    let (end, worker_end) = rings(RingSizes::default());
    let bounds = table.limits(&limits(case), 1);
    // A thread begins where its parent is, which will not yield.
    pin(OTHER);
    let worker = thread::spawn(move || {
        let policy = Policy::default();
        let mut worker: Worker<PoolFrame> =
            Worker::new(worker_end, bounds, Numbers::Translated, policy);
        while !worker.is_over() {
            if !worker.poll() {
                pause();
            }
        }
    });
    pin(FIRST);
    let policy = Policy::default();
    let dispatcher = Dispatcher::new(limits(case), Numbers::Translated, policy, vec![end], table);
    let mut load = Load::new(case, CHUNK_BYTES);
    let per_pair = Run::new(case, dispatcher, &mut load).go(pairs);
    worker.join().expect("the worker");
    per_pair
}

/// What a node does elsewhere in a round without work. Who looks at a line all the time keeps the
/// other core from writing it.
fn pause() {
    for _ in 0..PAUSES {
        std::hint::spin_loop();
    }
}

/// A dispatcher under load.
struct Run<'a> {
    dispatcher: Dispatcher<PoolFrame>,
    load: &'a mut Load,
    now: Ticks,
    out: Vec<PoolFrame>,
}

impl<'a> Run<'a> {
    /// A dispatcher that has seen every flow once and keeps as much history as it may.
    fn new(case: &Case, dispatcher: Dispatcher<PoolFrame>, load: &'a mut Load) -> Self {
        let out = Vec::with_capacity(load.chunk());
        let mut run = Self {
            dispatcher,
            load,
            now: 1,
            out,
        };
        for _ in 0..case.flows.max(2 * HISTORY).div_ceil(run.load.chunk()) {
            run.chunk();
        }
        run
    }

    /// Ticks per pair.
    fn go(&mut self, pairs: usize) -> f64 {
        let chunks = pairs.div_ceil(self.load.chunk());
        let ticks: u64 = (0..chunks).map(|_| self.chunk()).sum();
        ticks as f64 / (chunks * self.load.chunk()) as f64
    }

    fn chunk(&mut self) -> u64 {
        self.load.prepare();
        let all = self.load.p.len();
        let begin = ticks();
        for _ in 0..all / BURST {
            while !self.dispatcher.is_ready() || self.dispatcher.room() < BURST {
                pause();
                self.take();
            }
            self.now += 1;
            self.burst();
            self.take();
        }
        while self.out.len() < all {
            pause();
            self.take();
        }
        let ticks = ticks() - begin;
        assert!(self.dispatcher.take_divergence().is_none(), "equal output");
        assert!(!self.dispatcher.take_overflow(), "room for all S");
        while !self.dispatcher.is_settled() {
            self.take();
        }
        self.out.clear();
        ticks
    }

    fn burst(&mut self) {
        let Self {
            dispatcher,
            load,
            now,
            ..
        } = self;
        let mut p = load.p.drain(..BURST);
        dispatcher.ingest(&mut p, &mut load.s.drain(..BURST), *now);
        assert_eq!(p.len(), 0, "there is room");
    }

    fn take(&mut self) {
        self.dispatcher.exchange();
        while self.dispatcher.next_synchronized().is_some() {}
        while let Some(release) = self.dispatcher.next_release() {
            self.out.push(release.frame);
        }
    }
}
