//! What the tests of failover share: a pair that loses one side, the node that takes over, and segments of a connection.

use super::*;
use crate::packet::Packet;

/// A pair in COLO whose nodes go by this policy.
pub(super) fn pair_with(on_peer_lost: OnPeerLost, auto: bool) -> Pair {
    Pair::protected_with(|setup| {
        setup.failover = Failover {
            on_peer_lost,
            auto,
            retry: 1_000,
        };
    })
}

impl Pair {
    pub(super) fn silence(&mut self) {
        self.cut = true;
        self.now += TIMING.silence;
        self.primary.tick(self.now);
        self.secondary.tick(self.now);
    }

    /// The secondary's QEMU gets the failover command.
    pub(super) fn secondary_fails_over(&mut self) {
        self.secondary_fails_over_at(1);
    }

    /// It is the ring's stop of this number.
    pub(super) fn secondary_fails_over_at(&mut self, stops: u32) {
        self.secondary.guest_stopped(0);
        for event in [
            QemuEvent::ColoExit,
            QemuEvent::Stop,
            QemuEvent::Migration(Migration::Completed),
            QemuEvent::Resume,
            QemuEvent::Barrier {
                stops,
                migration: Migration::Completed,
                running: true,
            },
        ] {
            assert!(!self.secondary.takes_over());
            self.secondary.monitor(event);
        }
    }

    pub(super) fn take_over(self) -> Primary<HeapFrame> {
        assert!(self.secondary.takes_over());
        let mut successor = Primary::new(setup(9), self.now);
        successor.inherit(self.secondary.into_handover_state(), self.now);
        successor
    }
}

pub(super) fn segment(from_guest: bool, seq: u32, ack: u32, payload: &[u8]) -> HeapFrame {
    let (src, dst, from, to) = if from_guest {
        (40_000, 80, [10, 0, 0, 1], [10, 0, 0, 2])
    } else {
        (80, 40_000, [10, 0, 0, 2], [10, 0, 0, 1])
    };
    let mut header = TcpHeader::new(src, dst, seq, 1_000);
    header.ack = true;
    header.acknowledgment_number = ack;
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(from, to, 64)
        .tcp_header(header)
        .write(&mut bytes, payload)
        .unwrap();
    HeapFrame::new(&bytes)
}

pub(super) fn numbers(frame: &HeapFrame) -> (u32, u32) {
    let tcp = Packet::parse(frame.head(), frame.len()).tcp;
    (tcp.seq, tcp.ack)
}

/// What the guest sends leaves at once.
pub(super) fn say(successor: &mut Primary<HeapFrame>, frame: HeapFrame, now: Ticks) -> HeapFrame {
    let frame = successor.outward(frame, now).unwrap();
    output(successor, frame, now).unwrap()
}

/// What a survivor sends once more of its own accord, by sequence and acknowledgment number.
pub(super) fn again(successor: &mut Primary<HeapFrame>) -> Vec<(u32, u32)> {
    let mut all = Vec::new();
    while let Some(last) = successor.next_last() {
        if last.counts {
            all.push(numbers(&successor.outward_again(last.frame).unwrap()));
        }
    }
    all
}
