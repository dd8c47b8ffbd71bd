//! Segments that a node splits.

use dpdk_colo_audit::Rule;
use dpdk_colo_audit::record::Role;

use crate::broken;
use crate::frames::Tcp;
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
