//! Bytes that a mask rule lets differ, and those beside them.

use super::*;
use crate::compare::masked::ROUND;

const LITERAL: &str = "Date: ";
/// The longest value.
const MOST: usize = 32;

fn mask() -> Mask {
    Mask {
        literal: LITERAL.into(),
        extent: Extent::Until {
            end: b'\r',
            most: MOST,
        },
        tried: false,
        expires: None,
    }
}

fn rule(name: &str, mask: Mask) -> Rule {
    Rule {
        name: name.into(),
        protocols: vec![6],
        port: Some(80),
        mask: Some(mask),
        ..Rule::default()
    }
}

/// A SYN+ACK.
fn syn(ends: &Ends, seq: u32, ack: u32) -> Vec<u8> {
    let syn = Segment {
        seq,
        ack: Some(ack),
        syn: true,
        options: packets::syn_options(1460, None),
        ..Segment::default()
    };
    packets::tcp(ends, &syn, 0)
}

/// A connection to port 80 that both VMs have opened, under a rule.
struct Lab {
    pair: Pair,
    ends: Ends,
    next: [u32; 2],
}

impl Lab {
    fn new(mask: Mask) -> Self {
        Self::with(80, vec![rule("date", mask)])
    }

    fn with(port: u16, rules: Vec<Rule>) -> Self {
        Self::limited(LIMITS, port, rules)
    }

    fn limited(limits: Limits, port: u16, rules: Vec<Rule>) -> Self {
        let mut lab = Self {
            pair: Pair::with(limits, rules),
            ends: ends(port),
            next: [1000; 2],
        };
        lab.pair.both(&syn(&lab.ends, 999, 1));
        assert_eq!(lab.pair.left(), 1);
        lab
    }

    fn frame(&self, seq: u32, text: &str) -> Vec<u8> {
        packets::tcp(&self.ends, &segment(seq, 1, text.as_bytes()), 0)
    }

    fn p(&mut self, text: &str) {
        let frame = self.frame(self.next[0], text);
        self.next[0] += text.len() as u32;
        self.pair.p(&frame);
    }

    fn s(&mut self, text: &str) {
        let frame = self.frame(self.next[1], text);
        self.next[1] += text.len() as u32;
        self.pair.s(&frame);
    }

    fn both(&mut self, p: &str, s: &str) {
        self.p(p);
        self.s(s);
    }

    fn used(&self) -> Vec<u64> {
        let uses = self.pair.comparator.policy().uses();
        uses.skip(5).map(|(_, used)| used).collect()
    }

    /// All has left, and the rule has masked this many bytes.
    fn masked(&mut self, p: usize, used: u64) {
        assert_eq!(self.pair.report(), None);
        assert_eq!(self.pair.left(), p);
        assert_eq!(self.used(), [used]);
    }

    /// It differs at an offset of the stream.
    fn differs(&mut self, at: u32) {
        let found = self
            .pair
            .comparator
            .take_divergence()
            .expect("a difference");
        assert_eq!(
            (found.reason, found.stream_offset),
            (Reason::Payload, Some(at))
        );
        assert_eq!(self.pair.left(), 0);
    }
}

#[test]
fn a_value_may_differ_in_letters_and_digits() {
    for secondary_first in [false, true] {
        let mut lab = Lab::new(mask());
        let texts = [
            "OK\r\nDate: Mon 10:59:58\r\n\r\nbody",
            "OK\r\nDate: Tue 11:59:59\r\n\r\nbody",
        ];
        if secondary_first {
            lab.s(texts[1]);
            lab.p(texts[0]);
        } else {
            lab.both(texts[0], texts[1]);
        }
        lab.masked(1, 5);
        lab.both("more", "more");
        lab.masked(1, 5);
    }
}

#[test]
fn a_pattern_may_lie_in_several_segments_cut_otherwise_by_each_vm() {
    let mut lab = Lab::new(mask());
    for part in ["OK\r\nDa", "te: 10:", "00", ":01\r\n"] {
        lab.p(part);
    }
    for part in ["OK\r\nDate", ": 10:00:", "02\r", "\n"] {
        lab.s(part);
    }
    lab.masked(4, 1);
    // In the order of a fast path: each segment leaves before the next comes.
    let mut lab = Lab::new(mask());
    for (p, s) in [
        ("OK\r\nDate:", "OK\r\nDate:"),
        (" 10:", " 20:"),
        ("00:01", "00:02"),
        ("\r\n", "\r\n"),
    ] {
        lab.both(p, s);
    }
    lab.masked(4, 2);
}

#[test]
fn a_byte_beside_the_value_differs() {
    let head = "OK\r\nDate: 10:00:01\r\n";
    for (p, s, at) in [
        // Behind the value, and in the literal.
        (
            "OK\r\nDate: 10:00:01\r\nX",
            "OK\r\nDate: 10:00:02\r\nY",
            head.len(),
        ),
        ("OK\r\nDate: 1", "OK\r\nDatE: 1", 7),
        ("OK\r\nDate= 1\r\n", "OK\r\nDate= 2\r\n", 10),
        // In the value, but neither a letter nor a digit.
        ("OK\r\nDate: 1:2\r\n", "OK\r\nDate: 1-2\r\n", 11),
        ("OK\r\nDate:  9\r\n", "OK\r\nDate: 10\r\n", 10),
        // A value that one VM ends earlier.
        ("OK\r\nDate: 10\r\n", "OK\r\nDate: 101\r", 12),
        ("OK\r\nDate: 101\r", "OK\r\nDate: 10\r\n", 12),
    ] {
        let mut lab = Lab::new(mask());
        lab.both(p, s);
        lab.differs(at as u32);
        assert_eq!(lab.used(), [0], "what leaves by a commit is not masked");
    }
}

#[test]
fn a_value_is_masked_up_to_its_longest() {
    for (extra, differs) in [(0, false), (1, true)] {
        let mut lab = Lab::new(mask());
        let same = "a".repeat(MOST - 1 + extra);
        lab.both(&format!("Date: {same}1"), &format!("Date: {same}2"));
        if differs {
            lab.differs((LITERAL.len() + MOST) as u32);
        } else {
            lab.masked(1, 1);
        }
    }
    let fixed = Mask {
        extent: Extent::Length(3),
        ..mask()
    };
    let mut lab = Lab::new(fixed.clone());
    lab.both("Date: 123x", "Date: 456x");
    lab.masked(1, 3);
    let mut lab = Lab::new(fixed);
    lab.both("Date: 1234x", "Date: 1235x");
    lab.differs(9);
}

/// Values of the longest kind one after the other, each of this letter.
fn values(number: usize, letter: &str) -> String {
    format!("{LITERAL}{}", letter.repeat(MAX_VALUE)).repeat(number)
}

#[test]
fn a_guest_cannot_keep_a_poll_core_busy_with_bytes_that_differ() {
    let long = || Mask {
        extent: Extent::Length(MAX_VALUE),
        ..mask()
    };
    let most = ROUND / MAX_VALUE;
    let mut lab = Lab::new(long());
    for round in 1..4 {
        lab.both(&values(most, "a"), &values(most, "b"));
        lab.masked(1, (round * ROUND) as u64);
    }
    let mut lab = Lab::new(long());
    lab.both(&values(most + 1, "a"), &values(most + 1, "b"));
    lab.differs(((most + 1) * LITERAL.len() + ROUND) as u32);
    assert_eq!(lab.used(), [0]);
}

#[test]
fn a_rule_concerns_its_flows_only() {
    let mut lab = Lab::with(81, vec![rule("date", mask())]);
    lab.both("Date: 1\r", "Date: 2\r");
    lab.differs(6);
}

#[test]
fn a_masked_byte_leaves_again_only_as_it_left() {
    let (p, s) = ("Date: 10:00:01\r\n", "Date: 10:00:02\r\n");
    for (again, differs) in [(p, false), (s, true), ("Date: 10:00:03\r\n", true)] {
        let mut lab = Lab::new(mask());
        lab.both(p, s);
        lab.masked(1, 1);
        let frame = lab.frame(1000, again);
        lab.pair.p(&frame);
        if differs {
            // Also where it equals history: it would be the byte's second value (rule R5).
            lab.differs(13);
        } else {
            lab.masked(1, 1);
        }
    }
    // A byte that was equal is not masked when it comes again.
    let mut lab = Lab::new(mask());
    lab.both(p, p);
    lab.masked(1, 0);
    let frame = lab.frame(1000, s);
    lab.pair.p(&frame);
    lab.differs(13);
}

#[test]
fn the_svm_may_repeat_a_masked_byte_as_the_pvm_sent_it() {
    let (p, s) = ("Date: 10:00:01\r\n", "Date: 20:00:02\r\n");
    for (again, inconsistent) in [
        (p, false),
        (s, false),
        ("Date: 10:00:02\r\n", false),
        ("Date: 20:00:01\r\n", false),
        ("Date: 10:00:03\r\n", true),
        ("Date: 30:00:01\r\n", true),
        ("Date: 10:30:01\r\n", true),
        ("date: 10:00:01\r\n", true),
        ("Date: 10:00:01\r\r", true),
    ] {
        let mut lab = Lab::new(mask());
        lab.both(p, s);
        lab.masked(1, 2);
        lab.pair.checkpoint();
        let frame = lab.frame(1000, again);
        lab.pair.s(&frame);
        let found = inconsistent.then_some(Reason::SecondaryInconsistent);
        assert_eq!(lab.pair.report(), found, "{again}");
        if !inconsistent {
            let frame = lab.frame(1000, p);
            lab.pair.p(&frame);
            lab.masked(1, 2);
        }
    }
}

#[test]
fn a_masked_byte_that_comes_again_alone_is_no_keepalive() {
    for (probe, differs) in [(None, false), (Some("2"), false), (None, true)] {
        let mut lab = Lab::new(mask());
        lab.both("Date: 1", "Date: 2");
        lab.masked(1, 1);
        if let Some(byte) = probe {
            let frame = lab.frame(1006, byte);
            lab.pair.s(&frame);
        }
        let frame = lab.frame(1006, if differs { "3" } else { "1" });
        lab.pair.p(&frame);
        assert_eq!(lab.pair.report(), None);
        assert_eq!(lab.pair.left(), usize::from(!differs), "{probe:?}");
    }
}

#[test]
fn what_is_repeated_and_new_in_one_frame_is_judged_each_by_its_own_rule() {
    let (p, s) = ("Date: 10:00:01\r\n", "Date: 20:00:02\r\n");
    for (again, differs) in [
        ("Date: 10:00:01\r\nDate: 3", None),
        ("Date: 10:00:02\r\nDate: 3", Some(13)),
        ("Date: 30:00:01\r\nDate: 3", Some(6)),
        ("Date: 10:30:01\r\nDate: 3", Some(9)),
        ("Date: 10:30:07\r\nDate: 3", Some(9)),
        ("Date: 10:00:01\r\nDate; 3", Some(20)),
    ] {
        let mut lab = Lab::new(mask());
        lab.both(p, s);
        lab.masked(1, 2);
        let frame = lab.frame(1000, "Date: 20:00:02\r\nDate: 4");
        lab.pair.s(&frame);
        let frame = lab.frame(1000, again);
        lab.pair.p(&frame);
        match differs {
            None => lab.masked(1, 3),
            Some(at) => lab.differs(at),
        }
    }
}

#[test]
fn what_has_left_unseen_is_not_looked_back_at() {
    // The literal lies before the first byte that was compared.
    let mut lab = Lab::new(mask());
    lab.p("Date: ");
    lab.pair.comparator.fence();
    lab.pair.comparator.commit(5);
    assert_eq!(lab.pair.left(), 1);
    lab.next[1] = lab.next[0];
    lab.both("1\r", "2\r");
    // A commit keeps what it lets leave as history, so that it is found.
    lab.masked(1, 1);
    // Without history what another connection sends displaces it.
    let limits = Limits {
        history: 0,
        ..LIMITS
    };
    let mut lab = Lab::limited(limits, 80, vec![rule("date", mask())]);
    lab.both("Date: ", "Date: ");
    assert_eq!(lab.pair.left(), 1);
    lab.pair.both(&syn(&ends(90), 999, 1));
    lab.pair.left();
    lab.both("1\r", "2\r");
    lab.differs(6);
}

#[test]
fn a_rule_that_is_tried_counts_what_it_would_have_saved() {
    let tried = || Mask {
        tried: true,
        ..mask()
    };
    let mut lab = Lab::new(tried());
    lab.both("Date: 10:01\r", "Date: 11:02\r");
    lab.differs(7);
    assert_eq!(lab.used(), [1], "one difference, whatever its bytes");
    let mut lab = Lab::new(tried());
    lab.both("Date: 1\rx", "Date: 2\ry");
    lab.differs(6);
    assert_eq!(lab.used(), [0], "it would have saved nothing");
    let rules = vec![rule("tried", tried()), rule("masks", mask())];
    let mut lab = Lab::with(80, rules);
    lab.both("Date: 1\r", "Date: 2\r");
    assert_eq!(lab.pair.left(), 1);
    assert_eq!(lab.used(), [0, 1]);
}

#[test]
fn a_rule_ends_at_its_time() {
    for (expires, leaves) in [(1000, true), (4, false)] {
        let mut lab = Lab::new(Mask {
            expires: Some(expires),
            ..mask()
        });
        lab.both("Date: 1\r", "Date: 2\r");
        assert_eq!(lab.pair.left() == 1, leaves, "{expires}");
    }
}

#[test]
fn a_new_connection_on_the_same_ports_does_not_look_back_at_the_old_one() {
    let mut lab = Lab::new(mask());
    lab.both("Date: ", "Date: ");
    lab.masked(1, 0);
    let rst = Segment {
        rst: true,
        ..segment(lab.next[0], 1, b"")
    };
    let rst = packets::tcp(&lab.ends, &rst, 0);
    lab.pair.both(&rst);
    let syn = syn(&lab.ends, lab.next[0] + 10, 9);
    lab.pair.both(&syn);
    assert_eq!(lab.pair.left(), 2);
    lab.next = lab.next.map(|next| next + 11);
    lab.both("1\r", "2\r");
    lab.differs(0);
}
