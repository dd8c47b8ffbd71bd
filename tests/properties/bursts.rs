//! Bursts of both VMs at once, of any length and out of step: of equal streams leaves what would
//! leave if every frame came by itself, of different ones nothing that the model forbids.

use std::collections::{BTreeMap, VecDeque};

use colo_testkit::rng::{Rng, for_cases};
use dpdk_colo::compare::{Comparator, Numbers, Policy};
use dpdk_colo::flow::FlowKey;
use dpdk_colo::frame::{Frame, HeapFrame};
use dpdk_colo::packet::Packet;

use crate::harness::{Harness, Sent, ample, as_sent, in_segments};
use crate::streams::spoil;
use crate::traffic::{Connection, Side, ends};

/// What a VM sends of several connections, and in which order they take turns.
fn output(
    rng: &mut Rng,
    side: Side,
    connections: &[Connection],
    turns: &mut Vec<usize>,
) -> VecDeque<Sent> {
    let mut queues: Vec<VecDeque<Sent>> = connections
        .iter()
        .map(|connection| {
            let segments = connection.output(rng, true, 0, 0);
            connection.frames(rng, side, &segments)
        })
        .collect();
    let mut sent = VecDeque::new();
    let mut turn = 0;
    while queues.iter().any(|queue| !queue.is_empty()) {
        if turn == turns.len() {
            turns.push(rng.below(queues.len()));
        }
        // A VM is out of turn at times.
        let flow = if rng.one_in(20) {
            rng.below(queues.len())
        } else {
            turns[turn]
        };
        sent.extend(queues[flow].pop_front());
        turn += 1;
    }
    sent
}

fn take(rng: &mut Rng, queue: &mut VecDeque<Sent>, most: usize) -> Vec<HeapFrame> {
    let n = rng.below(most + 1).min(queue.len());
    queue
        .drain(..n)
        .map(|sent| in_segments(rng, &sent))
        .collect()
}

/// All that left of each flow as it was sent, and when.
type Left = BTreeMap<String, Vec<(Vec<u8>, u64)>>;

fn drain(comparator: &mut Comparator<HeapFrame>, left: &mut Left) {
    while comparator.next_synchronized().is_some() {}
    while let Some(release) = comparator.next_release() {
        let key: FlowKey = Packet::parse(release.frame.head(), release.frame.len()).key;
        let flow = left.entry(key.to_string()).or_default();
        let mut bytes = release.frame.to_vec();
        as_sent(&mut bytes);
        flow.push((bytes, release.cleared));
    }
    // What overtakes does so in the order in which both VMs' frames of one round are looked at.
    for flow in left.values_mut() {
        flow.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    }
}

#[test]
fn bursts_of_both_are_compared_as_their_frames_would_be() {
    for_cases("bursts_of_both", 10_000, bursts_of_both);
}

pub fn bursts_of_both(rng: &mut Rng) {
    let numbers = [Numbers::Translated, Numbers::OwnIsn][rng.below(2)];
    let primary: Vec<Connection> = (0..rng.between(1, 4))
        .map(|flow| {
            let ends = ends(rng, flow);
            Connection::random(rng, flow, &ends, numbers)
        })
        .collect();
    // The same draws as a rule, so that both VMs send the same segments.
    let mut other = if rng.one_in(4) {
        Rng::new(rng.next())
    } else {
        rng.clone()
    };
    let mut turns = Vec::new();
    let mut p = output(rng, Side::Primary, &primary, &mut turns);
    let mut s = output(&mut other, Side::Secondary, &primary, &mut turns);
    // Each VM may lack a frame; the PVM, of which none is lost, then lacks the rest, too.
    if !p.is_empty() && rng.one_in(3) {
        p.truncate(p.len() - rng.below(p.len().min(8)));
    }
    if !s.is_empty() && rng.one_in(3) {
        s.remove(rng.below(s.len()));
    }

    // Frames have up to three segments, and each takes a place.
    let limits = ample(3 * p.len(), 3 * s.len());
    let mut at_once = Comparator::new(limits, numbers, Policy::default());
    let mut one_by_one = Comparator::new(limits, numbers, Policy::default()).without_fast_path();
    let (mut left, mut expected) = (Left::new(), Left::new());
    let most = [2, 8, 40][rng.below(3)];
    let mut now = 0;
    while !p.is_empty() || !s.is_empty() {
        now += 1;
        let (burst_p, burst_s) = (take(rng, &mut p, most), take(rng, &mut s, most));
        for frame in &burst_p {
            assert!(one_by_one.primary(frame.share(), now).is_ok(), "room");
        }
        for frame in &burst_s {
            one_by_one.secondary(frame.share(), now);
        }
        let (mut burst_p, mut burst_s) = (burst_p.into_iter(), burst_s.into_iter());
        at_once.ingest(&mut burst_p, &mut burst_s, now);
        assert_eq!((burst_p.len(), burst_s.len()), (0, 0), "room");
        drain(&mut at_once, &mut left);
        drain(&mut one_by_one, &mut expected);
        assert_eq!(left, expected);
        assert_eq!(at_once.held(), one_by_one.held());
        let found = [&mut at_once, &mut one_by_one].map(|c| c.take_divergence().is_some());
        assert_eq!(found[0], found[1], "a difference is found");
    }
    for comparator in [&mut at_once, &mut one_by_one] {
        comparator.fence();
        comparator.commit(now + 1);
    }
    drain(&mut at_once, &mut left);
    drain(&mut one_by_one, &mut expected);
    assert_eq!(left, expected, "with the commit");
}

#[test]
fn what_differs_does_not_leave_with_a_burst() {
    for_cases("what_differs_in_a_burst", 10_000, a_difference_in_a_burst);
}

pub fn a_difference_in_a_burst(rng: &mut Rng) {
    let numbers = [Numbers::Translated, Numbers::OwnIsn][rng.below(2)];
    let ends = ends(rng, 0);
    let primary = Connection::random(rng, 0, &ends, numbers);
    let mut secondary = primary.clone();
    let first = spoil(rng, &mut secondary.bytes);
    // The same draws, so that both send the same segments up to the difference.
    let mut other = rng.clone();
    let mut turns = Vec::new();
    let mut p = output(rng, Side::Primary, &[primary], &mut turns);
    let mut s = output(&mut other, Side::Secondary, &[secondary], &mut turns);
    let mut harness = Harness::new(ample(p.len(), s.len()), numbers).alone();
    let most = [2, 8, 40][rng.below(3)];
    while !p.is_empty() || !s.is_empty() {
        let burst_p: Vec<Sent> = p.drain(..rng.below(most + 1).min(p.len())).collect();
        let burst_s: Vec<Sent> = s.drain(..rng.below(most + 1).min(s.len())).collect();
        harness.both(rng, &burst_p, &burst_s);
    }
    let overdue = harness.overdue();
    assert!(
        !harness.reports.is_empty() || overdue.is_some(),
        "differs at {first}, unnoticed"
    );
    harness.fence();
    harness.commit();
    assert_eq!(harness.waiting(), 0);
}
