//! Time stamps: the SVM sees its own echoed, and after a takeover none goes back.

use super::*;

/// Linux refuses a SYN+ACK that echoes a time stamp it has not sent.
#[test]
fn the_svm_sees_its_own_time_stamps_echoed() {
    let syn = |number, timestamp| Isn {
        number,
        timestamp: Some(timestamp),
    };
    let key = Segment::plain(TcpFlags::SYN).key();
    let mut rewriter = Rewriter::new(LIMITS, 0);
    assert_eq!(
        rewriter.learn(key, syn(2000, 500), syn(7000, u32::MAX), 0),
        Learned::Stored
    );
    for (echo, seen) in [(500, u32::MAX), (501, 0), (0, 0)] {
        let answer = Segment {
            from_client: true,
            ack: 2001,
            timestamps: Some((9, echo)),
            ..Segment::plain(TcpFlags::SYN | TcpFlags::ACK)
        };
        let mut frame = HeapFrame::new(&answer.bytes());
        let _ = pass(&mut rewriter, &Way::ToGuest, &mut frame, 0);
        let expected = Segment {
            ack: 7001,
            timestamps: Some((9, seen)),
            ..answer
        };
        assert_eq!(frame.to_vec(), expected.bytes());
    }
}

/// What a segment of the guest's clock comes out with, in a frame that is right in all else.
fn time_stamp(rewriter: &mut Rewriter, flags: TcpFlags, value: u32) -> u32 {
    let mut segment = Segment {
        timestamps: Some((value, 7)),
        payload: b"x".to_vec(),
        ..Segment::plain(flags)
    };
    let mut frame = HeapFrame::new(&segment.bytes());
    let packet = Packet::parse(frame.head(), frame.len());
    let outcome = rewriter.from_guest(&mut frame, &packet, 0);
    let tcp = usize::from(packet.l4);
    let out = u32::from_be_bytes(*frame.head()[tcp + 22..].first_chunk().unwrap());
    segment.timestamps = Some((out, 7));
    assert_eq!(frame.to_vec(), segment.bytes());
    assert_eq!(outcome == Outcome::Untouched, out == value);
    out
}

/// A client echoes what it has heard of the guest's clock.
fn echoes(rewriter: &mut Rewriter, flags: TcpFlags, echo: u32) {
    let segment = Segment {
        from_client: true,
        timestamps: Some((7, echo)),
        ..Segment::plain(flags)
    };
    let mut frame = HeapFrame::new(&segment.bytes());
    let packet = Packet::parse(frame.head(), frame.len());
    assert_eq!(
        rewriter.to_guest(&mut frame, &packet, 0),
        Outcome::Untouched
    );
}

#[test]
fn no_time_stamp_is_older_than_what_the_client_may_have_heard() {
    for base in [5_000, 0u32.wrapping_sub(40)] {
        let at = |ticks| base.wrapping_add(ticks);
        let mut rewriter = Rewriter::new(LIMITS, 7);
        echoes(&mut rewriter, TcpFlags::ACK, at(0));
        echoes(&mut rewriter, TcpFlags::ACK, at(0).wrapping_sub(9));
        // It is the primary that speaks.
        assert_eq!(time_stamp(&mut rewriter, TcpFlags::ACK, at(0)), at(0));
        rewriter.take_over();
        assert_eq!(time_stamp(&mut rewriter, TcpFlags::ACK, at(0)), at(100));
        // What it has heard by now it echoes, and no more is added.
        echoes(&mut rewriter, TcpFlags::ACK, at(100));
        assert_eq!(time_stamp(&mut rewriter, TcpFlags::ACK, at(50)), at(100));
        echoes(&mut rewriter, TcpFlags::ACK, at(170));
        assert_eq!(time_stamp(&mut rewriter, TcpFlags::ACK, at(120)), at(170));
        // The clock has come so far.
        assert_eq!(time_stamp(&mut rewriter, TcpFlags::ACK, at(170)), at(170));
        assert_eq!(time_stamp(&mut rewriter, TcpFlags::ACK, at(20)), at(20));
        assert!(rewriter.clocks.is_empty());
    }
}

#[test]
fn another_connection_has_another_clock() {
    for from_client in [false, true] {
        let mut rewriter = Rewriter::new(LIMITS, 7);
        echoes(&mut rewriter, TcpFlags::ACK, 5_000);
        if from_client {
            echoes(&mut rewriter, TcpFlags::SYN, 0);
        }
        rewriter.take_over();
        if !from_client {
            assert_eq!(time_stamp(&mut rewriter, TcpFlags::SYN, 30), 30);
        }
        assert_eq!(time_stamp(&mut rewriter, TcpFlags::ACK, 31), 31);
    }
    // The connection that has been silent for longest makes room.
    let mut rewriter = Rewriter::new(LIMITS, 7);
    echoes(&mut rewriter, TcpFlags::ACK, 5_000);
    for port in 0..8 {
        let key = FlowKey::tcp(([10, 0, 0, 1], port).into(), ([10, 0, 0, 2], 80).into());
        let mut other = Segment {
            from_client: true,
            timestamps: Some((7, 1)),
            ..Segment::plain(TcpFlags::ACK)
        }
        .bytes();
        other[34..36].copy_from_slice(&port.to_be_bytes());
        let packet = Packet::parse(&other, other.len());
        assert_eq!(packet.key, key);
        rewriter.clocks.hear(&other, &packet, false);
    }
    rewriter.take_over();
    assert_eq!(time_stamp(&mut rewriter, TcpFlags::ACK, 31), 31);
}
