//! Segments that leave in parts although the node would not have cut them.

use super::overtake::{seen, stamped, summed};
use super::*;

/// Lets the time pass after which an equal part leaves.
fn age(pair: &mut Pair) {
    pair.now += TIMEOUT / 32;
    pair.comparator.age(pair.now, 10);
}

fn with_fin(seq: u32, payload: &[u8]) -> Vec<u8> {
    summed(tcp(&Segment {
        fin: true,
        ..segment(seq, 1, payload)
    }))
}

#[test]
fn a_short_segment_leaves_in_part_where_the_secondary_waits_for_the_client() {
    let mut pair = Pair::new();
    pair.both(&stamped(1000, 1, b"abc", 10));
    assert_eq!(pair.left(), 1);
    pair.p(&stamped(1003, 1, b"defghi", 11));
    pair.s(&stamped(1003, 1, b"defg", 12));
    pair.now += LIMITS.patience + 1;
    pair.comparator.age(pair.now, 10);
    assert_eq!(pair.left(), 0, "the rest may be on its way");
    age(&mut pair);
    assert_eq!(seen(&mut pair), [(1003, 4, Some(11))]);
    pair.s(&stamped(1007, 1, b"hi", 13));
    assert_eq!(seen(&mut pair), [(1007, 2, Some(11))]);
    assert_eq!((pair.overdue(), pair.report()), (None, None));
}

#[test]
fn data_does_not_wait_for_a_fin_that_the_secondary_may_not_send_yet() {
    let mut pair = Pair::new();
    pair.both(&stamped(1000, 1, b"abc", 10));
    assert_eq!(pair.left(), 1);
    pair.p(&with_fin(1003, b"last"));
    pair.s(&stamped(1003, 1, b"last", 12));
    age(&mut pair);
    assert_eq!(seen(&mut pair), [(1003, 3, None)]);
    age(&mut pair);
    assert_eq!(seen(&mut pair), [], "the FIN is the SVM's to send");
    pair.s(&with_fin(1006, b"t"));
    assert_eq!(seen(&mut pair), [(1006, 1, None)]);
}

#[test]
fn a_segment_with_a_wrong_checksum_leaves_whole() {
    let mut pair = Pair::new();
    pair.both(&stamped(1000, 1, b"abc", 10));
    assert_eq!(pair.left(), 1);
    let mut wrong = stamped(1003, 1, b"defghi", 11);
    *wrong.last_mut().expect("a payload") ^= 1;
    pair.p(&wrong);
    pair.s(&stamped(1003, 1, b"defg", 12));
    age(&mut pair);
    assert_eq!(
        pair.left(),
        0,
        "a part would need a checksum, and get a right one"
    );
}

#[test]
fn the_part_of_a_retransmission_that_the_secondary_has_repeated_overtakes() {
    let limits = Limits {
        history: 0,
        ..LIMITS
    };
    let mut pair = Pair::with(limits, Vec::new());
    pair.both(&stamped(1000, 1, b"abcdef", 10));
    assert_eq!(pair.left(), 1);
    pair.p(&stamped(1006, 1, b"held", 11));
    pair.p(&stamped(1000, 1, b"abcdef", 12));
    pair.s(&stamped(1000, 1, b"abcd", 13));
    assert_eq!(seen(&mut pair), [(1000, 4, Some(12))]);
    pair.s(&stamped(1004, 1, b"ef", 14));
    assert_eq!(seen(&mut pair), [(1004, 2, Some(12))]);
}

#[test]
fn a_signed_segment_leaves_whole() {
    // TCP-MD5 (RFC 2385): kind, length, digest, and padding.
    let mut options = vec![19, 18];
    options.resize(18, 7);
    options.resize(20, 1);
    let signed = |seq, payload: &[u8]| {
        summed(tcp(&Segment {
            options: options.clone(),
            ..segment(seq, 1, payload)
        }))
    };
    let mut pair = Pair::new();
    pair.both(&signed(1000, b"abc"));
    assert_eq!(pair.left(), 1);
    pair.p(&signed(1003, b"defghi"));
    pair.s(&signed(1003, b"defg"));
    age(&mut pair);
    assert_eq!(pair.left(), 0, "a part would need a signature of its own");
    pair.s(&signed(1007, b"hi"));
    assert_eq!(seen(&mut pair), [(1003, 6, None)]);
}
