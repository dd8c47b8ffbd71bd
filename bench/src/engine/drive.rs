//! The poll loop's part: bursts of P and S into a comparator, and releases out of it.

use dpdk_colo::compare::{Comparator, Limits, Numbers, Policy};
use dpdk_colo::{Frame, Ticks};

use super::case::{Case, Traffic};
use super::clock;
use super::pool::{Pool, PoolFrame};
use super::shuffle::shuffled;
use super::template::Template;

/// Frames of a burst, as the node's.
const BURST: usize = 32;
/// Pairs that are made, then measured in one go: few enough that they stay in the second-level
/// cache, where a port leaves them.
pub const CHUNK: usize = 8 * BURST;
/// A daemon's frames held and frames kept as history, by default.
const HOLD: usize = 16_384;
const HISTORY: usize = HOLD / 4;

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
    /// The order in which the flows take their turns.
    order: Vec<u32>,
    next: usize,
    offset: u32,
    now: Ticks,
    out: Vec<PoolFrame>,
    /// P in here that nothing will match.
    held: usize,
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
            idle: Ticks::MAX,
        };
        let mut drive = Self {
            comparator: Comparator::new(limits, Numbers::Translated, Policy::default()),
            primary: Sender::new(case, p, 2 * CHUNK + case.held),
            secondary: Sender::new(case, s, HISTORY + 2 * CHUNK),
            turn: p.len(),
            advance: p.iter().sum::<usize>() as u32,
            order: (0..case.flows as u32).collect(),
            next: 0,
            offset: 0,
            now: 1,
            out: Vec::with_capacity(CHUNK),
            held: case.held,
        };
        for flow in case.flows..case.flows + case.held {
            let frame = drive.primary.sources[0].frame(flow, 0);
            assert!(drive.comparator.primary(frame, 0).is_ok(), "there is room");
        }
        for _ in 0..(case.flows.max(HISTORY) + CHUNK).div_ceil(CHUNK) {
            drive.prepare();
            chunk(&mut drive);
            drive.check();
        }
        drive.order = shuffled(case.flows);
        drive
    }

    /// Compares at least this many pairs; returns how many, and the time stamp counter's ticks
    /// that it took.
    ///
    /// # Panics
    /// When a P was not released, or came out with other bytes than it went in.
    pub fn run(&mut self, pairs: usize) -> (usize, u64) {
        let chunks = pairs.div_ceil(CHUNK);
        let mut ticks = 0;
        for _ in 0..chunks {
            self.prepare();
            let begin = clock::ticks();
            measured(self);
            ticks += clock::ticks() - begin;
            self.check();
        }
        (chunks * CHUNK, ticks)
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
        assert_eq!(self.primary.in_use(), self.held, "P in use");
    }
}

/// The part that counts; callgrind knows it by its name.
#[inline(never)]
pub fn measured(drive: &mut Drive) {
    chunk(drive);
}

/// All bursts of a chunk go in and all its P come out. Which VM's burst comes first takes turns.
#[inline(never)]
fn chunk(drive: &mut Drive) {
    let bursts = drive.primary.bursts.iter_mut();
    for (i, (p, s)) in bursts.zip(&mut drive.secondary.bursts).enumerate() {
        let (comparator, now) = (&mut drive.comparator, drive.now);
        drive.now += 1;
        if i % 2 == 0 {
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
    for frame in burst.drain(..) {
        assert!(comparator.primary(frame, now).is_ok(), "there is room");
    }
}

#[inline]
fn feed_secondary(comparator: &mut Comparator<PoolFrame>, burst: &mut Vec<PoolFrame>, now: Ticks) {
    for frame in burst.drain(..) {
        comparator.secondary(frame, now);
    }
}
