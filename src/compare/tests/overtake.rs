//! What leaves before older output of its connection, and what must not.

use super::*;
use crate::frame::Offload;
use crate::packet::TcpOptions;
use crate::packet::checksum;
use std::num::NonZeroU16;

/// A connection whose VMs have both sent 20 bytes from 1000 on, all of which left; the PVM is 40 bytes
/// ahead, which are held.
fn ahead() -> Pair {
    let mut pair = Pair::new();
    pair.both(&stamped(1000, 1, b"11111111111111111111", 10));
    assert_eq!(pair.left(), 1);
    pair.p(&stamped(1020, 1, b"22222222222222222222", 20));
    pair.p(&stamped(1040, 1, b"33333333333333333333", 21));
    assert_eq!(pair.left(), 0);
    pair
}

pub(super) fn stamped(seq: u32, ack: u32, payload: &[u8], value: u32) -> Vec<u8> {
    summed(tcp(&Segment {
        options: packets::timestamp_options(value),
        ..segment(seq, ack, payload)
    }))
}

/// The same frame with its checksum, which the builder leaves to chance.
pub(super) fn summed(mut frame: Vec<u8>) -> Vec<u8> {
    let packet = Packet::parse(&frame, frame.len());
    let (l4, end) = (usize::from(packet.l4), packet.end());
    let at = l4 + checksum::TCP_CHECKSUM;
    frame[at..at + 2].fill(0);
    let mut sum = checksum::pseudo_header(&packet.key, (end - l4) as u32).expect("IP");
    sum.add(&frame[l4..end]);
    frame[at..at + 2].copy_from_slice(&sum.checksum().to_be_bytes());
    frame
}

/// Sequence number, payload bytes and TSval of each P that has left since the last call, whose checksum is right.
pub(super) fn seen(pair: &mut Pair) -> Vec<(u32, u32, Option<u32>)> {
    let mut seen = Vec::new();
    while let Some(release) = pair.comparator.next_release() {
        let bytes = release.frame.to_vec();
        let packet = Packet::parse(&bytes, bytes.len());
        if !release.frame.offload().partial_checksum {
            assert_eq!(checksum::verify(&packet, [&bytes[..]]), Some(true));
        }
        let options = TcpOptions::parse(packet.tcp_options(&bytes));
        let stamp = options.timestamps.map(|(value, _)| value);
        seen.push((packet.tcp.seq, packet.payload_len, stamp));
    }
    seen
}

#[test]
fn a_retransmission_overtakes_new_data_and_no_time_stamp_goes_back() {
    let mut pair = ahead();
    let again = stamped(1000, 1, b"11111111111111111111", 30);
    pair.p(&again);
    assert_eq!(seen(&mut pair), [(1000, 20, Some(30))]);
    assert_eq!(pair.comparator.counts().overtakes, 1);
    pair.s(&again);
    pair.s(&stamped(1020, 1, b"22222222222222222222", 31));
    assert_eq!(seen(&mut pair), [(1020, 20, Some(30))]);
    pair.p(&stamped(1060, 1, b"4", 29));
    pair.s(&stamped(1040, 1, b"33333333333333333333", 32));
    assert_eq!(seen(&mut pair), [(1040, 20, Some(30))]);
    pair.p(&stamped(1061, 1, b"5", 33));
    pair.s(&stamped(1060, 1, b"45", 34));
    assert_eq!(seen(&mut pair), [(1060, 1, Some(30)), (1061, 1, Some(33))]);
    assert_eq!((pair.overdue(), pair.report()), (None, None));
}

#[test]
fn a_retransmission_waits_for_the_secondary_s_where_history_is_gone() {
    let mut pair = Pair::with(
        Limits {
            history: 0,
            ..LIMITS
        },
        Vec::new(),
    );
    pair.both(&data(1000, b"abc"));
    assert_eq!(pair.left(), 1);
    pair.p(&data(1003, b"def"));
    pair.p(&data(1000, b"abc"));
    assert_eq!(pair.left(), 0, "nothing to compare it with");
    pair.s(&data(1000, b"abc"));
    assert_eq!(pair.left(), 1);
    pair.s(&data(1003, b"def"));
    assert_eq!(pair.left(), 1);
}

#[test]
fn a_retransmission_with_another_byte_is_a_difference() {
    let mut pair = ahead();
    pair.p(&stamped(1000, 1, b"1111111111111111111X", 30));
    assert_eq!(pair.left(), 0);
    assert_eq!(pair.report(), Some(Reason::Payload));
    pair.p(&stamped(1000, 1, b"11111111111111111111", 31));
    pair.p(&stamped(1060, 1, b"", 31));
    assert_eq!(
        pair.left(),
        0,
        "nothing overtakes in a connection that differs"
    );
}

#[test]
fn only_bytes_that_have_left_overtake() {
    let mut pair = ahead();
    pair.p(&stamped(1010, 1, b"1111111111222", 30));
    assert_eq!(seen(&mut pair), [(1010, 10, Some(30))], "the old ones");
    pair.p(&stamped(1020, 1, b"22222222222222222222", 31));
    assert_eq!(pair.left(), 0);
    pair.p(&stamped(1005, 1, b"11111", 32));
    pair.p(&stamped(1000, 1, b"11111111111111111111", 32));
    assert_eq!(seen(&mut pair), [(1005, 5, Some(32)), (1000, 20, Some(32))]);
    pair.s(&stamped(1020, 1, b"22222222222222222222", 33));
    assert_eq!(
        seen(&mut pair),
        [20, 3, 20].map(|len| (1020, len, Some(32))),
        "the repetitions have left before by then"
    );
}

#[test]
fn a_bare_acknowledgment_overtakes_with_the_number_of_what_has_left() {
    let mut pair = ahead();
    pair.p(&stamped(1060, 9, b"", 30));
    assert_eq!(pair.left(), 0, "the SVM has not acknowledged so much");
    pair.s(&stamped(1020, 9, b"", 31));
    assert_eq!(seen(&mut pair), [(1020, 0, Some(30))]);
    pair.p(&stamped(999, 9, b"", 32));
    assert_eq!(
        seen(&mut pair),
        [(999, 0, Some(32))],
        "a window probe keeps its number"
    );
    pair.s(&stamped(1020, 9, b"22222222222222222222", 33));
    assert_eq!(seen(&mut pair), [(1020, 20, Some(32))]);
}

#[test]
fn a_retransmission_passes_the_gate_by_itself() {
    let mut pair = ahead();
    pair.p(&stamped(1000, 7, b"11111111111111111111", 30));
    assert_eq!(pair.left(), 0);
    pair.s(&stamped(1020, 7, b"", 30));
    assert_eq!(seen(&mut pair), [(1000, 20, Some(30))]);
}

#[test]
fn a_repeated_fin_overtakes_an_acknowledgment_that_waits() {
    let mut pair = Pair::new();
    pair.both(&fin(100, 1, b"bye"));
    assert_eq!(pair.left(), 1);
    pair.p(&tcp(&segment(104, 5, b"")));
    assert_eq!(pair.left(), 0, "the SVM has not acknowledged so much");
    pair.p(&fin(100, 1, b"bye"));
    assert_eq!(pair.left(), 1);
    pair.s(&tcp(&segment(104, 5, b"")));
    assert_eq!(pair.left(), 1);
    assert_eq!(pair.overdue(), None);
}

#[test]
fn nothing_overtakes_while_nothing_is_compared() {
    let mut pair = ahead();
    pair.comparator.fence();
    pair.p(&stamped(1000, 1, b"11111111111111111111", 30));
    pair.p(&stamped(1060, 1, b"", 30));
    assert_eq!(pair.left(), 0);
    pair.comparator.commit(pair.now);
    assert_eq!(pair.left(), 4);
}

#[test]
fn nothing_overtakes_a_syn_that_opens_the_next_connection() {
    let mut pair = Pair::new();
    pair.both(&syn(999, None));
    pair.both(&data(1000, b"abc"));
    assert_eq!(pair.left(), 2);
    pair.p(&syn(5000, None));
    pair.p(&data(1000, b"abc"));
    pair.p(&tcp(&segment(5001, 1, b"")));
    assert_eq!(pair.left(), 0);
}

#[test]
fn signed_segments_wait_in_order() {
    let mut pair = Pair::new();
    let signed = |seq, payload: &[u8]| {
        let mut options = vec![19, 18];
        options.resize(18, 7);
        options.resize(20, 1);
        tcp(&Segment {
            options,
            ..segment(seq, 1, payload)
        })
    };
    pair.both(&signed(1000, b"abc"));
    pair.p(&signed(1003, b"def"));
    pair.p(&signed(1000, b"abc"));
    pair.p(&signed(1006, b""));
    assert_eq!(pair.left(), 1);
    pair.s(&signed(1003, b"def"));
    assert_eq!(pair.left(), 3);
}

#[test]
fn what_left_on_the_fast_path_is_known() {
    let mut pair = Pair::new();
    pair.both(&syn(0xffff_ff00, None));
    let mut seq = 0xffff_ff01_u32;
    for _ in 0..20 {
        pair.both(&data(seq, b"0123456789abcdef"));
        seq = seq.wrapping_add(16);
    }
    assert_eq!(pair.left(), 21);
    pair.p(&data(seq, b"ahead"));
    pair.p(&summed(data(
        seq.wrapping_sub(24),
        b"89abcdef0123456789abcdef",
    )));
    pair.p(&summed(tcp(&segment(seq.wrapping_add(5), 1, b""))));
    assert_eq!(
        seen(&mut pair),
        [(seq.wrapping_sub(24), 24, None), (seq, 0, None)]
    );
}

#[test]
fn the_old_part_of_a_segment_to_be_cut_overtakes() {
    let mut pair = Pair::new();
    let long = |seq, payload: &[u8]| {
        HeapFrame::new(&data(seq, payload)).with_offload(Offload {
            partial_checksum: true,
            segment: NonZeroU16::new(4),
        })
    };
    pair.both(&data(1000, b"aaaabbbb"));
    assert_eq!(pair.left(), 1);
    pair.p(&data(1008, b"cccc"));
    pair.comparator
        .primary(long(1004, b"bbbbcccc"), pair.now)
        .expect("room");
    assert_eq!(seen(&mut pair), [(1004, 4, None)]);
    pair.s(&data(1008, b"cccc"));
    assert_eq!(pair.left(), 2);
    assert_eq!((pair.overdue(), pair.report()), (None, None));
}

#[test]
fn acknowledgments_without_end_do_not_lengthen_the_search() {
    let limits = Limits {
        primary: 256,
        ..LIMITS
    };
    let mut pair = Pair::with(limits, Vec::new());
    pair.both(&data(1000, b"abc"));
    pair.p(&data(1003, b"def"));
    for ack in 2..200 {
        pair.p(&tcp(&segment(1006, ack, b"")));
    }
    assert_eq!(pair.left(), 1);
    pair.s(&tcp(&segment(1003, 100, b"")));
    assert_eq!(
        pair.left(),
        64 + 35,
        "one search goes on where it let a P leave"
    );
}

#[test]
fn bytes_that_were_skipped_have_not_left() {
    let mut pair = Pair::new();
    pair.both(&syn(999, None));
    pair.both(&data(1100, b"later"));
    assert_eq!(pair.left(), 2);
    pair.p(&data(1105, b"held"));
    pair.p(&data(1109, b"held"));
    pair.s(&data(1109, b"held"));
    pair.both(&data(1000, b"first"));
    assert_eq!(
        pair.left(),
        0,
        "bytes that leave for the first time keep the PVM's order"
    );
    pair.s(&data(1105, b"held"));
    assert_eq!(pair.left(), 3);
}

#[test]
fn what_has_left_is_known_behind_more_bytes_than_numbers_order() {
    const LONG: usize = 60_000;
    let mut pair = Pair::new();
    let mut seq = 1000_u32;
    pair.both(&data(seq, b"general"));
    pair.p(&data(seq.wrapping_add(7), b"held"));
    pair.p(&data(seq, b"general"));
    pair.s(&data(seq.wrapping_add(7), b"held"));
    assert_eq!(pair.left(), 3);
    seq = seq.wrapping_add(11);
    let payload = vec![7; LONG];
    let mut passed = 0_u64;
    while passed < 7 << 29 {
        let frame = HeapFrame::new(&data(seq, &payload));
        pair.comparator
            .primary(frame.share(), pair.now)
            .expect("room");
        pair.comparator.secondary(frame, pair.now);
        assert_eq!(pair.left(), 1);
        seq = seq.wrapping_add(LONG as u32);
        passed += LONG as u64;
    }
    pair.p(&data(seq, b"ahead"));
    pair.p(&data(seq.wrapping_sub(3), b"\x07\x07\x07"));
    pair.p(&tcp(&segment(seq.wrapping_add(5), 1, b"")));
    assert_eq!(pair.left(), 2);
}

#[test]
fn what_the_primary_sent_before_is_not_waited_for_again() {
    let mut pair = Pair::new();
    // Both VMs repeat what has left before anything was compared; the client then has it all.
    pair.p(&data(1000, b"abcd"));
    pair.s(&data(1000, b"ab"));
    pair.s(&data(1002, b"cdefgh"));
    pair.s(&data(1008, b"ijkl"));
    pair.both(&data(1012, b"new"));
    assert_eq!(pair.left(), 2);
    assert_eq!((pair.overdue(), pair.report()), (None, None));
    pair.p(&data(1004, b"efghijkl"));
    assert_eq!(pair.left(), 1, "history has it");
}

#[test]
fn what_repeats_bytes_that_have_not_left_does_not_displace_what_may_leave() {
    let limits = Limits {
        primary: 256,
        ..LIMITS
    };
    let mut pair = Pair::with(limits, Vec::new());
    pair.both(&data(1000, b"abc"));
    pair.p(&data(1003, b"def"));
    for _ in 0..100 {
        pair.p(&data(1004, b"ef"));
    }
    assert_eq!(pair.left(), 1);
    pair.p(&stamped(1000, 1, b"abc", 30));
    assert_eq!(seen(&mut pair), [(1000, 3, Some(30))]);
}

#[test]
fn new_data_of_the_secondary_waits_while_the_primary_s_timer_backs_off() {
    let mut pair = Pair::new();
    pair.both(&data(1000, b"abc"));
    assert_eq!(pair.left(), 1);
    pair.s(&data(1003, b"ahead"));
    let mut gap = TIMEOUT / 4;
    for _ in 0..4 {
        pair.now += gap;
        assert_eq!(pair.comparator.overdue(pair.now).map(|d| d.reason), None);
        pair.p(&data(1000, b"abc"));
        assert_eq!(pair.left(), 1);
        gap *= 2;
    }
    pair.now += gap + TIMEOUT;
    assert_eq!(pair.comparator.overdue(pair.now).map(|d| d.reason), None);
    pair.now += TIMEOUT;
    let reason = pair.comparator.overdue(pair.now).map(|d| d.reason);
    assert_eq!(reason, Some(Reason::MissingPrimary), "the PVM has given up");
}
