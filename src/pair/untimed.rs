//! A primary whose times never come, for tests and measurements of single rounds: its set-up, the link's end at its peer,
//! and the events with which its VM enters COLO.

use crate::compare::{Limits, Numbers, Policy};
use crate::frame::Ticks;
use crate::link::{Endpoint, Timing};
use crate::protect::{CheckpointShare, Failover, Migration, OnPeerLost, QemuEvent, Setup};

use super::Times;

/// A time that no caller lets come.
pub const NEVER: Ticks = 1 << 40;

/// The driver's times.
pub const TIMES: Times = Times {
    patience: NEVER,
    latest: NEVER,
};

const TIMING: Timing = Timing {
    heartbeat: NEVER,
    retransmit: NEVER,
    silence: NEVER,
    gap: NEVER,
    stall: NEVER,
    restart: NEVER,
};

/// Frames that may be on their way over the link, as a daemon's.
const WINDOW: u32 = 1024;
/// The pair's id, and the numbers of the nodes' starts.
const VM: u16 = 1;
const BOOT: u32 = 1;
const PEER_BOOT: u32 = 2;

/// What a primary may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Frames of each VM.
    pub frames: usize,
    /// The SVM's frames that have met their counterparts.
    pub history: usize,
    /// Flows.
    pub flows: usize,
}

/// A primary that translates the SVM's numbers, exempts nothing and holds everything when its peer is lost.
pub fn setup(room: Room) -> Setup {
    Setup {
        vm: VM,
        boot: BOOT,
        sealed: false,
        link_mac: [2; 6],
        window: WINDOW,
        link: TIMING,
        limits: Limits {
            primary: room.frames,
            secondary: room.frames,
            history: room.history,
            flows: room.flows,
            timeout: NEVER,
            patience: 1,
            idle: NEVER,
            half_open: NEVER,
        },
        numbers: Numbers::Translated,
        policy: Policy::default(),
        repeat: NEVER,
        checkpoint_share: CheckpointShare::ALL,
        evidence: NEVER,
        connections: room.flows,
        failover: Failover {
            on_peer_lost: OnPeerLost::Hold,
            auto: false,
            retry: NEVER,
        },
        millisecond: NEVER,
        last_segments: 16,
    }
}

/// The link's end at the peer of such a primary.
pub fn peer() -> Endpoint {
    Endpoint::new(VM, PEER_BOOT, [4; 6], WINDOW, TIMING, 0)
}

/// The monitor's answer to a barrier while the VM runs.
pub fn barrier(stops: u32, migration: Migration) -> QemuEvent {
    QemuEvent::Barrier {
        stops,
        migration,
        running: true,
    }
}

/// What the monitor of a VM outside of COLO reports first.
pub fn connects() -> [QemuEvent; 2] {
    let connected = QemuEvent::Connected {
        migration: Migration::None,
        running: true,
        leads: false,
    };
    [connected, barrier(0, Migration::None)]
}

/// What it reports when the VM enters COLO, with the first stop of its ring.
pub fn enters_colo() -> [QemuEvent; 4] {
    [
        QemuEvent::Stop,
        QemuEvent::Migration(Migration::Colo),
        QemuEvent::Resume,
        barrier(1, Migration::Colo),
    ]
}
