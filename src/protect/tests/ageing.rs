//! Connections that nobody completes, beside one that is idle.

use super::survivor::{numbers, say};
use super::*;
use crate::packet::TcpFlags;

const SYNS: u32 = 70_000;
const SYN_ACK: u8 = TcpFlags::SYN.0 | TcpFlags::ACK.0;

/// A segment of the connection with this number, to the guest or from it.
fn segment(v6: bool, number: u32, to_guest: bool, flags: u8, [seq, ack]: [u32; 2]) -> HeapFrame {
    let [_, a, b, c] = number.to_be_bytes();
    let (guest, client) = (22, 40_000);
    let (src, dst) = if to_guest {
        (client, guest)
    } else {
        (guest, client)
    };
    let mut header = TcpHeader::new(src, dst, seq, 1_000);
    header.acknowledgment_number = ack;
    header.syn = flags & TcpFlags::SYN.0 != 0;
    header.ack = flags & TcpFlags::ACK.0 != 0;
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let mut bytes = Vec::new();
    let payload: &[u8] = if flags == TcpFlags::ACK.0 { b"x" } else { b"" };
    let builder = if v6 {
        let mut address = [0xfd; 16];
        (address[13], address[14], address[15]) = (a, b, c);
        let (from, to) = if to_guest {
            (address, [0xfc; 16])
        } else {
            ([0xfc; 16], address)
        };
        builder.ipv6(from, to, 64)
    } else {
        let (client, guest) = ([172, a, b, c], [10, 0, 0, 1]);
        let (from, to) = if to_guest {
            (client, guest)
        } else {
            (guest, client)
        };
        builder.ipv4(from, to, 64)
    };
    builder
        .tcp_header(header)
        .write(&mut bytes, payload)
        .unwrap();
    HeapFrame::new(&bytes)
}

/// A client's SYN and the answers of both VMs, of which the PVM's leaves.
fn opens(pair: &mut Pair, v6: bool, number: u32) {
    pair.input(&segment(v6, number, true, TcpFlags::SYN.0, [0, 0]));
    assert!(pair.secondary.next_input(pair.now).is_some());
    pair.output(segment(v6, number, false, SYN_ACK, [1000, 1]));
    pair.svm(segment(v6, number, false, SYN_ACK, [7000, 1]));
    let mut left = pair.released().len();
    pair.exchange();
    left += pair.released().len();
    assert_eq!(left, 1, "{number}");
}

/// One byte of each side at a position of the stream; what the SVM says is in its own numbers.
fn says(pair: &mut Pair, v6: bool, number: u32, at: u32) {
    pair.input(&segment(
        v6,
        number,
        true,
        TcpFlags::ACK.0,
        [1 + at, 1001 + at],
    ));
    let got = pair.secondary.next_input(pair.now).expect("input");
    assert_eq!(numbers(&got), (1 + at, 7001 + at));
    pair.output(segment(
        v6,
        number,
        false,
        TcpFlags::ACK.0,
        [1001 + at, 2 + at],
    ));
    pair.svm(segment(
        v6,
        number,
        false,
        TcpFlags::ACK.0,
        [7001 + at, 2 + at],
    ));
    assert_eq!(pair.released().len(), 1, "{number} at {at}");
}

#[test]
fn connections_that_nobody_completes_cost_no_checkpoint_and_no_connection() {
    for v6 in [false, true] {
        let mut pair = Pair::protected_with(|setup| {
            setup.connections = 1024;
            setup.limits.flows = 1024;
            (setup.limits.idle, setup.limits.half_open) = (100 * TIMEOUT, 50 * TIMEOUT);
            setup.link.silence = 1 << 40;
        });
        opens(&mut pair, v6, 0);
        says(&mut pair, v6, 0, 0);
        for number in 1..=SYNS {
            opens(&mut pair, v6, number);
            if number % 100 == 0 {
                pair.now += TIMEOUT / 10;
                pair.secondary.tick(pair.now);
                assert_eq!(pair.request(), None);
            }
        }
        says(&mut pair, v6, 0, 1);
        // One of the last is completed after all.
        says(&mut pair, v6, SYNS - 10, 0);
        for _ in 0..1000 {
            pair.now += TIMEOUT;
            pair.exchange();
            pair.secondary.tick(pair.now);
            assert_eq!(pair.request(), None);
        }
        says(&mut pair, v6, 0, 2);
        assert_eq!(pair.secondary.rewriter().counters().evicted, 0);
        assert_eq!(pair.secondary.rewriter().len(), 2);
        // What the idle connection has sent last is still there to be sent again.
        pair.secondary_fails_over();
        let mut successor = pair.take_over();
        for _ in 0..100 {
            successor.tick(1 << 30);
        }
        for (number, at) in [(0, 3), (SYNS - 10, 1)] {
            let mut input = segment(v6, number, true, TcpFlags::ACK.0, [1 + at, 1001 + at]);
            assert!(successor.input(&mut input, 1 << 30));
            assert_eq!(numbers(&input), (1 + at, 7001 + at));
            let next = segment(v6, number, false, TcpFlags::ACK.0, [7001 + at, 2 + at]);
            assert_eq!(
                numbers(&say(&mut successor, next, 1 << 30)),
                (1001 + at, 2 + at)
            );
        }
    }
}
