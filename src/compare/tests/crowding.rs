//! Who takes the room for frames that wait, and that established flows go on beside it.

use super::ageing::{between, open, opening};
use super::*;

/// What one VM sends again and again, and the other one never.
#[derive(Clone, Copy, Debug)]
enum Flood {
    Stream,
    DatagramsOfOneFlow,
    HalfOpen,
    DatagramOfEachFlow,
}

impl Flood {
    const ALL: [Self; 4] = [
        Self::Stream,
        Self::DatagramsOfOneFlow,
        Self::HalfOpen,
        Self::DatagramOfEachFlow,
    ];

    fn frame(self, n: u32) -> Vec<u8> {
        let one = between(false, 1);
        match self {
            Self::Stream => packets::tcp(&one, &segment(100 + n, 1, &[n as u8]), 0),
            Self::DatagramsOfOneFlow => packets::udp(&one, &n.to_be_bytes(), 0),
            Self::HalfOpen => opening(&between(false, 2 + n), 5000),
            Self::DatagramOfEachFlow => packets::udp(&between(false, 2 + n), b"once", 0),
        }
    }

    fn reason(self) -> Reason {
        match self {
            Self::Stream | Self::DatagramsOfOneFlow => Reason::FlowHold,
            Self::HalfOpen => Reason::HalfOpenHold,
            Self::DatagramOfEachFlow => Reason::DatagramHold,
        }
    }
}

/// A pair with an established connection, with room for many flows.
fn pair() -> Pair {
    let limits = Limits {
        history: 8,
        flows: 1024,
        ..LIMITS
    };
    let mut pair = Pair::with(limits, Vec::new());
    open(&mut pair, &between(false, 0));
    pair
}

/// Both VMs send the next byte of that connection, and it leaves.
fn goes_on(pair: &mut Pair, n: u32) {
    let says = packets::tcp(&between(false, 0), &segment(1001 + n, 1, &[n as u8]), 0);
    if n.is_multiple_of(2) {
        pair.p(&says);
        pair.s(&says);
    } else {
        pair.s(&says);
        pair.p(&says);
    }
    assert_eq!(pair.left(), 1, "byte {n}");
}

#[test]
fn the_s_of_one_flow_or_of_half_open_connections_leave_room_for_those_of_others() {
    for flood in Flood::ALL {
        let mut pair = pair();
        let mut dropped_of = Vec::new();
        for n in 0..500 {
            pair.s(&flood.frame(n));
            dropped_of.extend(pair.comparator.take_divergence());
            goes_on(&mut pair, n);
            assert!(pair.comparator.take_divergence().is_none(), "{flood:?}");
        }
        let first = dropped_of.first().expect("a checkpoint is asked for");
        assert_eq!(first.reason, Reason::SecondaryOverflow, "{flood:?}");
        let own = Packet::parse(&flood.frame(0), flood.frame(0).len()).key;
        let is_one = matches!(flood, Flood::Stream | Flood::DatagramsOfOneFlow);
        assert_eq!(first.flow == Some(own), is_one, "{flood:?}");
        assert!(pair.comparator.counts().secondary_overflow > 0);
        pair.checkpoint();
        goes_on(&mut pair, 500);
        assert!(pair.comparator.secondary_buffers() <= 8, "{flood:?}");
    }
}

#[test]
fn a_connection_still_opens_beside_such_a_flood() {
    for flood in Flood::ALL {
        let mut pair = pair();
        (0..500).for_each(|n| pair.s(&flood.frame(n)));
        let late = between(true, 9);
        open(&mut pair, &late);
        pair.both(&packets::tcp(&late, &segment(1001, 1, b"x"), 0));
        assert_eq!(pair.left(), 1, "{flood:?}");
    }
}

#[test]
fn p_of_one_kind_ask_for_a_checkpoint_at_half_of_the_room() {
    for flood in Flood::ALL {
        let mut pair = pair();
        for n in 0..LIMITS.primary as u32 / 2 {
            assert!(pair.comparator.crowding(pair.now).is_none(), "{flood:?}");
            pair.p(&flood.frame(n));
            goes_on(&mut pair, n);
        }
        let found = pair.comparator.crowding(pair.now).expect("half is taken");
        assert_eq!(found.reason, flood.reason());
        assert_eq!(
            pair.comparator.counts().divergences[found.reason as usize],
            1
        );
        let (shown, _) = found.primary.expect("one of them");
        assert_eq!(shown.to_vec(), flood.frame(0), "the oldest");
        goes_on(&mut pair, LIMITS.primary as u32 / 2);
        drop(shown);
        pair.checkpoint();
        assert_eq!(pair.left(), LIMITS.primary / 2);
        assert!(pair.comparator.crowding(pair.now).is_none());
    }
}

#[test]
fn established_flows_that_share_the_room_ask_for_none() {
    let mut pair = pair();
    for n in 0..LIMITS.primary as u32 - 1 {
        let ends = between(false, 2 + n % 8);
        pair.p(&packets::tcp(&ends, &segment(100 + n, 1, &[n as u8]), 0));
    }
    assert!(pair.comparator.crowding(pair.now).is_none());
}

#[test]
fn what_may_leave_does_not_crowd() {
    let mut pair = pair();
    for n in 0..40 {
        pair.both(&packets::udp(&between(false, 1), &[n], 0));
    }
    pair.p(&packets::udp(&between(false, 1), b"waits", 0));
    assert!(pair.comparator.crowding(pair.now).is_none());
    assert_eq!(pair.left(), 40);
}

#[test]
fn nothing_crowds_while_everything_waits_for_a_commit() {
    let mut pair = pair();
    pair.comparator.suspend();
    (0..40).for_each(|n| pair.p(&Flood::DatagramsOfOneFlow.frame(n)));
    assert!(pair.comparator.crowding(pair.now).is_none());
}
