//! Bytes that an end system could act on must be equal. Fields that each stack chooses itself need not be.

use dpdk_colo_audit::Rule;
use dpdk_colo_audit::record::Role;

use crate::frames::{PAYLOAD, Tcp, done};
use crate::story::{Story, audit};
use crate::{CLIENT, broken, seq};

/// The P leaves when the SVM has sent `s`.
fn judge(before: &[[&[u8]; 2]], p: &[u8], s: &[u8], ends_well: bool) {
    let mut story = Story::new(Role::Primary);
    story.protect();
    for [p, s] in before {
        story.p(p);
        story.s(s);
        story.out(p);
    }
    story.p(p);
    story.s(s);
    let out = story.out(p);
    let report = audit(&[&story.end()]);
    if ends_well {
        assert!(report.violation.is_none(), "{:?}", report.violation);
    } else {
        assert_eq!(broken(&report), (Rule::R1, out));
    }
}

#[test]
fn bytes_behind_a_udp_datagram_are_judged() {
    let with = |surplus: &[u8]| {
        let mut frame = Tcp(3).udp(53, b"abc");
        frame[17] += surplus.len() as u8;
        frame.extend(surplus);
        frame
    };
    judge(&[], &with(b"TEST"), &with(b"TEST"), true);
    judge(&[], &with(b"TEST"), &with(b"TESS"), false);
    judge(&[], &with(b""), &with(b"T"), false);
}

#[test]
fn ip_options_are_judged_and_padding_is_not() {
    let with = |frame: Vec<u8>, options: [u8; 8]| {
        let mut frame = frame;
        frame[14] += 2;
        frame[17] += 8;
        frame.splice(34..34, options);
        frame
    };
    let route = |last, padding| [131, 7, 4, 192, 0, 2, last, padding];
    let udp = || Tcp(3).udp(53, b"abc");
    let data = || Tcp(3).data(seq(0), CLIENT, b"abc");
    for frame in [udp(), data()] {
        let frame = || frame.clone();
        judge(
            &[],
            &with(frame(), route(1, 0)),
            &with(frame(), route(1, 1)),
            true,
        );
        judge(
            &[],
            &with(frame(), route(1, 0)),
            &with(frame(), route(2, 0)),
            false,
        );
    }
}

#[test]
fn urgent_positions_are_judged() {
    let urgent = |pointer: u8| {
        let mut frame = Tcp(3).data(seq(0), CLIENT, b"abcd");
        frame[47] |= 0x20;
        frame[53] = pointer;
        frame
    };
    let plain = Tcp(3).data(seq(0), CLIENT, b"abcd");
    judge(&[], &urgent(2), &urgent(2), true);
    judge(&[], &urgent(2), &urgent(3), false);
    judge(&[], &urgent(2), &plain, false);
    judge(&[], &plain, &urgent(2), false);
}

#[test]
fn each_copy_of_a_syn_is_judged() {
    let syn = |flags: u8, mss: u8| {
        let mut frame = Tcp(3).syn(7, CLIENT);
        frame[47] |= flags;
        frame[PAYLOAD + 3] = mss;
        frame
    };
    judge(&[], &syn(0x40, 9), &syn(0x40, 9), true);
    judge(&[], &syn(0x40, 9), &syn(0, 9), false);
    judge(&[], &syn(0, 9), &syn(0, 8), false);
    let first = syn(0, 9);
    judge(&[[&first, &first]], &syn(0, 8), &syn(0, 9), false);
    judge(&[[&first, &first]], &syn(0, 8), &syn(0, 8), true);
}

#[test]
fn a_segment_without_ack_is_judged_one_by_one() {
    let mut null = Tcp(3).data(seq(0), CLIENT, b"");
    null[47] = 0;
    judge(&[], &null, &null, true);
    let plain = Tcp(3).data(seq(0), CLIENT, b"");
    judge(&[], &null, &plain, false);
    judge(&[[&null, &null]], &null, &plain, false);
}

#[test]
fn fragments_of_one_datagram_are_judged_together() {
    let half = |id: u8, second: bool, byte: u8| {
        let mut frame = done(|out| {
            let ip = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]);
            let ip = ip.ipv4([192, 0, 2, 1], [198, 51, 100, 3], 64);
            ip.write(out, etherparse::IpNumber::UDP, &[byte; 8])
        });
        frame[19] = id;
        (frame[20], frame[21]) = if second { (0, 1) } else { (0x20, 0) };
        frame
    };
    let (first, other) = (
        [half(1, false, b'A'), half(8, false, b'A')],
        [half(2, false, b'B'), half(9, false, b'B')],
    );
    let before: [[&[u8]; 2]; 2] = [[&first[0], &first[1]], [&other[0], &other[1]]];
    judge(&before, &half(1, true, b'a'), &half(8, true, b'a'), true);
    judge(&before, &half(1, true, b'a'), &half(9, true, b'a'), false);
}

#[test]
fn the_same_isn_begins_another_connection_behind_the_end() {
    let flow = Tcp(3);
    let isn = seq(0).wrapping_sub(1);
    let (syn, fin) = (flow.syn(isn, CLIENT), flow.fin(seq(5), CLIENT));
    let (one, two) = (
        flow.data(seq(0), CLIENT, b"first"),
        flow.data(seq(0), CLIENT, b"other"),
    );
    let before = [&syn, &one, &fin, &syn].map(|frame| [&frame[..], &frame[..]]);
    judge(&before, &two, &two, true);
}
