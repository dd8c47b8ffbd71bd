//! Retransmissions and bare acknowledgments that leave before older output, and what must not.

use dpdk_colo_audit::Rule;
use dpdk_colo_audit::record::Role;

use crate::frames::{ACK, Tcp};
use crate::story::{Story, audit};
use crate::{ISN, broken};

const FLOW: Tcp = Tcp(1);
/// The server's numbers wrap between what has left and what is held.
const OLD: u32 = u32::MAX - 1;
const NEW: u32 = 2;
const END: u32 = 5;

fn old(value: u32) -> Vec<u8> {
    FLOW.stamped(OLD, 1, value, b"old!")
}

fn new(value: u32) -> Vec<u8> {
    FLOW.stamped(NEW, 1, value, b"new")
}

/// Four bytes have left and three wait for the SVM.
fn ahead() -> Story {
    let mut story = Story::new(Role::Primary);
    story.protect();
    story.agree(&old(10));
    story.p(&new(11));
    story
}

/// What leaves of `sent` breaks this rule.
fn breaks(mut story: Story, sent: &[u8], left: &[u8], rule: Rule) {
    story.p(sent);
    let out = story.out(left);
    assert_eq!(broken(&audit(&[&story.end()])), (rule, out));
}

#[test]
fn frames_that_may_overtake_pass() {
    let mut story = ahead();
    story.p(&old(12));
    story.out(&old(12));
    let bare = |seq, value| FLOW.stamped(seq, 1, value, b"");
    story.p(&bare(END, 13));
    story.out(&bare(NEW, 13));
    // A probe of the client's window keeps its number.
    story.p(&bare(NEW - 1, 14));
    story.out(&bare(NEW - 1, 14));
    // A piece of a segment that the node cuts: its old bytes.
    let long = FLOW.stamped(OLD + 1, 1, 15, b"ld!new");
    story.p(&long);
    story.out(&FLOW.stamped(OLD + 1, 1, 15, b"ld!"));
    story.s(&new(99));
    story.out(&new(15));
    story.out(&FLOW.stamped(NEW, 1, 15, b"new"));
    story.agree(&FLOW.stamped(END, 1, 16, b"more"));
    let report = audit(&[&story.end()]);
    assert_eq!(report.status(), 0, "{report}");
}

#[test]
fn what_a_commit_covers_has_not_left_before_it_does() {
    let bare = |seq, value| FLOW.stamped(seq, 1, value, b"");
    // The node had let an acknowledgment overtake before the commit, and the uplink took it afterwards.
    let mut story = Story::new(Role::Primary);
    story.protect();
    story.agree(&old(10));
    story.p(&FLOW.stamped(OLD + 1, 1, 12, b"ld!new"));
    story.p(&bare(END, 13));
    story.checkpoint();
    story.out(&bare(NEW, 13));
    story.out(&FLOW.stamped(OLD + 1, 1, 13, b"ld!new"));
    let report = audit(&[&story.end()]);
    assert_eq!(report.status(), 0, "{report}");
    // The order of what leaves for the first time stays.
    let mut story = ahead();
    story.p(&FLOW.stamped(END, 1, 12, b"more"));
    story.checkpoint();
    let out = story.out(&FLOW.stamped(END, 1, 12, b"more"));
    assert_eq!(broken(&audit(&[&story.end()])), (Rule::R5, out));
}

#[test]
fn a_segment_with_one_new_byte_that_overtakes_is_named() {
    let joined = FLOW.stamped(OLD, 1, 12, b"old!n");
    let mut story = ahead();
    // The SVM has sent it, and it is the byte that is to leave next.
    story.s(&FLOW.stamped(NEW, 1, 90, b"n"));
    breaks(story, &joined, &joined, Rule::R5);
    let fin = FLOW.fin(END, 1);
    let mut story = ahead();
    story.s(&FLOW.fin(END, 1));
    breaks(story, &fin, &fin, Rule::R5);
}

#[test]
fn what_overtakes_past_the_acknowledgment_gate_is_named() {
    let again = FLOW.stamped(OLD, 9, 12, b"old!");
    breaks(ahead(), &again, &again, Rule::R4);
    let bare = FLOW.stamped(END, 9, 12, b"");
    let mut lowered = bare.clone();
    lowered[ACK - 4..ACK].copy_from_slice(&NEW.to_be_bytes());
    breaks(ahead(), &bare, &lowered, Rule::R4);
}

#[test]
fn a_time_stamp_that_goes_back_is_named() {
    let mut story = ahead();
    story.p(&old(12));
    story.out(&old(12));
    story.s(&new(90));
    let out = story.out(&new(11));
    assert_eq!(broken(&audit(&[&story.end()])), (Rule::R2, out));
    // Nor is one raised for nothing.
    breaks(ahead(), &old(12), &old(13), Rule::R2);
    // Times wrap.
    let mut story = Story::new(Role::Primary);
    story.protect();
    story.agree(&old(u32::MAX));
    story.p(&new(0));
    story.p(&old(1));
    story.out(&old(1));
    story.s(&new(90));
    let raised = story.out(&new(1));
    assert_eq!(audit(&[&story.clone().end()]).status(), 0);
    *story.bytes(raised) = new(0).into();
    assert_eq!(broken(&audit(&[&story.end()])), (Rule::R2, raised));
}

#[test]
fn an_acknowledgment_with_a_number_above_what_has_left_is_named() {
    let bare = |seq| FLOW.stamped(seq, 1, 12, b"");
    breaks(ahead(), &bare(END), &bare(END), Rule::R2);
    breaks(ahead(), &bare(END), &bare(NEW + 1), Rule::R2);
    breaks(ahead(), &bare(NEW - 1), &bare(NEW), Rule::R2);
    // In order it keeps its own.
    let mut story = Story::new(Role::Primary);
    story.protect();
    story.agree(&old(10));
    breaks(story, &bare(NEW), &bare(NEW - 1), Rule::R2);
}

#[test]
fn a_retransmission_with_another_byte_is_named() {
    let other = FLOW.stamped(OLD, 1, 12, b"oXd!");
    breaks(ahead(), &other, &other, Rule::R5);
    breaks(ahead(), &old(12), &other, Rule::R5);
}

#[test]
fn overtaking_where_nothing_may_is_reported() {
    // The connection has diverged.
    let mut story = ahead();
    story.s(&FLOW.stamped(NEW, 1, 90, b"nXw"));
    story.agree(&Tcp(2).data(1, 1, b"another flow"));
    breaks(story, &old(12), &old(12), Rule::R2);
    // Nothing is compared.
    let mut story = ahead();
    story.fence();
    breaks(story, &old(12), &old(12), Rule::R2);
    // Past the SYN of the next connection on the same ports.
    let mut story = ahead();
    story.p(&FLOW.syn(ISN + 5, 1));
    breaks(story, &old(12), &old(12), Rule::R5);
    // The segments are signed.
    let signed = |seq, payload: &[u8]| {
        let mut options = vec![19, 18];
        options.resize(18, 7);
        options.resize(20, 1);
        FLOW.with(seq, 1, &options, payload)
    };
    let mut story = Story::new(Role::Primary);
    story.protect();
    story.agree(&signed(1, b"old"));
    story.p(&signed(4, b"new"));
    breaks(story, &signed(1, b"old"), &signed(1, b"old"), Rule::R2);
}
