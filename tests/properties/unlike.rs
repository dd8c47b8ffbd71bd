//! Established connections whose bytes come in order from both VMs, each with boundaries of its own: the fast path of
//! unlike segments, beside the general path.
//!
//! What keeps a segment from that path is mixed in: acknowledgments that the SVM has not sent, bytes that differ, bare
//! acknowledgments, retransmissions and new epochs.

use colo_testkit::rng::{Rng, for_cases};
use dpdk_colo::compare::Numbers;

use crate::harness::{Harness, Sent, ample};
use crate::model::Segment;
use crate::streams::spoil;
use crate::traffic::{Close, Connection, Opening, Side, ends};

/// Segments of a VM at most: no case reaches the comparator's limits.
const MOST: usize = 600;

/// What is in the way of the fast path.
#[derive(Clone, Copy, Default)]
struct Obstacles {
    /// The SVM acknowledges later than the PVM.
    gate: bool,
    /// Bare acknowledgments come between.
    bare: bool,
    /// Bytes that were sent come again.
    again: bool,
    /// Bytes of the SVM differ.
    spoiled: bool,
    /// Epochs end.
    fences: bool,
}

/// What one VM has sent of a connection.
struct Vm {
    side: Side,
    bytes: Vec<u8>,
    /// Where its next segment begins, and what it acknowledges.
    at: u32,
    ack: u32,
    /// Longest of its segments, in bytes.
    largest: usize,
}

impl Vm {
    fn new(rng: &mut Rng, side: Side, connection: &Connection) -> Self {
        Self {
            side,
            bytes: connection.bytes.clone(),
            at: 0,
            ack: 0,
            largest: [3, 7, 40, 300][rng.below(4)],
        }
    }

    fn is_done(&self) -> bool {
        self.at as usize >= self.bytes.len()
    }

    /// Its next segment.
    fn next(&mut self, rng: &mut Rng, connection: &Connection, obstacles: Obstacles) -> Sent {
        let most = connection.acknowledged;
        if rng.one_in(3) && self.ack < most {
            self.ack += rng.below((most - self.ack) as usize + 1) as u32;
        }
        if self.side == Side::Secondary && !obstacles.gate {
            self.ack = most;
        }
        let mut at = self.at;
        if obstacles.again && rng.one_in(10) {
            at -= rng.below(at as usize + 1).min(rng.below(60)) as u32;
        }
        let left = self.bytes.len() - at as usize;
        let bare = obstacles.bare && rng.one_in(8);
        let n = match bare {
            true => 0,
            false => rng.between(1, self.largest).min(left),
        };
        let data = self.bytes[at as usize..][..n].to_vec();
        self.at = self.at.max(at + n as u32);
        let segment = Segment {
            at,
            data,
            ack: Some(self.ack),
            ..Segment::default()
        };
        connection.frame(rng, self.side, &segment)
    }

    /// A segment without data behind all of them.
    fn bare(&self, rng: &mut Rng, connection: &Connection, syn: bool) -> Sent {
        let segment = Segment {
            at: self.at,
            syn,
            ack: Some(self.ack),
            ..Segment::default()
        };
        connection.frame(rng, self.side, &segment)
    }
}

fn established(rng: &mut Rng) -> Connection {
    let numbers = [Numbers::Translated, Numbers::OwnIsn][rng.below(2)];
    let ends = ends(rng, 0);
    let mut connection = Connection::random(rng, 0, &ends, numbers);
    while connection.opening == Opening::Active {
        connection = Connection::random(rng, 0, &ends, numbers);
    }
    connection.close = Close::Never;
    connection
}

/// Both VMs open the connection, and then send everything in any turns.
fn run(rng: &mut Rng, obstacles: Obstacles) {
    let mut connection = established(rng);
    let mut harness = Harness::new(ample(MOST, MOST), connection.numbers);
    let mut p = Vm::new(rng, Side::Primary, &connection);
    let mut s = Vm::new(rng, Side::Secondary, &connection);
    if obstacles.spoiled && !s.bytes.is_empty() {
        spoil(rng, &mut s.bytes);
    }
    for syn in [true, false] {
        if syn && connection.opening == Opening::MidStream {
            continue;
        }
        if !syn && !obstacles.gate {
            s.ack = connection.acknowledged;
        }
        let (a, b) = (p.bare(rng, &connection, syn), s.bare(rng, &connection, syn));
        assert!(harness.primary(rng, &a), "has room");
        harness.secondary(rng, &b);
    }
    let opened = harness.comparator.counts().general;
    let weights = [[1, 1], [1, 4], [4, 1], [1, 50], [50, 1]][rng.below(5)];
    while !(p.is_done() && s.is_done()) {
        let turn = rng.below(weights[0] + weights[1]) < weights[0];
        if (turn || s.is_done()) && !p.is_done() {
            let sent = p.next(rng, &connection, obstacles);
            if !s.is_done() && rng.one_in(4) {
                let other = s.next(rng, &connection, obstacles);
                harness.both(rng, &[sent], &[other]);
            } else {
                assert!(harness.primary(rng, &sent), "has room");
            }
        } else {
            let sent = s.next(rng, &connection, obstacles);
            harness.secondary(rng, &sent);
        }
        if rng.one_in(20) {
            harness.age();
        }
        if obstacles.fences && rng.one_in(30) {
            new_epoch(rng, &mut harness, &mut connection, [&mut p, &mut s]);
        }
    }
    if !obstacles.bare
        && !obstacles.again
        && !obstacles.gate
        && !obstacles.fences
        && !obstacles.spoiled
    {
        let general = harness.comparator.counts().general;
        assert!(general == opened, "{general} P took the general path");
    }
    if obstacles.spoiled {
        harness.fence();
        harness.commit();
        assert_eq!(harness.waiting(), 0);
        return;
    }
    s.ack = connection.acknowledged;
    let last = s.bare(rng, &connection, false);
    harness.secondary(rng, &last);
    harness.assert_equal();
}

/// The SVM takes over the PVM's state; what both send between the fence and the commit is void or waits.
fn new_epoch(
    rng: &mut Rng,
    harness: &mut Harness,
    connection: &mut Connection,
    [p, s]: [&mut Vm; 2],
) {
    harness.fence();
    let none = Obstacles::default();
    if !s.is_done() && rng.one_in(2) {
        let late = s.next(rng, connection, none);
        harness.secondary(rng, &late);
    }
    if !p.is_done() && rng.one_in(2) {
        let late = p.next(rng, connection, none);
        assert!(harness.primary(rng, &late), "has room");
    }
    harness.commit();
    connection.svm_isn = connection.pvm_isn;
    s.bytes.clone_from(&p.bytes);
    (s.at, s.ack) = (p.at, p.ack);
}

#[test]
fn unlike_segments_in_order_leave_whole() {
    for_cases("unlike_segments_in_order", 20_000, |rng| {
        run(rng, Obstacles::default());
    });
}

#[test]
fn unlike_segments_are_compared_as_on_the_general_path() {
    for_cases("unlike_segments_are_compared", 20_000, unlike_segments);
}

pub fn unlike_segments(rng: &mut Rng) {
    let obstacles = Obstacles {
        gate: rng.one_in(3),
        bare: rng.one_in(3),
        again: rng.one_in(4),
        spoiled: rng.one_in(4),
        fences: rng.one_in(3),
    };
    run(rng, obstacles);
}
