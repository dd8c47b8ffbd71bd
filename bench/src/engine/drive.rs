//! The poll loop's part: bursts of P and S into a comparator, and releases out of it.

use std::iter;

use dpdk_colo::compare::{Comparator, Limits, Numbers, Policy};
use dpdk_colo::frame::BURST;
use dpdk_colo::{Frame, Ticks};

use super::case::{Case, Traffic};
use super::clock;
use super::pool::{Pool, PoolFrame};
use super::shuffle::shuffled;
use super::template::Template;

/// Pairs that are made, then measured in one go: few enough that they stay in the second-level
/// cache, where a port leaves them.
pub const CHUNK: usize = 4 * BURST;
/// A daemon's frames held and frames kept as history, by default.
const HOLD: usize = 16_384;
const HISTORY: usize = HOLD / 16;

/// Frames of one length.
struct Source {
    template: Template,
    pool: Pool,
}

impl Source {
    fn new(case: &Case, payload: usize, frames: usize) -> Self {
        let template = Template::new(case, payload);
        let pool = Pool::new(frames, template.bytes());
        Self { template, pool }
    }

    fn frame(&mut self, flow: usize, offset: u32) -> PoolFrame {
        let template = &self.template;
        self.pool.take(|bytes| template.write(bytes, flow, offset))
    }
}

/// What one VM sends when it is a flow's turn: segments of these lengths, one behind the other.
struct Sender {
    sources: Vec<Source>,
    lengths: Vec<usize>,
    bursts: Vec<Vec<PoolFrame>>,
}

impl Sender {
    fn new(case: &Case, lengths: &[usize], frames: usize) -> Self {
        let source = |&payload: &usize| Source::new(case, payload, frames);
        let bursts = (0..CHUNK / BURST).map(|_| Vec::with_capacity(BURST));
        Self {
            sources: lengths.iter().map(source).collect(),
            lengths: lengths.to_vec(),
            bursts: bursts.collect(),
        }
    }

    fn send(&mut self, burst: usize, flow: usize, offset: u32) {
        let mut at = offset;
        for (source, length) in self.sources.iter_mut().zip(&self.lengths) {
            self.bursts[burst].push(source.frame(flow, at));
            at = at.wrapping_add(*length as u32);
        }
    }

    fn in_use(&self) -> usize {
        self.sources.iter().map(|s| s.pool.in_use()).sum()
    }
}

/// A comparator under load.
pub struct Drive {
    comparator: Comparator<PoolFrame>,
    primary: Sender,
    secondary: Sender,
    /// Frames of one flow at its turn, and how many bytes of its stream that is.
    turn: usize,
    advance: u32,
    /// The order in which the flows take their turns, and the one after the first round.
    order: Vec<u32>,
    later: Option<Vec<u32>>,
    next: usize,
    offset: u32,
    now: Ticks,
    out: Vec<PoolFrame>,
    /// P in here that nothing will match.
    held: usize,
    apart: bool,
}

impl Drive {
    /// A comparator that has seen every flow once.
    pub fn new(case: &Case) -> Self {
        let (long, short) = (case.payload, case.payload - case.payload / 4);
        let (p, s): (&[usize], &[usize]) = match case.traffic {
            Traffic::Resegmented => (&[long, short], &[short, long]),
            Traffic::Tcp | Traffic::Udp => (&[long], &[long]),
        };
        let limits = Limits {
            primary: HOLD + case.held,
            secondary: HOLD,
            history: HISTORY,
            flows: case.flows + case.held,
            timeout: Ticks::MAX,
            patience: 1,
            idle: Ticks::MAX,
            half_open: Ticks::MAX,
        };
        let mut drive = Self {
            comparator: Comparator::new(limits, Numbers::Translated, Policy::default()),
            primary: Sender::new(case, p, 2 * CHUNK),
            secondary: Sender::new(case, s, HISTORY / s.len() + 2 * CHUNK),
            turn: p.len(),
            advance: p.iter().sum::<usize>() as u32,
            order: (0..case.flows as u32).collect(),
            later: Some(shuffled(case.flows)),
            next: 0,
            offset: 0,
            now: 1,
            out: Vec::with_capacity(CHUNK),
            held: case.held,
            apart: case.apart,
        };
        let mut waiting = Source::new(case, case.payload, case.held);
        for flow in case.flows..case.flows + case.held {
            let frame = waiting.frame(flow, 0);
            assert!(drive.comparator.primary(frame, 0).is_ok(), "there is room");
        }
        let mut pairs = 0;
        while pairs < HISTORY || drive.later.is_some() {
            drive.prepare();
            chunk(&mut drive);
            drive.check();
            pairs += CHUNK;
        }
        drive
    }

    /// Compares at least this many pairs; returns the time stamp counter's ticks for one of them
    /// in the median chunk: another program's turn on this core falls into few of the chunks.
    ///
    /// # Panics
    /// When a P was not released, or is released twice.
    pub fn run(&mut self, pairs: usize) -> f64 {
        let mut ticks = Vec::with_capacity(pairs.div_ceil(CHUNK));
        for _ in 0..pairs.div_ceil(CHUNK) {
            self.prepare();
            let begin = clock::ticks();
            measured(self);
            ticks.push(clock::ticks() - begin);
            self.check();
        }
        ticks.sort_unstable();
        let median = ticks.get(ticks.len() / 2);
        median.copied().unwrap_or_default() as f64 / CHUNK as f64
    }

    fn prepare(&mut self) {
        for burst in 0..CHUNK / BURST {
            for _ in 0..BURST / self.turn {
                let flow = self.order[self.next] as usize;
                self.primary.send(burst, flow, self.offset);
                self.secondary.send(burst, flow, self.offset);
                self.next += 1;
                if self.next == self.order.len() {
                    self.next = 0;
                    self.order = self
                        .later
                        .take()
                        .unwrap_or_else(|| std::mem::take(&mut self.order));
                    self.offset = self
                        .offset
                        .checked_add(self.advance)
                        .expect("a run is short");
                }
            }
        }
    }

    fn check(&mut self) {
        assert_eq!(self.out.len(), CHUNK, "released");
        assert_eq!(self.comparator.held(), self.held, "held");
        assert!(self.out.iter().all(|frame| !frame.is_empty()));
        self.out.clear();
        assert_eq!(self.primary.in_use(), 0, "P in use");
    }
}

/// The part that counts; callgrind knows it by its name.
#[inline(never)]
pub fn measured(drive: &mut Drive) {
    chunk(drive);
}

/// All bursts of a chunk go in and all its P come out. Where they come apart, which VM's burst is
/// first takes turns.
#[inline(never)]
fn chunk(drive: &mut Drive) {
    let bursts = drive.primary.bursts.iter_mut();
    for (i, (p, s)) in bursts.zip(&mut drive.secondary.bursts).enumerate() {
        let (comparator, now) = (&mut drive.comparator, drive.now);
        drive.now += 1;
        if !drive.apart {
            let (mut p, mut s) = (p.drain(..), s.drain(..));
            comparator.ingest(&mut p, &mut s, now);
            assert_eq!(p.len(), 0, "there is room");
        } else if i % 2 == 0 {
            feed_primary(comparator, p, now);
            feed_secondary(comparator, s, now);
        } else {
            feed_secondary(comparator, s, now);
            feed_primary(comparator, p, now);
        }
        assert!(comparator.take_divergence().is_none(), "equal output");
        while comparator.next_synchronized().is_some() {}
        while let Some(release) = comparator.next_release() {
            drive.out.push(release.frame);
        }
    }
}

#[inline]
fn feed_primary(comparator: &mut Comparator<PoolFrame>, burst: &mut Vec<PoolFrame>, now: Ticks) {
    let mut frames = burst.drain(..);
    comparator.ingest(&mut frames, &mut iter::empty(), now);
    assert_eq!(frames.len(), 0, "there is room");
}

#[inline]
fn feed_secondary(comparator: &mut Comparator<PoolFrame>, burst: &mut Vec<PoolFrame>, now: Ticks) {
    comparator.ingest(&mut iter::empty(), &mut burst.drain(..), now);
}
