//! How long an offset holds, and whose.

use super::*;

/// A connection in the numbers of its endpoints: the client's first number is 1000, the PVM's
/// 2000, the SVM's 7000.
struct Dialogue {
    rewriter: Rewriter,
}

impl Dialogue {
    fn new() -> Self {
        let mut rewriter = Rewriter::new(LIMITS, 0);
        let key = Segment::plain(TcpFlags::ACK).key();
        assert_eq!(rewriter.learn(key, 2000, 7000, 0), Learned::Stored);
        Self { rewriter }
    }

    /// The acknowledgment that the SVM sees when the client sends this.
    fn client(&mut self, flags: TcpFlags, seq: u32, ack: u32, now: Ticks) -> u32 {
        let segment = Segment {
            from_client: true,
            seq,
            ack,
            ..Segment::plain(flags)
        };
        self.pass(&segment, now).tcp.ack
    }

    /// The sequence number that leaves the node when the SVM sends this.
    fn svm(&mut self, flags: TcpFlags, seq: u32, ack: u32, now: Ticks) -> u32 {
        let segment = Segment {
            seq,
            ack,
            ..Segment::plain(flags)
        };
        self.pass(&segment, now).tcp.seq
    }

    fn pass(&mut self, segment: &Segment, now: Ticks) -> Packet {
        let mut frame = HeapFrame::new(&segment.bytes());
        let _ = pass(&mut self.rewriter, &way(segment), &mut frame, now);
        Packet::parse(frame.head(), frame.len())
    }
}

const ACK: TcpFlags = TcpFlags::ACK;
const RST: TcpFlags = TcpFlags::RST;

fn fin_ack() -> TcpFlags {
    TcpFlags::FIN | TcpFlags::ACK
}

#[test]
fn a_connection_from_syn_to_time_wait() {
    let mut d = Dialogue::new();
    assert_eq!(
        d.svm(TcpFlags::SYN | ACK, 7000, 1001, 0),
        7000,
        "a SYN keeps its number"
    );
    assert_eq!(d.client(ACK, 1001, 2001, 0), 7001);
    assert_eq!(d.svm(ACK, 7001, 1001, 0), 2001);
    assert_eq!(d.client(fin_ack(), 1001, 2001, 1), 7001);
    assert_eq!(d.svm(fin_ack(), 7001, 1002, 2), 2001);
    assert_eq!(
        d.rewriter.open.len(),
        1,
        "the SVM's FIN is not acknowledged yet"
    );
    assert_eq!(d.client(ACK, 1002, 2002, 3), 7002);
    assert_eq!((d.rewriter.open.len(), d.rewriter.closed.len()), (0, 1));
    assert_eq!(
        d.client(fin_ack(), 1001, 2001, 50),
        7001,
        "a retransmission meets the offset"
    );
    assert_eq!(d.svm(ACK, 7002, 1002, 50), 2002);
    assert_eq!(d.rewriter.age(50 + LIMITS.linger), 0);
    assert_eq!(d.rewriter.age(51 + LIMITS.linger), 1);
    assert!(d.rewriter.is_empty());
}

#[test]
fn resets_close_and_are_translated() {
    let mut d = Dialogue::new();
    assert_eq!(
        d.svm(RST, 7500, 0, 0),
        2500,
        "a reset without ACK has a number of the connection"
    );
    assert_eq!(d.rewriter.closed.len(), 1);

    let mut d = Dialogue::new();
    assert_eq!(
        d.svm(RST | ACK, 0, 1001, 0),
        0,
        "it answers a segment without ACK"
    );

    let mut d = Dialogue::new();
    d.svm(ACK, 7001, 1001, 0);
    d.client(RST, 1500, 0, 0);
    assert_eq!(
        d.rewriter.closed.len(),
        0,
        "the number is not the expected one"
    );
    d.client(RST, 1001, 0, 0);
    assert_eq!(d.rewriter.closed.len(), 1);
}

#[test]
fn the_loaded_state_ends_all_offsets() {
    let mut d = Dialogue::new();
    d.rewriter.svm_loaded();
    assert_eq!(d.client(ACK, 1001, 2001, 0), 2001);
    assert_eq!(d.svm(ACK, 2001, 1001, 0), 2001);
    let key = Segment::plain(ACK).key();
    assert_eq!(d.rewriter.learn(key, 2000, 9000, 0), Learned::Stored);
    assert_eq!(d.client(ACK, 1001, 2001, 0), 9001);
    d.rewriter.svm_loaded();
    assert_eq!(
        d.rewriter.age(0),
        1,
        "what the state ended needs no time to age"
    );
    assert_eq!(d.rewriter.counters().half_open, 0);
}

#[test]
fn a_new_connection_replaces_the_old_one_of_its_ports() {
    let mut d = Dialogue::new();
    let key = Segment::plain(ACK).key();
    d.svm(RST, 7500, 0, 0);
    assert_eq!(d.client(TcpFlags::SYN, 5000, 0, 1), 0);
    assert_eq!(d.rewriter.learn(key, 100, 90, 1), Learned::Stored);
    assert_eq!((d.rewriter.open.len(), d.rewriter.closed.len()), (1, 0));
    assert_eq!(d.client(ACK, 5001, 101, 1), 91);
    assert_eq!(d.rewriter.learn(key, 100, 90, 2), Learned::Stored);
    assert_eq!(d.rewriter.counters().learned, 2, "sent twice, learned once");
    assert_eq!(d.rewriter.learn(key, 55, 55, 3), Learned::Stored);
    assert!(d.rewriter.is_empty(), "equal numbers need no offset");
    assert_eq!(d.client(ACK, 5001, 101, 3), 101);
}

#[test]
fn only_tcp_has_numbers() {
    let mut rewriter = Rewriter::new(LIMITS, 0);
    let udp = FlowKey::udp(([10, 0, 0, 2], 80).into(), ([10, 0, 0, 1], 1).into());
    assert_eq!(rewriter.learn(udp, 1, 2, 0), Learned::NotTcp);
    assert!(rewriter.is_empty());
}
