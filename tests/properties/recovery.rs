//! P that wait for longer than the timeout because the SVM repeats what was lost: no longer than they may, and without
//! hiding what is overdue on other connections (rule R9).
//!
//! Connections live when the case begins. Both VMs send one stream on each; the SVM is behind, and repeats what has left
//! at times. All that is held is a list here, of which each P is judged at each step.

use std::ops::Range;

use colo_testkit::packets::{self, Ends, Segment};
use colo_testkit::rng::{Rng, for_cases};
use dpdk_colo::compare::{Comparator, Limits, Numbers, Policy, Reason};
use dpdk_colo::frame::{HeapFrame, Ticks};

use crate::harness::ample;

const TIMEOUT: Ticks = 640;
/// Timeouts after which a P is overdue, whatever the SVM repeats.
const PATIENCE: Ticks = 4;
/// How much later it is seen that an excuse has ended.
const LATER: Ticks = TIMEOUT / 16;
/// P that may be held.
const ROOM: usize = 400;
/// Calls in which all of them are looked at.
const CALLS: usize = ROOM / 32 + 2;

/// A P that is held.
struct Waiting {
    end: u32,
    came: Ticks,
    /// Until when it was excused at most, of all the times that it was asked.
    excused: Ticks,
}

/// One connection.
struct Flow {
    ends: Ends,
    isn: u32,
    /// What each VM has sent.
    pvm: u32,
    svm: u32,
    waits: Vec<Waiting>,
    /// When the SVM last repeated something, and how long after the time before.
    last: Ticks,
    gap: Ticks,
}

impl Flow {
    fn new(rng: &mut Rng, number: u16) -> Self {
        Self {
            ends: Ends {
                peer: 2,
                port: 80 + number,
                peer_port: 40_000,
                ..Ends::default()
            },
            isn: rng.sequence(),
            pvm: 0,
            svm: 0,
            waits: Vec::new(),
            last: 0,
            gap: 0,
        }
    }

    fn frame(&self, range: Range<u32>) -> HeapFrame {
        let segment = Segment {
            seq: self.isn.wrapping_add(range.start),
            ack: Some(1),
            payload: range.map(|at| (at * 7) as u8).collect(),
            ..Segment::default()
        };
        HeapFrame::new(&packets::tcp(&self.ends, &segment, 0))
    }

    fn repeated(&mut self, now: Ticks) {
        self.gap = match self.last != 0 && now <= self.next() {
            true => now - self.last,
            false => 0,
        };
        self.last = now;
    }

    /// Until when the SVM may repeat something again.
    fn next(&self) -> Ticks {
        self.last + 2 * self.gap + TIMEOUT
    }

    /// Until when a P may wait that came then.
    fn excuse(&self, came: Ticks) -> Ticks {
        match self.last {
            0 => 0,
            _ => self.next().min(came + PATIENCE * TIMEOUT),
        }
    }
}

struct Case {
    comparator: Comparator<HeapFrame>,
    flows: Vec<Flow>,
    now: Ticks,
    /// Times that a P was overdue and excused.
    excused: usize,
    requests: usize,
}

impl Case {
    fn new(rng: &mut Rng) -> Self {
        let limits = Limits {
            timeout: TIMEOUT,
            idle: Ticks::MAX / 2,
            half_open: Ticks::MAX / 2,
            ..ample(ROOM, ROOM)
        };
        let flows = (0..rng.between(1, 4) as u16).map(|number| Flow::new(rng, number));
        let mut case = Self {
            flows: flows.collect(),
            comparator: Comparator::new(limits, Numbers::Translated, Policy::default()),
            now: 1,
            excused: 0,
            requests: 0,
        };
        for number in 0..case.flows.len() {
            case.primary(number, 10);
            case.secondary(number, 10);
        }
        case
    }

    fn primary(&mut self, number: usize, len: u32) {
        let flow = &mut self.flows[number];
        let frame = flow.frame(flow.pvm..flow.pvm + len);
        flow.pvm += len;
        assert!(self.comparator.primary(frame, self.now).is_ok(), "has room");
        flow.waits.push(Waiting {
            end: flow.pvm,
            came: self.now,
            excused: 0,
        });
        self.leave(number);
    }

    fn secondary(&mut self, number: usize, len: u32) {
        let flow = &mut self.flows[number];
        let frame = flow.frame(flow.svm..flow.svm + len);
        flow.svm += len;
        self.comparator.secondary(frame, self.now);
        self.leave(number);
    }

    /// The SVM repeats some of what has left.
    fn repeat(&mut self, rng: &mut Rng, number: usize) {
        let flow = &mut self.flows[number];
        let end = flow.svm.min(flow.pvm);
        // One byte alone might be a keepalive.
        let from = end - rng.between(2, 10) as u32;
        let to = rng.between(from as usize + 2, end as usize) as u32;
        let frame = flow.frame(from..to);
        flow.repeated(self.now);
        self.comparator.secondary(frame, self.now);
    }

    /// What both VMs have sent has left.
    fn leave(&mut self, number: usize) {
        let flow = &mut self.flows[number];
        let before = flow.waits.len();
        flow.waits.retain(|waiting| waiting.end > flow.svm);
        let left = before - flow.waits.len();
        let released = std::iter::from_fn(|| self.comparator.next_release()).count();
        assert_eq!(released, left);
    }

    fn held(&self) -> usize {
        self.flows.iter().map(|flow| flow.waits.len()).sum()
    }

    fn step(&mut self, rng: &mut Rng) {
        let most = rng.of(&[2, 40, TIMEOUT as usize / 2]);
        self.now += rng.between(1, most) as Ticks;
        for number in 0..self.flows.len() {
            let behind = self.flows[number].pvm - self.flows[number].svm;
            match rng.below(12) {
                0 => {
                    for _ in 0..rng.between(1, 60).min(ROOM - self.held()) {
                        self.primary(number, rng.between(1, 5) as u32);
                    }
                }
                1 if behind > 0 => self.secondary(number, rng.between(1, behind as usize) as u32),
                2..5 => self.repeat(rng, number),
                _ => {}
            }
        }
        self.judge(rng);
    }

    fn judge(&mut self, rng: &mut Rng) {
        let now = self.now;
        let found = (0..CALLS).find_map(|_| self.comparator.overdue(now));
        let (mut may, mut must) = (false, None);
        for (number, flow) in self.flows.iter_mut().enumerate() {
            for at in 0..flow.waits.len() {
                let came = flow.waits[at].came;
                if now - came < TIMEOUT {
                    continue;
                }
                let excuse = flow.excuse(came);
                if now < excuse {
                    self.excused += 1;
                    let waiting = &mut flow.waits[at];
                    waiting.excused = waiting.excused.max(excuse);
                } else {
                    may = true;
                    let until = flow.waits[at].excused;
                    if until == 0 || now >= until + LATER {
                        must = Some((number, came));
                    }
                }
            }
        }
        match found {
            Some(divergence) => {
                assert_eq!(divergence.reason, Reason::MissingSecondary);
                assert!(may, "nothing is overdue at {now}");
                self.requests += 1;
                // A request that is not heeded changes nothing.
                if rng.one_in(3) {
                    self.checkpoint();
                }
            }
            None => assert_eq!(must, None, "overdue at {now}"),
        }
    }

    fn checkpoint(&mut self) {
        self.comparator.fence();
        self.comparator.commit(self.now);
        let held = self.held();
        let released = std::iter::from_fn(|| self.comparator.next_release()).count();
        assert_eq!(released, held);
        for flow in &mut self.flows {
            flow.waits.clear();
            flow.svm = flow.pvm;
        }
    }
}

#[test]
fn what_waits_for_the_svm_s_recovery_is_overdue_in_time_and_hides_nothing() {
    let (mut excused, mut requests) = (0, 0);
    for_cases("recovery", 400, |rng| {
        let (waits, wanted) = recovery(rng);
        excused += waits;
        requests += wanted;
    });
    println!("excused: {excused}, requests: {requests}");
}

/// How often a P was overdue and excused, and how often one was overdue and was not.
pub fn recovery(rng: &mut Rng) -> (usize, usize) {
    let mut case = Case::new(rng);
    for _ in 0..200 {
        case.step(rng);
    }
    (case.excused, case.requests)
}
