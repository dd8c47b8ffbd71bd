//! Frames that nobody should send: no panic, and what cannot be read waits for the commit.

use std::collections::VecDeque;

use colo_testkit::rng::{Rng, for_cases};
use dpdk_colo::compare::Numbers;
use dpdk_colo::packet::{Kind, Packet};

use crate::harness::{Harness, Sent, ample};
use crate::model::Meaning;
use crate::traffic::{Connection, Side, ends, merge};

/// Any bytes, or a good frame with some of them changed, cut or added.
pub fn garbage(rng: &mut Rng, good: &Sent, flow: usize) -> Sent {
    let mut bytes = if rng.one_in(8) {
        (0..rng.below(120)).map(|_| rng.byte()).collect()
    } else {
        good.bytes.clone()
    };
    for _ in 0..rng.below(4) {
        if !bytes.is_empty() {
            let i = rng.below(bytes.len().min(80));
            bytes[i] = match rng.below(3) {
                0 => rng.byte(),
                1 => bytes[i] ^ 1 << rng.below(8),
                _ => [0, 1, 0x0f, 0x45, 0xff][rng.below(5)],
            };
        }
    }
    match rng.below(4) {
        0 => bytes.truncate(rng.below(bytes.len() + 1)),
        1 => bytes.extend((0..rng.below(40)).map(|_| 0xaa)),
        _ => {}
    }
    // Headers may end up in a second segment, too.
    let headers = rng.below(bytes.len() + 1);
    let readable = !matches!(Packet::parse(&bytes, bytes.len()).kind, Kind::Unreadable(_));
    Sent {
        flow,
        meaning: if readable {
            Meaning::Unknown
        } else {
            Meaning::Unreadable
        },
        bytes,
        headers,
        cut: None,
    }
}

#[test]
fn garbage_is_neither_lost_nor_let_out_unread() {
    for_cases("garbage", 20_000, garbage_between_good_frames);
}

pub fn garbage_between_good_frames(rng: &mut Rng) {
    let numbers = [Numbers::Translated, Numbers::OwnIsn][rng.below(2)];
    let ends = ends(rng, 0);
    let connection = Connection::random(rng, 0, &ends, numbers);
    let mut queues: Vec<(Side, VecDeque<Sent>)> = Vec::new();
    for side in [Side::Primary, Side::Secondary] {
        let segments = connection.output(rng, true, 0, 1);
        let good = connection.frames(rng, side, &segments);
        let bad = (0..rng.below(20))
            .map(|flow| {
                let i = rng.below(good.len());
                // Each in a flow of its own: nobody knows in which order they may leave.
                garbage(rng, &good[i], flow)
            })
            .collect();
        queues.push((side, bad));
    }
    let mut harness = Harness::new(ample(60, 60), numbers).alone();
    for (side, sent) in merge(rng, queues) {
        match side {
            Side::Primary => assert!(harness.primary(rng, &sent)),
            Side::Secondary => harness.secondary(rng, &sent),
        }
        if rng.one_in(30) {
            harness.overdue();
            harness.fence();
            harness.commit();
        }
    }
    harness.overdue();
    harness.fence();
    harness.commit();
    assert_eq!(harness.waiting(), 0);
}
