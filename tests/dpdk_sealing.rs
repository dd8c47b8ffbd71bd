//! The stage between a link's port and its node, without a port: real mbufs, two guards.

#![cfg(feature = "dpdk")]
#![allow(
    dead_code,
    reason = "the stage's files are the daemon's, which uses all of them"
)]

mod dpdk_support;
#[path = "../src/node/egress.rs"]
mod egress;
#[path = "../src/node/fragments.rs"]
mod fragments;
#[path = "../src/node/sealing.rs"]
mod sealing;
#[path = "../src/node/shared_port.rs"]
mod shared_port;

// What these files name by `crate`.
use dpdk_colo::{dpdk, frame, link, packet, switch};

use dpdk::{Burst, Eal, Mbuf, tsc};
use dpdk_support::{TestEal, bytes_of, pool};
use link::Timing;
use link::secure::{Guard, Identity, KeyRing, Role};
use sealing::Sealing;

/// The longest frame of the port, Ethernet header included, is 614 bytes.
const MTU: usize = 600;
const SECOND: u64 = 1 << 32;
const TIMING: Timing = Timing {
    heartbeat: 1_000,
    retransmit: 500,
    silence: 100 * SECOND,
    gap: u64::MAX,
    stall: 0,
    restart: 0,
};

/// One end of the link.
struct End {
    stage: Sealing,
    frames: dpdk::Mempool,
}

impl End {
    fn start(eal: &Eal, role: Role, seed: u8) -> Self {
        let identity = Identity {
            vm: 1,
            role,
            mac: [2, 0, 0, 0, 0, seed],
            seed: [seed; 32],
        };
        let ring = KeyRing::parse(&"5a".repeat(32)).expect("a key");
        let guard = Guard::new(&ring, &identity, TIMING);
        let [frames, headers, cutting] =
            ["frames", "headers", "cutting"].map(|what| pool(eal, &format!("{what}{seed}"), 255));
        Self {
            stage: Sealing::new(guard, headers, Some(MTU), Some(cutting)),
            frames,
        }
    }

    /// What goes to the wire where the node sends these bytes, and what the guard says by itself.
    fn sends(&mut self, bytes: Option<&[u8]>) -> Vec<Vec<u8>> {
        let (mut out, mut wire) = (Burst::new(), Burst::new());
        if let Some(bytes) = bytes {
            let frame = self.frames.copy_of(bytes).expect("memory");
            assert!(out.push(frame).is_ok(), "it is empty");
        }
        self.stage.fill(&mut out, &mut wire);
        assert!(out.is_empty() && !self.stage.is_busy(), "all was taken");
        wire.drain().map(|frame| bytes_of(&frame)).collect()
    }

    /// What the node gets of a frame from the wire.
    fn receives(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let frame: Mbuf = self.frames.copy_of(bytes).expect("memory");
        let whole = self.stage.accept(frame, tsc::now())?;
        Some(bytes_of(&whole))
    }
}

/// A frame of the link's with these bytes behind its Ethernet header.
fn frame_of(byte: u8, length: usize) -> Vec<u8> {
    let mut frame = vec![byte; length];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 0x88, 0xb5]);
    frame
}

/// Lets both speak until both have heard the other in a session.
fn meet(a: &mut End, b: &mut End) {
    for _ in 0..1_000_000 {
        for frame in a.sends(Some(&frame_of(0, 60))) {
            b.receives(&frame);
        }
        for frame in b.sends(Some(&frame_of(0, 60))) {
            a.receives(&frame);
        }
        if a.stage.guard.has_session() && b.stage.guard.has_session() {
            return;
        }
    }
    panic!("no session");
}

#[test]
fn fragments_of_two_sessions_are_no_frame() {
    let eal = TestEal::start(&["-l", "0", "-m", "64"]);
    let (mut a, mut b) = (
        End::start(&eal, Role::Primary, 1),
        End::start(&eal, Role::Secondary, 2),
    );
    meet(&mut a, &mut b);
    assert!(b.stage.take_session().is_some() && b.stage.take_session().is_none());
    let length = 1_000;

    // Within a session two fragments are a frame.
    let parts = a.sends(Some(&frame_of(1, length)));
    assert_eq!(parts.len(), 2);
    assert_eq!(b.receives(&parts[0]), None);
    assert_eq!(b.receives(&parts[1]), Some(frame_of(1, length)));

    // A's second frame stays open, and a's place is taken by another process, whose second frame has lost its
    // beginning.
    let parts = a.sends(Some(&frame_of(2, length)));
    assert_eq!(b.receives(&parts[0]), None);
    let bye = a.stage.good_bye().expect("a session");
    assert_eq!(b.receives(&bytes_of(&bye)), None);
    drop(bye);
    let mut next = End::start(&eal, Role::Primary, 3);
    meet(&mut next, &mut b);
    assert!(b.stage.take_session().is_some());
    // The same number as the open one's.
    next.sends(Some(&frame_of(3, length)));
    let parts = next.sends(Some(&frame_of(4, length)));
    assert_eq!(parts.len(), 2);
    assert_eq!(
        b.receives(&parts[1]),
        None,
        "R11: half of it is of another session"
    );

    // Nothing is wrong with what follows.
    let parts = next.sends(Some(&frame_of(5, length)));
    let whole: Vec<_> = parts.iter().filter_map(|part| b.receives(part)).collect();
    assert_eq!(whole, [frame_of(5, length)]);
    for end in [&a, &b, &next] {
        let frames = &end.frames;
        assert_eq!(frames.available(), 255, "mbufs are conserved");
    }
}
