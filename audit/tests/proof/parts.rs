//! Segments that a node splits.

use dpdk_colo_audit::Rule;
use dpdk_colo_audit::record::Role;

use crate::broken;
use crate::frames::{FLAGS, Tcp};
use crate::story::{Story, audit};

const FLOW: Tcp = Tcp(1);

/// The PVM has sent the same bytes in two segments of unlike length; the SVM has sent the first six of them.
fn twice() -> Story {
    let mut story = Story::new(Role::Primary);
    story.protect();
    story.agree(&FLOW.data(1, 1, b"old"));
    story.p(&FLOW.data(4, 1, b"abcdefgh"));
    story.p(&FLOW.data(4, 1, b"abcdefg"));
    story.s(&FLOW.data(4, 1, b"abcdef"));
    story
}

fn part(seq: u32, payload: &[u8]) -> Vec<u8> {
    FLOW.data(seq, 1, payload)
}

#[test]
fn parts_of_segments_with_the_same_bytes_differ_by_what_follows() {
    let mut story = twice();
    // A part of the second, which could be one of the first.
    story.out(&part(4, b"abc"));
    story.out(&part(4, b"abcdef"));
    story.out(&part(7, b"def"));
    story.s(&part(10, b"gh"));
    story.out(&part(10, b"gh"));
    story.out(&part(10, b"g"));
    let report = audit(&[&story.end()]);
    assert_eq!(report.status(), 0, "{report}");
}

/// With PSH, which leaves with the last part.
fn pushed(seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = part(seq, payload);
    frame[FLAGS] |= 8;
    frame
}

#[test]
fn parts_of_three_segments_differ_by_what_follows() {
    let mut story = Story::new(Role::Primary);
    story.protect();
    story.agree(&FLOW.data(1, 1, b"old"));
    story.agree(&part(4, b"abcdefgh"));
    story.p(&pushed(4, b"abcdefghijkl"));
    story.p(&pushed(6, b"cdefghijk"));
    story.p(&pushed(4, b"abcdef"));
    // Of the second, the third, the second; the last two could be of the first.
    story.out(&part(6, b"cd"));
    story.out(&part(4, b"abcd"));
    story.out(&part(8, b"efgh"));
    // The end of the third.
    story.out(&pushed(8, b"ef"));
    let mut again = story.clone();
    story.s(&part(12, b"ijkl"));
    story.out(&pushed(4, b"abcdefghijkl"));
    story.out(&pushed(12, b"ijk"));
    let report = audit(&[&story.end()]);
    assert_eq!(report.status(), 0, "{report}");
    let out = again.out(&pushed(8, b"ef"));
    assert_eq!(broken(&audit(&[&again.end()])), (Rule::R5, out));
}

#[test]
fn a_part_that_leaves_more_often_than_it_was_sent_is_named() {
    let mut story = twice();
    story.out(&part(4, b"abc"));
    story.out(&part(4, b"abc"));
    let out = story.out(&part(4, b"abc"));
    assert_eq!(broken(&audit(&[&story.end()])), (Rule::R5, out));
}

#[test]
fn a_part_with_a_byte_that_the_secondary_has_not_sent_is_named() {
    let mut story = Story::new(Role::Primary);
    story.protect();
    story.agree(&FLOW.data(1, 1, b"old"));
    story.p(&part(4, b"abcdefgh"));
    story.s(&part(4, b"abc"));
    let out = story.out(&part(4, b"abcd"));
    assert_eq!(broken(&audit(&[&story.end()])), (Rule::R1, out));
}

#[test]
fn a_fin_before_the_last_part_is_named() {
    let mut story = twice();
    let mut fin = FLOW.fin(4, 1);
    fin.extend(b"abc");
    let length = u16::from_be_bytes([fin[16], fin[17]]) + 3;
    fin[16..18].copy_from_slice(&length.to_be_bytes());
    let out = story.out(&fin);
    assert_eq!(broken(&audit(&[&story.end()])), (Rule::R1, out));
}

/// A part of an older segment has left, and waits with the rest of it; the VM sends that rest again as a segment of its
/// own. The commit lets all leave in the VM's order.
fn rest_sent_again(rest: &[u8]) -> Story {
    let mut story = Story::new(Role::Primary);
    story.protect();
    story.agree(&part(1, b"abc"));
    story.p(&part(4, b"defg"));
    story.p(&part(1, b"abcdef"));
    story.p(&part(8, b"hi"));
    story.s(&part(1, b"abc"));
    story.out(&part(1, b"abc"));
    story.p(&part(4, rest));
    story.checkpoint();
    story.out(&part(4, b"defg"));
    story
}

#[test]
fn the_rest_of_a_segment_is_the_oldest_s_that_it_fits() {
    let mut story = rest_sent_again(b"def");
    story.out(&part(4, b"def"));
    story.out(&part(8, b"hi"));
    let mut again = story.clone();
    story.out(&part(4, b"def"));
    let report = audit(&[&story.end()]);
    assert_eq!(report.status(), 0, "{report}");
    again.out(&part(4, b"def"));
    let out = again.out(&part(4, b"def"));
    assert_eq!(broken(&audit(&[&again.end()])), (Rule::R5, out));
}

/// The port cuts the rest, and a part of it looks like the whole one that came later.
#[test]
fn what_looks_like_a_whole_segment_may_be_a_part_of_an_older_one() {
    let mut story = rest_sent_again(b"de");
    story.out(&part(4, b"de"));
    story.out(&part(6, b"f"));
    story.out(&part(8, b"hi"));
    let mut again = story.clone();
    story.out(&part(4, b"de"));
    let report = audit(&[&story.end()]);
    assert_eq!(report.status(), 0, "{report}");
    let out = again.out(&part(6, b"f"));
    assert_eq!(broken(&audit(&[&again.end()])), (Rule::R5, out));
}
