//! Frames behind the end of a connection.

use super::*;

const FIRST: u32 = ISN.wrapping_add(1);

/// A connection of ten bytes that both ends have closed: the guest's FIN is at 10, the client's at
/// `CLIENT + 10`.
fn closed() -> (Story, Tcp) {
    let (mut story, flow) = opened();
    story.agree(&flow.fin(seq(10), CLIENT + 10));
    story.agree(&flow.data(seq(11), CLIENT + 11, b""));
    (story, flow)
}

fn opened() -> (Story, Tcp) {
    let (mut story, flow) = (Story::new(Role::Primary), Tcp(1));
    story.protect();
    story.s(&flow.syn(77, CLIENT));
    story.p(&flow.syn(ISN, CLIENT));
    story.out(&flow.syn(ISN, CLIENT));
    story.agree(&flow.data(FIRST, CLIENT + 10, b"0123456789"));
    (story, flow)
}

fn lone(story: &mut Story, bytes: &[u8]) {
    story.p(bytes);
    story.out(bytes);
}

#[test]
fn a_lone_rst_leaves_a_closed_connection_and_no_other() {
    for commit in [false, true] {
        let (mut story, flow) = closed();
        if commit {
            story.checkpoint();
        }
        lone(&mut story, &flow.rst(seq(11), None));
        assert_eq!(audit(&[&story.end()]).status(), 0, "commit {commit}");
    }
    // The VM that closed second acknowledges both at once.
    let (mut story, flow) = opened();
    let (bare, all) = (
        flow.fin(seq(10), CLIENT + 10),
        flow.fin(seq(10), CLIENT + 11),
    );
    story.p(&all);
    story.s(&bare);
    story.s(&flow.data(seq(11), CLIENT + 11, b""));
    story.out(&all);
    lone(&mut story, &flow.rst(seq(11), None));
    assert_eq!(audit(&[&story.end()]).status(), 0);

    // Half open, not closed at all, an abort, behind the end.
    let half_open = |story: &mut Story, flow: Tcp| {
        story.agree(&flow.fin(seq(10), CLIENT + 10));
    };
    type Step = fn(&mut Story, Tcp);
    let nothing: Step = |_, _| {};
    let cases: [(Step, u32, Option<u32>); 5] = [
        (half_open, 11, None),
        (nothing, 10, None),
        (
            |story, flow| {
                story.agree(&flow.data(seq(10), CLIENT + 11, b""));
            },
            10,
            None,
        ),
        (
            |story, flow| {
                story.agree(&flow.fin(seq(10), CLIENT + 10));
                story.agree(&flow.data(seq(11), CLIENT + 11, b""));
            },
            11,
            Some(CLIENT + 11),
        ),
        (
            |story, flow| {
                story.agree(&flow.fin(seq(10), CLIENT + 10));
                story.agree(&flow.data(seq(11), CLIENT + 11, b""));
            },
            12,
            None,
        ),
    ];
    for (step, at, ack) in cases {
        let (mut story, flow) = opened();
        step(&mut story, flow);
        lone(&mut story, &flow.rst(seq(at), ack));
        let (rule, record) = broken(&audit(&[&story]));
        assert_eq!((rule, record), (Rule::R1, story.records.len() - 1));
    }
}

#[test]
fn a_keepalive_leaves_if_both_vms_have_sent_it() {
    let probe = |byte: u8| Tcp(1).data(seq(9), CLIENT + 10, &[byte]);
    let (mut story, flow) = opened();
    story.agree(&probe(0));
    story.agree(&probe(0));
    story.checkpoint();
    story.agree(&probe(7));
    // The stream's own byte, and what follows it.
    story.agree(&probe(b'9'));
    story.agree(&flow.data(seq(10), CLIENT + 10, b"next"));
    assert_eq!(audit(&[&story.end()]).status(), 0);

    let refused = |story: &Story, expected: Rule| {
        let (rule, record) = broken(&audit(&[story]));
        assert_eq!((rule, record), (expected, story.records.len() - 1));
    };
    let (mut story, _) = opened();
    lone(&mut story, &probe(0));
    refused(&story, Rule::R5);
    let (mut story, _) = opened();
    story.s(&probe(1));
    lone(&mut story, &probe(0));
    refused(&story, Rule::R5);
    // One byte before the last is data.
    let (mut story, flow) = opened();
    story.agree(&flow.data(seq(8), CLIENT + 10, &[0]));
    refused(&story, Rule::R5);
}

#[test]
fn only_a_client_s_reset_drops_held_segments() {
    let (isn, again) = (seq(500), Tcp(1).syn(seq(500), 9_001));
    for (reset, clean) in [
        (Some(CLIENT + 10), true),
        (Some(CLIENT + 9), false),
        (None, false),
    ] {
        let (mut story, flow) = opened();
        story.p(&flow.data(seq(10), CLIENT + 10, b"never witnessed"));
        if let Some(seq) = reset {
            story.frame(Place::In, &flow.client_rst(seq));
        }
        story.p(&again);
        story.s(&flow.syn(isn.wrapping_add(99), 9_001));
        story.out(&again);
        let report = audit(&[&story]);
        if clean {
            assert!(report.violation.is_none(), "{report}");
        } else {
            assert_eq!(broken(&report).0, Rule::R5);
        }
    }
}

#[test]
fn the_same_isn_again_is_another_connection() {
    let (mut story, flow) = closed();
    story.p(&flow.syn(ISN, CLIENT + 900));
    story.s(&flow.syn(77, CLIENT + 900));
    story.out(&flow.syn(ISN, CLIENT + 900));
    story.agree(&flow.data(FIRST, CLIENT + 910, b"other page"));
    assert_eq!(audit(&[&story.end()]).status(), 0);
}
