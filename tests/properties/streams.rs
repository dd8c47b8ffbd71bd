//! Two byte streams: equal ones leave whole, different ones do not leave at all.

use colo_testkit::rng::{Rng, for_cases};
use dpdk_colo::compare::{Numbers, Reason};

use crate::harness::{Harness, Sent, ample};
use crate::model::{Meaning, Segment};
use crate::traffic::{Close, Connection, Side, ends, merge};

fn numbers(rng: &mut Rng) -> Numbers {
    [Numbers::Translated, Numbers::OwnIsn][rng.below(2)]
}

fn window(rng: &mut Rng) -> usize {
    [0, 0, 1, 3, 30][rng.below(5)]
}

fn harness_for(numbers: Numbers, merged: &[(Side, Sent)]) -> Harness {
    let primary = merged.iter().filter(|(s, _)| *s == Side::Primary).count();
    Harness::new(ample(primary, merged.len() - primary), numbers)
}

#[test]
fn equal_streams_leave_whole_and_in_order() {
    for_cases(
        "equal_streams_leave_whole_and_in_order",
        20_000,
        equal_streams,
    );
}

pub fn equal_streams(rng: &mut Rng) {
    let numbers = numbers(rng);
    let mut queues = Vec::new();
    for flow in 0..[1, 1, 2][rng.below(3)] {
        let ends = ends(rng, flow);
        let connection = Connection::random(rng, flow, &ends, numbers);
        for side in [Side::Primary, Side::Secondary] {
            let window = window(rng);
            let segments = connection.output(rng, true, 0, window);
            queues.push((side, connection.frames(rng, side, &segments)));
        }
    }
    let merged = merge(rng, queues);
    let mut harness = harness_for(numbers, &merged);
    harness.feed(rng, &merged);
    harness.assert_equal();
}

/// Flips, drops or inserts one byte of a stream; returns where the streams first differ.
pub fn spoil(rng: &mut Rng, bytes: &mut Vec<u8>) -> u32 {
    let before = bytes.clone();
    while *bytes == before {
        match rng.below(3) {
            0 if !bytes.is_empty() => {
                let i = rng.below(bytes.len());
                bytes[i] ^= 1 << rng.below(8);
            }
            1 if !bytes.is_empty() => drop(bytes.remove(rng.below(bytes.len()))),
            _ => bytes.insert(rng.below(bytes.len() + 1), rng.byte()),
        }
    }
    let same = before.iter().zip(&*bytes).take_while(|(a, b)| a == b);
    same.count() as u32
}

#[test]
fn a_stream_that_differs_in_one_byte_does_not_leave_from_there_on() {
    for_cases(
        "a_stream_that_differs_in_one_byte",
        20_000,
        a_byte_that_differs,
    );
}

pub fn a_byte_that_differs(rng: &mut Rng) {
    let numbers = numbers(rng);
    let ends = ends(rng, 0);
    let primary = Connection::random(rng, 0, &ends, numbers);
    let mut secondary = primary.clone();
    let first = spoil(rng, &mut secondary.bytes);
    let (mut primary, mut secondary) = (primary, secondary);
    if rng.one_in(2) {
        std::mem::swap(&mut primary.bytes, &mut secondary.bytes);
    }
    let ordered = rng.one_in(2);
    let p_window = if ordered { 0 } else { window(rng) };
    let s_window = window(rng);
    let p = primary.output(rng, true, 0, p_window);
    let s = secondary.output(rng, true, 0, s_window);
    let queues = vec![
        (Side::Primary, primary.frames(rng, Side::Primary, &p)),
        (Side::Secondary, secondary.frames(rng, Side::Secondary, &s)),
    ];
    let merged = merge(rng, queues);
    let mut harness = harness_for(numbers, &merged);
    harness.feed(rng, &merged);
    let overdue = harness.overdue();
    assert!(
        !harness.reports.is_empty() || overdue.is_some(),
        "differs at {first}, unnoticed"
    );
    if ordered {
        // An acknowledgment without data may leave before the difference is seen.
        let lies_behind = |p: &Segment| p.end() > first && !p.is_bare_ack();
        let sent = p.iter().filter(|p| lies_behind(p)).count();
        let covers = |sent: &Sent| matches!(&sent.meaning, Meaning::Tcp(p) if lies_behind(p));
        assert_eq!(
            harness.waiting_that(covers),
            sent,
            "P behind byte {first} have left"
        );
    }
    harness.fence();
    harness.commit();
    assert_eq!(harness.waiting(), 0);
}

#[test]
fn a_segment_with_one_flipped_byte_does_not_leave_or_witness() {
    for_cases("a_segment_with_one_flipped_byte", 20_000, a_flipped_byte);
}

pub fn a_flipped_byte(rng: &mut Rng) {
    let numbers = numbers(rng);
    let ends = ends(rng, 0);
    let connection = Connection::random(rng, 0, &ends, numbers);
    let windows = [window(rng), window(rng)];
    let mut outputs = windows.map(|window| connection.output(rng, true, 0, window));
    let spoiled = rng.below(2);
    let with_data: Vec<usize> = (0..outputs[spoiled].len())
        .filter(|&i| !outputs[spoiled][i].data.is_empty())
        .collect();
    if with_data.is_empty() {
        return;
    }
    let i = with_data[rng.below(with_data.len())];
    let data = &mut outputs[spoiled][i].data;
    let k = rng.below(data.len());
    data[k] ^= 1 << rng.below(8);
    // A single byte that was compared before is a keepalive's: no data.
    let single = data.len() == 1;
    let queues = [Side::Primary, Side::Secondary]
        .into_iter()
        .zip(&outputs)
        .map(|(side, output)| (side, connection.frames(rng, side, output)))
        .collect();
    let merged = merge(rng, queues);
    let mut harness = harness_for(numbers, &merged);
    harness.feed(rng, &merged);
    let waits = single && (spoiled == 1 || harness.overdue().is_some());
    assert!(
        !harness.reports.is_empty() || waits,
        "no difference was reported"
    );
    harness.fence();
    harness.commit();
    assert_eq!(harness.waiting(), 0);
}

#[test]
fn a_control_bit_of_one_vm_alone_does_not_leave() {
    for_cases("a_control_bit_of_one_vm_alone", 10_000, a_control_bit_alone);
}

pub fn a_control_bit_alone(rng: &mut Rng) {
    let numbers = numbers(rng);
    let ends = ends(rng, 0);
    let mut connection = Connection::random(rng, 0, &ends, numbers);
    connection.close = [Close::Fin, Close::Reset][rng.below(2)];
    let windows = [window(rng), window(rng)];
    let mut outputs = windows.map(|window| connection.output(rng, true, 0, window));
    let silent = rng.below(2);
    for segment in &mut outputs[silent] {
        (segment.fin, segment.rst) = (false, false);
    }
    let queues = [Side::Primary, Side::Secondary]
        .into_iter()
        .zip(&outputs)
        .map(|(side, output)| (side, connection.frames(rng, side, output)))
        .collect();
    let merged = merge(rng, queues);
    let mut harness = harness_for(numbers, &merged);
    harness.feed(rng, &merged);
    let overdue = harness.overdue();
    assert!(
        !harness.reports.is_empty() || overdue.is_some(),
        "unnoticed"
    );
    if silent == 1 {
        let ends_it = |sent: &Sent| matches!(&sent.meaning, Meaning::Tcp(p) if p.fin || p.rst);
        assert_ne!(harness.waiting_that(ends_it), 0, "FIN or RST has left");
    }
    harness.fence();
    harness.commit();
}

#[test]
fn nothing_is_acknowledged_that_the_secondary_has_not_acknowledged() {
    for_cases("nothing_is_acknowledged", 20_000, acknowledgments);
}

pub fn acknowledgments(rng: &mut Rng) {
    let numbers = numbers(rng);
    let ends = ends(rng, 0);
    let mut connection = Connection::random(rng, 0, &ends, numbers);
    connection.close = [Close::Never, Close::Fin][rng.below(2)];
    let (p_window, s_window) = (window(rng), window(rng));
    let p = connection.output(rng, true, 0, p_window);
    let mut s = connection.output(rng, true, 0, s_window);
    let behind = rng.below(connection.acknowledged as usize + 1) as u32;
    let gate = connection.acknowledged - behind;
    for segment in &mut s {
        segment.ack = segment.ack.map(|ack| ack.min(gate));
    }
    let queues = vec![
        (Side::Primary, connection.frames(rng, Side::Primary, &p)),
        (Side::Secondary, connection.frames(rng, Side::Secondary, &s)),
    ];
    let merged = merge(rng, queues);
    let mut harness = harness_for(numbers, &merged);
    harness.feed(rng, &merged);
    assert_eq!(harness.reports, []);
    // P leave in order, so all before the first that runs ahead, and what may overtake it.
    let is_free = |p: &Segment| p.ack.is_none_or(|ack| ack <= gate);
    let free = p.iter().take_while(|p| is_free(p)).count();
    assert!(harness.released >= free, "gate at {gate}");
    let runs_ahead = |sent: &Sent| matches!(&sent.meaning, Meaning::Tcp(p) if !is_free(p));
    let ahead = p.iter().filter(|p| !is_free(p)).count();
    assert_eq!(harness.waiting_that(runs_ahead), ahead, "gate at {gate}");
    if behind > 0 {
        assert_eq!(harness.overdue(), Some(Reason::AckAhead));
    }
    let last = Segment {
        at: connection.bytes.len() as u32,
        ack: Some(connection.acknowledged),
        ..Segment::default()
    };
    let last = connection.frame(rng, Side::Secondary, &last);
    harness.secondary(rng, &last);
    harness.assert_equal();
}
