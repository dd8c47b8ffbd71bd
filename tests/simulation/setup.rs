//! The times that every run keeps, and how its nodes are set up.

use dpdk_colo::compare::{Limits, Numbers, Policy};
use dpdk_colo::frame::Ticks;
use dpdk_colo::link::Timing;
use dpdk_colo::protect::{CheckpointShare, Setup};

use crate::profile::Profile;

/// Times in microseconds.
pub const MS: Ticks = 1_000;
pub const TIMEOUT: Ticks = 20 * MS;
pub const REPEAT: Ticks = 10 * MS;
/// A difference waits for at most this for the VM to run for its share.
pub const SHARE_PAUSE: Ticks = 5 * MS;
pub const EVIDENCE: Ticks = 6 * MS;
pub const TIMING: Timing = Timing {
    heartbeat: MS,
    retransmit: MS / 2,
    silence: 15 * MS,
    gap: MS,
    stall: 150 * MS,
    restart: 300 * MS,
};
/// What detection may take beyond the timeout: a round, a tick, the link's own times.
pub const SLACK: Ticks = 2 * MS;

/// The setup of a node, the `boot`th that starts.
pub fn setup(boot: u32, profile: &Profile) -> Setup {
    Setup {
        vm: 1,
        // Behind a guard it needs no order.
        boot: boot.wrapping_mul(0x9e37_79b9) | 1,
        sealed: true,
        link_mac: [2, 0, 0, 0, 9, boot as u8],
        window: 96,
        link: TIMING,
        limits: Limits {
            primary: 200,
            secondary: 400,
            history: 100,
            flows: 64,
            timeout: TIMEOUT,
            patience: 1,
            idle: 60_000 * MS,
            half_open: 60_000 * MS,
        },
        numbers: Numbers::Translated,
        policy: Policy::default(),
        repeat: REPEAT,
        checkpoint_share: CheckpointShare {
            percent: profile.share,
            most: SHARE_PAUSE,
        },
        evidence: EVIDENCE,
        connections: 64,
        failover: profile.failover,
        millisecond: MS,
        last_segments: 16,
    }
}
