//! Connections that end, and what comes behind their end: RSTs, keepalives, the same ports again.

use super::*;
use crate::frame::Frame;

/// The first numbers of the guest's connections, of the PVM and of the SVM.
const ISN: u32 = 100_000;
const SVM_ISN: u32 = 900_000;
/// What the guest's SYN+ACK acknowledges.
const CLIENT: u32 = 501;

/// The kinds of connection and the order in which the VMs are heard.
#[derive(Clone, Debug)]
struct Variant {
    ends: Ends,
    numbers: Numbers,
    secondary_first: bool,
    commit: bool,
}

fn variants() -> Vec<Variant> {
    let mut all = Vec::new();
    for n in 0..32 {
        let bit = |i: u32| n >> i & 1 != 0;
        all.push(Variant {
            ends: Ends {
                v6: bit(0),
                vlans: if bit(1) { vec![100, 7] } else { Vec::new() },
                ..ends(80)
            },
            numbers: [Numbers::Translated, Numbers::OwnIsn][usize::from(bit(2))],
            secondary_first: bit(3),
            commit: bit(4),
        });
    }
    all
}

/// Two VMs and what they say; all numbers are the PVM's.
struct Play {
    pair: Pair,
    variant: Variant,
    /// The SVM's numbers minus the PVM's.
    offset: u32,
}

impl Play {
    fn new(variant: &Variant) -> Self {
        let limits = Limits {
            primary: 256,
            secondary: 256,
            history: 256,
            ..LIMITS
        };
        Self {
            pair: Pair::numbered(variant.numbers, limits, Vec::new()),
            variant: variant.clone(),
            offset: SVM_ISN.wrapping_sub(ISN),
        }
    }

    /// A connection that both VMs have opened, behind a commit if the variant says so.
    fn open(variant: &Variant) -> Self {
        let mut play = Self::new(variant);
        play.both(&play.syn(CLIENT));
        assert_eq!(play.pair.left(), 1, "{variant:?}");
        play.commit();
        play
    }

    fn syn(&self, ack: u32) -> Segment {
        Segment {
            seq: ISN,
            ack: Some(ack),
            syn: true,
            options: packets::syn_options(1460, None),
            ..Segment::default()
        }
    }

    fn p(&mut self, segment: &Segment) {
        let bytes = packets::tcp(&self.variant.ends, segment, 0);
        self.pair.p(&bytes);
    }

    fn s(&mut self, segment: &Segment) {
        let mut segment = segment.clone();
        if segment.syn || self.variant.numbers == Numbers::OwnIsn {
            segment.seq = segment.seq.wrapping_add(self.offset);
        }
        let bytes = packets::tcp(&self.variant.ends, &segment, 0);
        self.pair.s(&bytes);
    }

    fn both(&mut self, segment: &Segment) {
        if self.variant.secondary_first {
            self.s(segment);
            self.p(segment);
        } else {
            self.p(segment);
            self.s(segment);
        }
    }

    fn commit(&mut self) {
        if self.variant.commit {
            self.pair.checkpoint();
            if self.variant.numbers == Numbers::OwnIsn {
                self.offset = 0;
            }
        }
    }

    /// The client's RST, as it travels to the guest.
    fn client_reset(&mut self, seq: u32) {
        let bytes = packets::tcp(&self.variant.ends.reversed(), &bare_rst(seq), 0);
        let packet = Packet::parse(&bytes, bytes.len());
        self.pair.comparator.client_reset(&packet, self.pair.now);
    }

    fn counts(&self) -> Counts {
        *self.pair.comparator.counts()
    }

    /// Time passes until all that waits has waited for too long.
    fn overdue(&mut self) -> Option<Reason> {
        self.pair.now += TIMEOUT;
        let now = self.pair.now;
        self.pair.comparator.overdue(now).map(|d| d.reason)
    }
}

fn bare_rst(seq: u32) -> Segment {
    Segment {
        seq,
        rst: true,
        ..Segment::default()
    }
}

fn ack(seq: u32, ack: u32) -> Segment {
    segment(seq, ack, b"")
}

fn finished(seq: u32, ack: u32) -> Segment {
    Segment {
        fin: true,
        ..segment(seq, ack, b"")
    }
}

/// What the guest sends of a connection that it closes first, and that its client closes first:
/// ten bytes and a FIN. The client's FIN is at 601.
const GUEST_FIRST: bool = true;

fn closed(variant: &Variant, guest_first: bool, commit_last: bool) -> Play {
    let first = Variant {
        commit: variant.commit && !commit_last,
        ..variant.clone()
    };
    let mut play = Play::open(&first);
    play.variant = variant.clone();
    play.both(&segment(ISN + 1, 601, b"0123456789"));
    if guest_first {
        play.both(&finished(ISN + 11, 601));
        play.both(&ack(ISN + 12, 602));
    } else {
        play.both(&ack(ISN + 11, 602));
        play.both(&finished(ISN + 11, 602));
    }
    assert_eq!(play.pair.left(), 3, "{variant:?}");
    if commit_last {
        play.commit();
    }
    assert_eq!(play.pair.report(), None);
    play
}

#[test]
fn a_late_rst_of_the_secondary_alone_says_nothing_of_a_closed_connection() {
    for variant in variants() {
        for (guest_first, commit_last) in [(true, false), (false, false), (true, true)] {
            let mut play = closed(&variant, guest_first, commit_last);
            for n in 1..3 {
                play.s(&bare_rst(ISN + 12));
                assert_eq!(play.overdue(), None, "{variant:?} {guest_first}");
                assert_eq!(play.counts().closed_resets, n);
            }
            // One that answers an older segment of the client.
            play.s(&bare_rst(ISN + 11));
            assert_eq!(play.overdue(), None);
            assert_eq!((play.pair.left(), play.pair.report()), (0, None));
            // The PVM may be late, too.
            play.p(&bare_rst(ISN + 12));
            assert_eq!(play.pair.left(), 1);
            assert_eq!(play.overdue(), None);
        }
    }
}

#[test]
fn a_late_rst_of_the_primary_alone_leaves_a_closed_connection() {
    for variant in variants() {
        for (guest_first, commit_last) in [(true, false), (false, false), (true, true)] {
            let mut play = closed(&variant, guest_first, commit_last);
            play.p(&bare_rst(ISN + 12));
            assert_eq!(play.pair.left(), 1, "{variant:?} {guest_first}");
            assert_eq!(play.counts().closed_resets, 1);
            play.s(&bare_rst(ISN + 12));
            assert_eq!(play.overdue(), None);
        }
    }
}

#[test]
fn a_vm_that_closed_second_forgets_what_the_other_remembers() {
    // The client's FIN reaches the PVM behind its own, and the SVM before it.
    for variant in variants() {
        let mut play = Play::open(&variant);
        play.both(&segment(ISN + 1, 537, b"0123456789"));
        play.p(&finished(ISN + 11, 537));
        play.p(&finished(ISN + 11, 537));
        play.p(&ack(ISN + 12, 538));
        assert_eq!(play.pair.left(), 1);
        play.s(&finished(ISN + 11, 538));
        assert_eq!(play.pair.left(), 3);
        play.s(&bare_rst(ISN + 12));
        assert_eq!(play.overdue(), None, "{variant:?}");
        assert_eq!(play.counts().closed_resets, 1);

        // The other way round.
        let mut play = Play::open(&variant);
        play.both(&segment(ISN + 1, 537, b"0123456789"));
        play.p(&finished(ISN + 11, 538));
        play.s(&finished(ISN + 11, 537));
        play.p(&bare_rst(ISN + 12));
        assert_eq!(play.pair.left(), 1);
        play.s(&ack(ISN + 12, 538));
        assert_eq!(play.pair.left(), 2, "{variant:?}");
        assert_eq!(play.overdue(), None);
    }
}

#[test]
fn a_secondary_that_is_ahead_sends_its_late_rst_before_the_primary_s_fin() {
    for variant in variants() {
        let mut play = Play::open(&variant);
        play.both(&segment(ISN + 1, 601, b"0123456789"));
        play.s(&finished(ISN + 11, 601));
        play.s(&ack(ISN + 12, 602));
        play.s(&bare_rst(ISN + 12));
        assert_eq!(play.counts().closed_resets, 0);
        play.p(&finished(ISN + 11, 601));
        play.p(&ack(ISN + 12, 602));
        assert_eq!(play.pair.left(), 3);
        assert_eq!(play.overdue(), None, "{variant:?}");
        assert_eq!(play.counts().closed_resets, 1);
    }
}

#[test]
fn a_lone_rst_of_a_connection_that_lives_is_a_difference() {
    type Step = fn(&mut Play);
    let lives: [(&str, Step); 6] = [
        ("open", |_| {}),
        ("half open", |play| play.both(&finished(ISN + 11, 601))),
        ("half open, the client speaks", |play| {
            play.both(&finished(ISN + 11, 601));
            play.both(&ack(ISN + 12, 701));
        }),
        ("the client has closed", |play| {
            play.both(&ack(ISN + 11, 602))
        }),
        ("the FIN of one VM alone", |play| {
            play.both(&ack(ISN + 11, 602));
            play.s(&finished(ISN + 11, 602));
        }),
        ("the SVM has not acknowledged the client's FIN", |play| {
            play.both(&finished(ISN + 11, 601));
            play.p(&ack(ISN + 12, 602));
        }),
    ];
    for variant in variants() {
        for (name, step) in lives {
            for primary in [false, true] {
                let mut play = Play::open(&variant);
                play.both(&segment(ISN + 1, 601, b"0123456789"));
                step(&mut play);
                play.pair.left();
                if primary {
                    play.p(&bare_rst(ISN + 12));
                } else {
                    play.s(&bare_rst(ISN + 12));
                }
                assert_eq!(play.pair.left(), 0, "{name}");
                assert!(play.overdue().is_some(), "{name} {primary} {variant:?}");
                assert_eq!(play.counts().closed_resets, 0, "{name}");
            }
        }
    }
}

#[test]
fn an_abort_and_a_rst_of_an_unknown_connection_are_differences() {
    for variant in variants() {
        let mut play = closed(&variant, GUEST_FIRST, false);
        // Of another client's SYN, which one VM refuses: it has ACK.
        play.s(&Segment {
            rst: true,
            ..ack(0, 9_001)
        });
        assert_eq!(play.overdue(), Some(Reason::MissingPrimary), "{variant:?}");
        let mut play = closed(&variant, GUEST_FIRST, false);
        play.s(&bare_rst(ISN + 13));
        assert_eq!(play.overdue(), Some(Reason::MissingPrimary));
        let mut play = Play::new(&variant);
        play.s(&bare_rst(ISN + 12));
        assert_eq!(play.overdue(), Some(Reason::MissingPrimary));
    }
}

/// Bytes that both VMs have sent, and three segments of the PVM alone.
fn ahead(variant: &Variant) -> Play {
    let mut play = Play::open(variant);
    play.both(&segment(ISN + 1, 601, b"0123456789"));
    assert_eq!(play.pair.left(), 1);
    for n in 0..3 {
        play.p(&segment(ISN + 11 + 10 * n, 601, b"abcdefghij"));
    }
    play
}

#[test]
fn what_a_client_has_reset_is_dropped_at_the_timeout() {
    for variant in variants() {
        let mut play = ahead(&variant);
        play.client_reset(601);
        // What was under way: the SVM's next segment, and one of the PVM's.
        play.s(&segment(ISN + 11, 601, b"abcdefghij"));
        play.p(&segment(ISN + 41, 601, b"abcdefghij"));
        assert_eq!(play.pair.left(), 1);
        let early = play.pair.now + TIMEOUT / 2;
        assert!(play.pair.comparator.overdue(early).is_none());
        assert_eq!(play.counts().reset_dropped, 0, "not before the timeout");
        assert_eq!(play.overdue(), None, "{variant:?}");
        assert_eq!(play.counts().reset_dropped, 3);
        assert_eq!(play.pair.comparator.take_dropped(), (3, 3));
        assert_eq!((play.pair.left(), play.pair.comparator.held()), (0, 0));
        // The same ports again.
        play.offset = SVM_ISN.wrapping_sub(ISN);
        play.both(&play.syn(9_001));
        play.both(&segment(ISN + 1, 9_001, b"other page"));
        assert_eq!(play.pair.left(), 2, "{variant:?}");
        assert_eq!((play.pair.report(), play.overdue()), (None, None));
    }
}

#[test]
fn what_the_secondary_sent_before_a_client_s_reset_is_not_waited_for_either() {
    for variant in variants() {
        let mut play = Play::open(&variant);
        play.both(&segment(ISN + 1, 601, b"0123456789"));
        play.s(&segment(ISN + 11, 601, b"abcdefghij"));
        play.s(&finished(ISN + 21, 601));
        play.client_reset(601);
        assert_eq!(play.overdue(), None, "{variant:?}");
        assert_eq!(play.counts().reset_dropped, 0, "no P was dropped");
    }
}

#[test]
fn a_reset_that_a_vm_need_not_obey_ends_nothing() {
    for variant in variants() {
        for seq in [600, 602, 0] {
            let mut play = ahead(&variant);
            play.client_reset(seq);
            assert_eq!(play.overdue(), Some(Reason::MissingSecondary), "{seq}");
        }
        // The PVM has read on, or the SVM has.
        let mut play = ahead(&variant);
        play.p(&ack(ISN + 41, 701));
        play.client_reset(601);
        assert_eq!(play.overdue(), Some(Reason::MissingSecondary));
        let mut play = ahead(&variant);
        play.s(&ack(ISN + 11, 701));
        play.client_reset(601);
        assert_eq!(play.overdue(), Some(Reason::MissingSecondary));
        assert_eq!(play.counts().reset_dropped, 0);
    }
}

#[test]
fn what_had_left_before_a_cancelled_reset_is_known() {
    for variant in variants() {
        let mut play = Play::open(&variant);
        play.both(&segment(ISN + 1, 601, b"0123456789"));
        play.both(&segment(ISN + 11, 601, b"abcdefghij"));
        assert_eq!(play.pair.left(), 2, "{variant:?}");
        play.p(&segment(ISN + 21, 601, b"held"));
        play.client_reset(601);
        // A challenge, with bytes that have left before.
        play.p(&segment(ISN + 11, 600, b"abcdefghij"));
        assert_eq!(play.pair.left(), 1, "{variant:?}");
        play.s(&segment(ISN + 21, 601, b"held"));
        assert_eq!(play.pair.left(), 1, "{variant:?}");
        assert_eq!((play.pair.report(), play.overdue()), (None, None));
    }
}

#[test]
fn a_segment_that_comes_later_cancels_a_reset() {
    for variant in variants() {
        for primary in [false, true] {
            // A challenge at once, or anything when all that was under way has come.
            for (wait, segment) in [
                (0, ack(ISN + 11, 600)),
                (TIMEOUT / 16, ack(ISN + 11, 601)),
                (TIMEOUT / 2, segment(ISN + 1, 601, b"0123456789")),
            ] {
                let mut play = ahead(&variant);
                play.client_reset(601);
                play.pair.now += wait;
                if primary {
                    play.p(&segment);
                } else {
                    play.s(&segment);
                }
                assert_eq!(
                    play.overdue(),
                    Some(Reason::MissingSecondary),
                    "{variant:?}"
                );
                assert_eq!(play.counts().reset_dropped, 0);
            }
        }
        // A checkpoint makes the VMs one again.
        let mut play = ahead(&variant);
        play.client_reset(601);
        play.pair.checkpoint();
        assert_eq!(play.pair.left(), 3);
        play.p(&segment(ISN + 41, 601, b"abcdefghij"));
        assert_eq!(play.overdue(), Some(Reason::MissingSecondary));
    }
}

#[test]
fn rsts_leave_repeated_and_interleaved() {
    for variant in variants() {
        let mut play = Play::open(&variant);
        let abort = Segment {
            rst: true,
            ..ack(ISN + 1, CLIENT)
        };
        let first = [abort, bare_rst(ISN + 1)];
        let late = [500, 600, 500].map(bare_rst);
        for resets in [&first[..], &late[..]] {
            if variant.secondary_first {
                resets.iter().for_each(|rst| play.s(rst));
                resets.iter().for_each(|rst| play.p(rst));
            } else {
                resets.iter().for_each(|rst| play.p(rst));
                resets.iter().for_each(|rst| play.s(rst));
            }
            assert_eq!(play.pair.left(), resets.len(), "{variant:?}");
            assert_eq!(play.overdue(), None);
        }
    }
}

#[test]
fn rsts_that_answer_one_port_scan_after_the_other_meet_their_own() {
    for variant in variants() {
        let mut play = Play::new(&variant);
        play.offset = 0;
        let refusals = [4_001, 5_001, 3_001].map(|number| Segment {
            rst: true,
            ..ack(0, number)
        });
        if variant.secondary_first {
            refusals.iter().for_each(|rst| play.s(rst));
            refusals.iter().for_each(|rst| play.p(rst));
        } else {
            refusals.iter().for_each(|rst| play.p(rst));
            refusals.iter().for_each(|rst| play.s(rst));
        }
        assert_eq!(play.pair.left(), 3, "{variant:?}");
        assert_eq!(play.overdue(), None);
    }
}

#[test]
fn a_keepalive_s_byte_is_no_data() {
    for variant in variants() {
        for chained in [false, true] {
            let mut play = Play::open(&variant);
            play.both(&segment(ISN + 1, 601, b"0123456789"));
            assert_eq!(play.pair.left(), 1);
            play.commit();
            let probe = segment(ISN + 10, 601, b"\0");
            for _ in 0..3 {
                if chained {
                    let bytes = packets::tcp(&play.variant.ends, &probe, 0);
                    let (head, byte) = bytes.split_at(bytes.len() - 1);
                    let frame = HeapFrame::chain(&[head, byte]);
                    assert_eq!(frame.len(), bytes.len());
                    let taken = play.pair.comparator.primary(frame, play.pair.now);
                    taken.expect("has room");
                    play.s(&probe);
                } else {
                    play.both(&probe);
                }
                assert_eq!(play.pair.left(), 1, "{variant:?}");
                play.commit();
            }
            assert_eq!((play.pair.report(), play.overdue()), (None, None));
            // The last byte itself, again, and what follows it.
            play.both(&segment(ISN + 10, 601, b"9"));
            play.both(&segment(ISN + 11, 601, b"abc"));
            assert_eq!(play.pair.left(), 2, "{variant:?}");
            assert_eq!((play.pair.report(), play.overdue()), (None, None));
        }
    }
}

#[test]
fn a_keepalive_before_the_first_byte_and_behind_the_fin() {
    for variant in variants() {
        let mut play = Play::open(&variant);
        play.both(&segment(ISN, CLIENT, b"\0"));
        play.both(&segment(ISN + 1, 601, b"0123456789"));
        play.both(&finished(ISN + 11, 601));
        assert_eq!(play.pair.left(), 3, "{variant:?}");
        play.both(&segment(ISN + 11, 601, b"x"));
        assert_eq!(play.pair.left(), 1, "{variant:?}");
        assert_eq!((play.pair.report(), play.overdue()), (None, None));
    }
}

#[test]
fn a_keepalive_of_one_vm_alone_does_not_leave() {
    for variant in variants() {
        let open = || {
            let mut play = Play::open(&variant);
            play.both(&segment(ISN + 1, 601, b"0123456789"));
            assert_eq!(play.pair.left(), 1);
            play
        };
        let probe = |byte: &[u8]| segment(ISN + 10, 601, byte);
        let mut play = open();
        play.p(&probe(b"\0"));
        assert_eq!(play.overdue(), Some(Reason::MissingSecondary));
        assert_eq!(play.pair.left(), 0);
        let mut play = open();
        play.s(&probe(b"\0"));
        assert_eq!((play.pair.report(), play.overdue()), (None, None));
        play.p(&probe(b"\x01"));
        assert_eq!(play.pair.report(), Some(Reason::Payload));
        assert_eq!(play.pair.left(), 0);
        // Of an epoch that is over.
        let mut play = open();
        play.s(&probe(b"\0"));
        play.pair.checkpoint();
        play.p(&probe(b"\0"));
        assert_eq!(play.pair.left(), 0, "{variant:?}");
        // Two bytes, or one byte before the last, are data.
        for (at, bytes) in [(ISN + 9, &b"\0\0"[..]), (ISN + 9, b"\0")] {
            let mut play = open();
            play.s(&segment(at, 601, bytes));
            assert_eq!(play.pair.report(), Some(Reason::SecondaryInconsistent));
            let mut play = open();
            play.p(&segment(at, 601, bytes));
            assert_eq!(play.pair.report(), Some(Reason::Payload));
        }
    }
}

#[test]
fn a_syn_with_data_leaves_and_is_repeated_without() {
    for variant in variants() {
        for client in [false, true] {
            let mut play = Play::new(&variant);
            let mut syn = play.syn(CLIENT);
            if client {
                syn.ack = None;
            }
            let with_data = Segment {
                payload: b"GET /".to_vec(),
                ..syn.clone()
            };
            play.both(&with_data);
            assert_eq!(play.pair.left(), 1, "{variant:?}");
            play.both(&syn);
            play.both(&segment(ISN + 1, CLIENT, b"GET /"));
            play.both(&segment(ISN + 6, CLIENT, b"page"));
            assert_eq!(play.pair.left(), 3, "{variant:?}");
            assert_eq!((play.pair.report(), play.overdue()), (None, None));
            // Other data is a difference all the same.
            let mut play = Play::new(&variant);
            let other = Segment {
                payload: b"PUT /".to_vec(),
                ..syn.clone()
            };
            play.s(&other);
            play.p(&with_data);
            assert_eq!(play.pair.left(), 0);
            assert_eq!(play.pair.report(), Some(Reason::Payload), "{variant:?}");
        }
    }
}

/// Both VMs always begin with the same number.
#[test]
fn the_same_isn_again_opens_the_next_connection() {
    for variant in variants() {
        let mut play = Play::new(&variant);
        for (round, page) in [b"first page", b"other page", b"third page"]
            .iter()
            .enumerate()
        {
            let client = CLIENT + 100_000 * round as u32;
            let mut answer = vec![
                play.syn(client),
                play.syn(client),
                segment(ISN + 1, client + 100, *page),
            ];
            if round != 1 {
                answer.push(finished(ISN + 11, client + 100));
                answer.push(ack(ISN + 12, client + 101));
            } else {
                answer.push(bare_rst(ISN + 11));
            }
            // One by one, or all of a connection before the other VM says anything.
            if variant.commit {
                answer.iter().for_each(|segment| play.both(segment));
            } else if variant.secondary_first {
                answer.iter().for_each(|segment| play.s(segment));
                answer.iter().for_each(|segment| play.p(segment));
            } else {
                answer.iter().for_each(|segment| play.p(segment));
                answer.iter().for_each(|segment| play.s(segment));
            }
            assert_eq!(play.pair.left(), answer.len(), "{round} {variant:?}");
            assert_eq!(play.pair.report(), None);
        }
        assert_eq!(play.overdue(), None, "{variant:?}");
    }
}

#[test]
fn a_client_that_gave_up_and_the_next_differ_by_their_numbers() {
    for variant in variants() {
        let mut play = Play::new(&variant);
        play.both(&play.syn(501));
        play.both(&play.syn(7_001));
        play.both(&play.syn(7_001));
        play.both(&segment(ISN + 1, 7_101, b"0123456789"));
        assert_eq!(play.pair.left(), 4, "{variant:?}");
        assert_eq!((play.pair.report(), play.overdue()), (None, None));
    }
}

/// A segment whose control bits no stack combines.
fn odd(isn: u32, flags: [bool; 3]) -> Vec<u8> {
    let [syn, fin, rst] = flags;
    tcp(&Segment {
        seq: isn,
        syn,
        fin,
        rst,
        ..Segment::default()
    })
}

#[test]
fn a_syn_that_also_ends_leaves_with_its_counterpart_in_any_order() {
    for flags in [[true, true, false], [true, false, true], [true, true, true]] {
        for numbers in [Numbers::Translated, Numbers::OwnIsn] {
            for first in [true, false] {
                let mut pair = Pair::numbered(numbers, LIMITS, Vec::new());
                let (p, s) = (odd(1000, flags), odd(1000, flags));
                if first {
                    pair.both(&p);
                } else {
                    pair.s(&s);
                    pair.p(&p);
                }
                let case = format!("{flags:?} {numbers:?} P first: {first}");
                assert_eq!(pair.left(), 1, "{case}");
                assert_eq!((pair.overdue(), pair.report()), (None, None), "{case}");
            }
        }
    }
}

/// What the SVM sent for the next connection before the PVM opened it contradicts itself.
#[test]
fn a_connection_that_opens_with_a_difference_lets_nothing_leave() {
    for variant in variants() {
        let mut play = Play::open(&variant);
        let end = [finished(ISN + 1, CLIENT), ack(ISN + 2, CLIENT + 1)];
        end.iter().for_each(|segment| play.both(segment));
        play.pair.left();
        let next = CLIENT + 100_000;
        let syn = Segment {
            seq: ISN + 1_000_000,
            ..play.syn(next)
        };
        let data = |payload: &[u8]| segment(ISN + 1_000_001, next, payload);
        play.s(&syn);
        play.s(&data(b"one"));
        play.s(&data(b"two"));
        play.p(&syn);
        play.p(&data(b"one"));
        assert_eq!(
            play.pair.report(),
            Some(Reason::SecondaryInconsistent),
            "{variant:?}"
        );
        assert_eq!(play.pair.left(), 0, "{variant:?}");
        play.pair.checkpoint();
        assert_eq!(play.pair.left(), 2, "{variant:?}");
    }
}
