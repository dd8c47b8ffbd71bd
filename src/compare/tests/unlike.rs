//! Segments in order with other boundaries: what the cursor's path compares, lets leave and keeps, and what it leaves to
//! the general path.

use super::overtake::{seen, stamped};
use super::*;

/// A connection whose VMs have both sent three bytes before number 1000, so that what goes on from there may take the
/// fast path.
fn open() -> Pair {
    opened_with(LIMITS)
}

fn opened_with(limits: Limits) -> Pair {
    let mut pair = Pair::with(limits, Vec::new());
    pair.both(&data(997, b"..."));
    assert_eq!(pair.left(), 1);
    pair
}

/// P that took the general path.
fn general(pair: &Pair) -> u64 {
    pair.comparator.counts().general
}

fn with_ack(seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    tcp(&segment(seq, ack, payload))
}

#[test]
fn boundaries_of_both_vms_do_not_matter_and_cost_no_general_path() {
    for [p, s] in [
        [&[6][..], &[2, 4][..]],
        [&[2, 4], &[6]],
        [&[4, 2, 5, 1], &[3, 9]],
        [&[1, 1, 10], &[5, 6, 1]],
    ] {
        let stream = b"abcdefghijkl";
        let frames = |lengths: &[usize]| {
            let mut at = 0;
            let mut frames = Vec::new();
            for len in lengths {
                frames.push(data(1000 + at as u32, &stream[at..at + len]));
                at += len;
            }
            frames
        };
        let (ps, ss) = (frames(p), frames(s));
        for primary_first in [true, false] {
            let mut pair = open();
            let before = general(&pair);
            if primary_first {
                ps.iter().for_each(|p| pair.p(p));
                ss.iter().for_each(|s| pair.s(s));
            } else {
                ss.iter().for_each(|s| pair.s(s));
                ps.iter().for_each(|p| pair.p(p));
            }
            let case = format!("{p:?} {s:?} P first: {primary_first}");
            assert_eq!(pair.left(), ps.len(), "{case}");
            assert_eq!(general(&pair), before, "{case}");
            assert_eq!((pair.overdue(), pair.report()), (None, None), "{case}");
            // Each byte has its witness among the history, wherever the boundaries are.
            pair.p(&data(1001, &stream[1..p.iter().sum::<usize>() - 1]));
            assert_eq!(pair.left(), 1, "{case}");
            pair.p(&data(1001, b"X"));
            assert_eq!(pair.report(), Some(Reason::Payload), "{case}");
        }
    }
}

#[test]
fn a_byte_that_differs_behind_equal_ones_does_not_leave() {
    let mut pair = open();
    pair.p(&data(1000, b"abc"));
    pair.p(&data(1003, b"def"));
    pair.s(&data(1000, b"abcdeX"));
    assert_eq!((pair.left(), pair.report()), (0, Some(Reason::Payload)));
    let mut pair = open();
    pair.s(&data(1000, b"ab"));
    pair.s(&data(1002, b"cX"));
    pair.p(&data(1000, b"abcd"));
    assert_eq!((pair.left(), pair.report()), (0, Some(Reason::Payload)));
    // In the second part of a frame, whose first part was equal.
    let mut pair = open();
    pair.p(&data(1000, b"abcd"));
    pair.s(&data(1000, b"ab"));
    pair.s(&data(1002, b"cX"));
    assert_eq!((pair.left(), pair.report()), (0, Some(Reason::Payload)));
    let mut pair = open();
    pair.s(&data(1000, b"abcd"));
    pair.p(&data(1000, b"ab"));
    pair.p(&data(1002, b"cX"));
    assert_eq!((pair.left(), pair.report()), (1, Some(Reason::Payload)));
}

#[test]
fn a_segment_of_the_secondary_opens_the_gate_for_no_more_than_it_acknowledges() {
    let mut pair = open();
    pair.p(&with_ack(1000, 1, b"abc"));
    pair.p(&with_ack(1003, 9, b"def"));
    pair.s(&with_ack(1000, 1, b"abcdef"));
    assert_eq!(pair.left(), 1, "the SVM has acknowledged less");
    pair.s(&with_ack(1006, 9, b""));
    assert_eq!(pair.left(), 1);
    let mut pair = open();
    pair.s(&with_ack(1000, 1, b"abcd"));
    pair.p(&with_ack(1000, 9, b"ab"));
    assert_eq!(pair.left(), 0);
    pair.s(&with_ack(1004, 9, b"e"));
    pair.p(&with_ack(1002, 9, b"cde"));
    assert_eq!(pair.left(), 2);
    assert_eq!((pair.overdue(), pair.report()), (None, None));
}

#[test]
fn a_fin_that_a_long_segment_covers_needs_its_own() {
    let mut pair = open();
    pair.p(&data(1000, b"abc"));
    pair.p(&fin(1003, 1, b"def"));
    pair.s(&data(1000, b"abcdef"));
    assert_eq!(pair.left(), 1);
    pair.s(&fin(1006, 1, b""));
    assert_eq!(pair.left(), 1);
    assert_eq!((pair.overdue(), pair.report()), (None, None));
}

#[test]
fn bytes_between_two_segments_are_waited_for() {
    let mut pair = open();
    pair.s(&data(1000, b"ab"));
    pair.s(&data(1004, b"ef"));
    pair.p(&data(1000, b"abcdef"));
    assert_eq!(pair.left(), 0);
    pair.s(&data(1002, b"cd"));
    assert_eq!(pair.left(), 1);
    let mut pair = open();
    pair.p(&data(1000, b"ab"));
    pair.p(&data(1004, b"ef"));
    pair.s(&data(1000, b"abcdef"));
    assert_eq!(pair.left(), 2, "in the PVM's order");
    pair.p(&data(1002, b"cd"));
    assert_eq!((pair.report(), pair.left()), (None, 1));
    // What lies behind the gap is compared with its own bytes.
    let mut pair = open();
    pair.p(&data(1000, b"ab"));
    pair.p(&data(1004, b"efgh"));
    pair.s(&data(1000, b"abefgh"));
    assert_eq!((pair.left(), pair.report()), (0, Some(Reason::Payload)));
}

#[test]
fn what_is_left_of_a_segment_waits_for_its_counterpart() {
    let mut pair = open();
    pair.p(&data(1000, b"abc"));
    pair.s(&data(1000, b"abcdef"));
    assert_eq!(pair.left(), 1);
    assert_eq!(pair.overdue(), Some(Reason::MissingPrimary));
    pair.p(&data(1003, b"defgh"));
    assert_eq!(pair.left(), 0);
    assert_eq!(pair.overdue(), Some(Reason::MissingSecondary));
    pair.s(&data(1006, b"gh"));
    assert_eq!(pair.left(), 1);
    assert_eq!(pair.overdue(), None);
}

#[test]
fn a_p_knows_when_the_last_of_its_counterparts_came() {
    let mut pair = open();
    pair.s(&data(1000, b"ab"));
    pair.s(&data(1002, b"cdef"));
    let last = pair.now;
    pair.p(&data(1000, b"abcd"));
    let release = pair.comparator.next_release().expect("equal");
    assert_eq!(release.witnessed, Some(last));
    assert_eq!((release.arrived, release.cleared), (pair.now, pair.now));
    pair.p(&data(1004, b"efgh"));
    let arrived = pair.now;
    pair.s(&data(1006, b"ghi"));
    let release = pair.comparator.next_release().expect("equal");
    assert_eq!(release.witnessed, Some(pair.now));
    assert_eq!((release.arrived, release.cleared), (arrived, pair.now));
}

#[test]
fn all_that_a_segment_completes_advertises_its_window() {
    let windows = |pair: &mut Pair| -> Vec<u16> {
        std::iter::from_fn(|| pair.comparator.next_release())
            .map(|release| {
                let bytes = release.frame.to_vec();
                Packet::parse(&bytes, bytes.len()).tcp.window
            })
            .collect()
    };
    let with_window = |seq, window, payload: &[u8]| {
        tcp(&Segment {
            window,
            ..segment(seq, 1, payload)
        })
    };
    let mut pair = open();
    pair.p(&with_window(1000, 100, b"ab"));
    pair.p(&with_window(1002, 5, b"cd"));
    pair.p(&with_window(1004, 100, b"ef"));
    pair.s(&with_window(1000, 7, b"abcde"));
    assert_eq!(windows(&mut pair), [7, 5]);
    pair.s(&with_window(1005, 9, b"fgh"));
    pair.p(&with_window(1006, 100, b"g"));
    assert_eq!(windows(&mut pair), [9, 9]);
}

#[test]
fn a_part_that_was_equal_leaves_in_time() {
    for primary_first in [true, false] {
        let mut pair = open();
        let (p, s) = (
            stamped(1000, 1, b"abcdef", 11),
            stamped(1000, 1, b"abcd", 12),
        );
        if primary_first {
            pair.p(&p);
            pair.s(&s);
        } else {
            pair.s(&s);
            pair.p(&p);
        }
        assert_eq!(pair.left(), 0);
        pair.now += TIMEOUT / 32;
        pair.comparator.age(pair.now, 10);
        assert_eq!(seen(&mut pair), [(1000, 4, Some(11))], "{primary_first}");
        pair.s(&stamped(1004, 1, b"efgh", 13));
        assert_eq!(seen(&mut pair), [(1004, 2, Some(11))], "{primary_first}");
    }
}

#[test]
fn what_has_left_may_leave_again_and_what_is_held_may_not() {
    // The fast path lets P leave whole, and begins with the next one.
    let mut pair = open();
    pair.p(&stamped(1000, 1, b"abcd", 10));
    pair.p(&stamped(1004, 1, b"efgh", 11));
    pair.p(&stamped(1008, 1, b"ijkl", 12));
    pair.s(&stamped(1000, 1, b"abcdef", 13));
    assert_eq!(seen(&mut pair), [(1000, 4, Some(10))]);
    pair.p(&stamped(1004, 1, b"ef", 14));
    assert_eq!(seen(&mut pair), [], "none of its bytes has left");
    pair.p(&stamped(1002, 1, b"cd", 15));
    pair.p(&stamped(1000, 1, b"abcdef", 16));
    assert_eq!(seen(&mut pair), [(1002, 2, Some(15)), (1000, 4, Some(16))]);
    // The same behind a P that the general path began with.
    let mut pair = open();
    pair.p(&stamped(1000, 1, b"abcd", 10));
    pair.s(&stamped(998, 1, b"..ab", 11));
    pair.p(&stamped(1004, 1, b"efgh", 12));
    pair.s(&stamped(1002, 1, b"cdef", 13));
    assert_eq!(seen(&mut pair), [(1000, 4, Some(10))]);
    pair.p(&stamped(1000, 1, b"abcd", 14));
    assert_eq!(seen(&mut pair), [(1000, 4, Some(14))]);
    pair.p(&stamped(1004, 1, b"ef", 15));
    assert_eq!(seen(&mut pair), []);
    // And behind one that came after its S.
    let mut pair = open();
    pair.s(&stamped(1000, 1, b"abcd", 10));
    pair.p(&stamped(1000, 1, b"ab", 11));
    pair.p(&stamped(1002, 1, b"cdef", 12));
    assert_eq!(seen(&mut pair), [(1000, 2, Some(11))]);
    pair.p(&stamped(1000, 1, b"ab", 13));
    assert_eq!(seen(&mut pair), [(1000, 2, Some(13))]);
    pair.p(&stamped(1002, 1, b"cd", 14));
    assert_eq!(seen(&mut pair), []);
}

#[test]
fn what_has_left_is_known_where_the_history_is_gone() {
    let limits = Limits {
        history: 0,
        ..LIMITS
    };
    let mut pair = opened_with(limits);
    pair.p(&stamped(1000, 1, b"abcdef", 10));
    // Each repeats what no witness is left of, so that the range of what was compared begins behind it.
    pair.s(&stamped(997, 1, b"...a", 11));
    pair.s(&stamped(997, 1, b"...a", 12));
    pair.s(&stamped(1001, 1, b"bcdef", 13));
    assert_eq!(seen(&mut pair), [(1000, 6, Some(10))]);
    pair.p(&stamped(1006, 1, b"held", 14));
    pair.p(&stamped(997, 1, b"...abcdef", 15));
    pair.s(&stamped(997, 1, b"...abcdef", 16));
    assert_eq!(seen(&mut pair), [(997, 9, Some(15))]);
}

#[test]
fn a_fence_in_the_middle_of_a_segment_leaves_what_was_compared() {
    let mut pair = open();
    pair.s(&data(1000, b"abcdef"));
    pair.p(&data(1000, b"abc"));
    assert_eq!(pair.left(), 1);
    pair.checkpoint();
    pair.p(&data(1003, b"DEF"));
    assert_eq!((pair.left(), pair.report()), (0, None), "of another epoch");
    pair.p(&data(1000, b"abc"));
    assert_eq!(pair.left(), 1, "from history");
    pair.s(&data(1003, b"DEF"));
    assert_eq!((pair.left(), pair.report()), (1, None));
    // A P that was equal in part leaves with the commit, and what follows is compared anew.
    let mut pair = open();
    pair.p(&data(1000, b"abcdef"));
    pair.s(&data(1000, b"abc"));
    assert_eq!(pair.left(), 0);
    pair.checkpoint();
    assert_eq!(pair.left(), 1);
    pair.p(&data(1006, b"gh"));
    pair.s(&data(1006, b"ghi"));
    pair.p(&data(1002, b"cdef"));
    assert_eq!((pair.left(), pair.report()), (2, None));
}
