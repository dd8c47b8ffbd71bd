//! Which connections are forgotten, and when.

use super::*;

const ACK: TcpFlags = TcpFlags::ACK;
const SYN: TcpFlags = TcpFlags::SYN;
const RST: TcpFlags = TcpFlags::RST;
/// As the node has it.
const SECOND: Ticks = 1_000;
const HOUR: Ticks = 3_600 * SECOND;

/// A rewriter and connections by number, each with the client's first number 1000, the PVM's 2000 and the SVM's 7000.
struct Node {
    rewriter: Rewriter,
    v6: bool,
}

impl Node {
    fn new(connections: usize, v6: bool) -> Self {
        let limits = Limits {
            connections,
            linger: 120 * SECOND,
            half_open: 64 * SECOND,
        };
        Self {
            rewriter: Rewriter::new(limits, 0),
            v6,
        }
    }

    fn key(&self, number: u32) -> FlowKey {
        let [_, a, b, c] = number.to_be_bytes();
        let port = 40_000;
        if self.v6 {
            let mut peer = [0xfe; 16];
            (peer[13], peer[14], peer[15]) = (a, b, c);
            FlowKey::tcp(([0xfd; 16], 80).into(), (peer, port).into())
        } else {
            FlowKey::tcp(([10, 0, 0, 2], 80).into(), ([172, a, b, c], port).into())
        }
    }

    fn learn(&mut self, number: u32, now: Ticks) -> Learned {
        let key = self.key(number);
        self.rewriter.learn(key, 2000, 7000, now)
    }

    /// The acknowledgment that the SVM sees of one of the client's.
    fn client(&mut self, number: u32, flags: TcpFlags, ack: u32, now: Ticks) -> u32 {
        let key = self.key(number).reversed();
        self.pass(key, flags, [1001, ack], now).tcp.ack
    }

    /// The number that leaves of one of the SVM's.
    fn svm(&mut self, number: u32, flags: TcpFlags, seq: u32, now: Ticks) -> u32 {
        let key = self.key(number);
        self.pass(key, flags, [seq, 1001], now).tcp.seq
    }

    fn pass(&mut self, key: FlowKey, flags: TcpFlags, [seq, ack]: [u32; 2], now: Ticks) -> Packet {
        let frame = Segment {
            v6: self.v6,
            seq,
            ack,
            ..Segment::plain(flags)
        };
        let mut frame = HeapFrame::new(&frame.bytes());
        let mut packet = Packet::parse(frame.head(), frame.len());
        let to_guest = key.dst_port() == Some(80);
        packet.key = key;
        let _ = match to_guest {
            true => self.rewriter.to_guest(&mut frame, &packet, now),
            false => self.rewriter.from_guest(&mut frame, &packet, now),
        };
        Packet::parse(frame.head(), frame.len())
    }

    /// A client opens a connection.
    fn opens(&mut self, number: u32, now: Ticks) {
        assert_eq!(self.learn(number, now), Learned::Stored);
        self.svm(number, SYN | ACK, 7000, now);
        assert_eq!(self.client(number, ACK, 2001, now), 7001);
    }

    fn age(&mut self, now: Ticks) {
        while self.rewriter.age(now) > 0 {}
    }
}

#[test]
fn an_open_connection_is_translated_however_long_it_is_idle() {
    for (v6, taken_over) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut node = Node::new(8, v6);
        node.opens(0, 0);
        // The guest opened the other one.
        assert_eq!(node.learn(1, 0), Learned::Stored);
        node.client(1, SYN | ACK, 2001, 0);
        node.svm(1, ACK, 7001, 0);
        if taken_over {
            node.rewriter.take_over();
        }
        for hour in 1..100 {
            node.age(hour * HOUR);
        }
        for number in [0, 1] {
            assert_eq!(node.svm(number, ACK, 7001, 100 * HOUR), 2001);
            assert_eq!(node.client(number, ACK, 2002, 100 * HOUR), 7002);
        }
    }
}

#[test]
fn a_half_open_connection_ends_by_its_age() {
    let mut node = Node::new(8, false);
    assert_eq!(node.learn(0, 0), Learned::Stored);
    // The SYN+ACK again; what a client sends that acknowledges nothing of the guest's does not open it.
    node.svm(0, SYN | ACK, 7000, SECOND);
    node.client(0, ACK, 2000, SECOND);
    node.age(65 * SECOND);
    assert_eq!(
        (node.rewriter.len(), node.rewriter.counters().half_open),
        (1, 0)
    );
    node.age(65 * SECOND + 1);
    assert_eq!(
        (node.rewriter.len(), node.rewriter.counters().half_open),
        (0, 1)
    );
}

#[test]
fn connections_that_nobody_completes_take_no_place_from_an_open_one() {
    for v6 in [false, true] {
        for taken_over in [false, true] {
            let mut node = Node::new(1024, v6);
            node.opens(0, 0);
            if taken_over {
                node.rewriter.take_over();
            }
            for number in 1..=70_000 {
                assert_eq!(node.learn(number, SECOND), Learned::Stored);
                node.svm(number, SYN | ACK, 7000, SECOND);
            }
            let counters = node.rewriter.counters();
            assert_eq!((counters.evicted, counters.half_open), (0, 70_001 - 1024));
            assert_eq!(node.svm(0, ACK, 7001, 2 * SECOND), 2001);
            // The youngest of them can still be completed.
            assert_eq!(node.client(70_000, ACK, 2001, 2 * SECOND), 7001);
            node.age(2 * HOUR);
            assert_eq!(node.rewriter.len(), 2);
            assert_eq!(node.svm(70_000, ACK, 7001, 2 * HOUR), 2001);
        }
    }
}

#[test]
fn a_table_full_of_open_connections_takes_no_more_before_a_checkpoint() {
    let mut node = Node::new(8, false);
    for number in 0..8 {
        node.opens(number, u64::from(number));
    }
    assert_eq!(node.learn(8, 10), Learned::Full);
    assert_eq!(node.learn(0, 10), Learned::Stored, "it is there already");
    assert_eq!(node.rewriter.counters().evicted, 1);
    for number in 0..8 {
        assert_eq!(node.svm(number, ACK, 7001, 11), 2001);
    }
    node.rewriter.svm_loaded();
    assert_eq!(node.learn(9, 10), Learned::Stored, "there is none any more");
    assert_eq!(node.rewriter.counters().evicted, 1);
    assert_eq!(Node::new(0, false).learn(0, 0), Learned::Full);
}

#[test]
fn after_a_takeover_the_longest_silent_connection_gives_way_and_is_counted() {
    let mut node = Node::new(8, false);
    for number in 0..8 {
        node.opens(number, u64::from(number));
    }
    node.rewriter.take_over();
    node.svm(0, ACK, 7001, 10);
    assert_eq!(node.learn(8, 11), Learned::Stored);
    assert_eq!(node.rewriter.counters().evicted, 1);
    assert_eq!(node.svm(1, ACK, 7001, 12), 7001, "forgotten");
    for number in [0, 2, 3, 4, 5, 6, 7] {
        assert_eq!(node.svm(number, ACK, 7001, 12), 2001);
    }
}

#[test]
fn what_an_earlier_node_knew_stays_while_connections_of_an_earlier_state_go() {
    let mut node = Node::new(200, false);
    let offset = Offset {
        seq: 5000,
        timestamp: 0,
        isn: 7000,
    };
    let key = node.key(1000);
    node.rewriter.inherit(key, offset, 0);
    for number in 0..198 {
        node.opens(number, 1);
    }
    node.rewriter.svm_loaded();
    node.opens(500, 2);
    node.age(3);
    assert_eq!(node.rewriter.len(), 2);
    node.rewriter.take_over();
    node.age(HOUR);
    assert_eq!(node.svm(500, ACK, 7001, HOUR), 2001);
    assert_eq!(node.svm(1000, ACK, 7001, HOUR), 2001);
}

#[test]
fn a_sweep_ends_at_the_first_connection_that_was_used_since_the_load() {
    let mut node = Node::new(8, false);
    for number in 0..4 {
        node.opens(number, 0);
    }
    node.rewriter.svm_loaded();
    for number in 0..4 {
        node.opens(number, 1);
    }
    node.age(2);
    assert_eq!(node.rewriter.unswept, 0);
    for number in 0..4 {
        assert_eq!(node.svm(number, ACK, 7001, 3), 2001);
    }
}

#[test]
fn a_closed_connection_is_handed_on_to_nobody() {
    let mut node = Node::new(8, false);
    node.opens(0, 0);
    node.opens(1, 0);
    node.svm(1, RST, 7001, 1);
    assert_eq!(node.rewriter.len(), 2);
    let mut handed = Vec::new();
    let mut slot = 0;
    while let Some((next, found)) = node.rewriter.offset_from(slot) {
        handed.extend(found.map(|(key, _)| key));
        slot = next;
    }
    assert_eq!(handed, [node.key(0)]);
}
