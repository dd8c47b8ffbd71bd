//! The numbers of a pair's state machine: limits and times, of the settings and of what its pools hold.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::NodeError;
use super::super::clock::Clock;
use super::super::pools::{IN_FLIGHT, WINDOW};
use super::Site;
use crate::compare::{self, Extent, Limits, Mask, Numbers, Policy, Rule};
use crate::config::{
    self, FailoverMode, FailoverSettings, LinkKey, MaskExtent, MaskRule, PolicyRule, Protocol,
    link_key,
};
use crate::dpdk::tsc;
use crate::link::Timing;
use crate::pair::Times;
use crate::protect::{CheckpointShare, Failover, OnPeerLost, Setup};
use crate::proto::ip;

/// The history's share of the kept S. It is small enough for a core's second-level cache, because each new S is written
/// into the mbuf of the oldest one.
const HISTORY_SHARE: usize = 16;

const RETRANSMIT: Duration = Duration::from_millis(5);
const REPEAT: Duration = Duration::from_secs(1);
/// A difference waits for at most this for the VM to run for its share of the time.
const SHARE_PAUSE: Duration = Duration::from_secs(1);
/// The secondary's report of a load is late after this: its VM resumes before the primary's does, and a busy
/// control thread takes some milliseconds.
const EVIDENCE: Duration = Duration::from_millis(100);
/// Pause before a fencing or failover command is tried again.
const RETRY: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(120);
/// Longest time that a Linux kernel waits for an answer after the last SYN or SYN+ACK that it sends: `tcp_syn_retries`
/// is 6, so that it sends the last of them 63 s after the first and gives up after 127 s; with a `tcp_synack_retries`
/// of 5 those are 31 s and 63 s.
const HALF_OPEN: Duration = Duration::from_secs(64);
/// How long the equal part of a long frame waits for the rest: about the lag between the VMs.
const PART_PATIENCE: Duration = Duration::from_millis(1);
/// How long input waits for a guest that takes none while nothing is protected.
const PATIENCE: Duration = Duration::from_millis(1);
/// Greatest age of the input that a VM gets at its takeover.
const LATEST: Duration = Duration::from_secs(1);

/// The times that a driver keeps.
pub(super) fn times(clock: Clock) -> Times {
    Times {
        patience: clock.ticks(PATIENCE),
        latest: clock.ticks(LATEST),
    }
}

/// The set-up of a pair with these numbers of mbufs for P and for S. Workers have `cached` of the latter in their caches.
pub(super) fn setup(site: &Site<'_>, [p, s]: [u32; 2], cached: usize) -> Result<Setup, NodeError> {
    let (pair, clock, idle_sleep) = (site.pair, site.clock, site.cores.idle_sleep);
    let room = |mbufs: u32, in_flight: usize| {
        (mbufs as usize)
            .saturating_sub(in_flight)
            .max(mbufs as usize / 4)
    };
    let hold = pair.hold_frames.get() as usize;
    let primary = hold.min(room(p, IN_FLIGHT));
    let secondary = hold.min(room(s, IN_FLIGHT + cached));
    let sealed = matches!(pair.role.link_key(), Some(LinkKey::File(_)));
    let boot = match sealed {
        true => u32::from_ne_bytes(link_key::random()?).max(1),
        false => boot_number(),
    };
    Ok(Setup {
        vm: pair.vm_id,
        boot,
        sealed,
        link_mac: [0; 6],
        window: WINDOW as u32,
        link: Timing {
            heartbeat: clock.ticks(pair.failover.heartbeat),
            retransmit: clock.ticks(RETRANSMIT),
            silence: clock.ticks(pair.failover.silence()),
            // A core that sleeps looks when it wakes.
            gap: clock.ticks(pair.failover.heartbeat + 2 * idle_sleep.unwrap_or_default()),
            stall: clock.ticks(pair.failover.peer_stall_limit),
            restart: clock.ticks(pair.failover.restart_limit),
        },
        limits: Limits {
            primary,
            secondary,
            history: secondary / HISTORY_SHARE,
            flows: pair.flows.get() as usize,
            timeout: clock.ticks(pair.compare_timeout),
            patience: clock.ticks(PART_PATIENCE),
            idle: clock.ticks(IDLE),
            half_open: clock.ticks(HALF_OPEN),
        },
        numbers: Numbers::Translated,
        policy: Policy::new(pair.policy.iter().map(|it| rule(it, clock)).collect()),
        repeat: clock.ticks(REPEAT),
        checkpoint_share: CheckpointShare {
            percent: pair.checkpoint_share.into(),
            most: clock.ticks(SHARE_PAUSE),
        },
        evidence: clock.ticks(EVIDENCE),
        // The rewriter knows as many as the comparator.
        connections: pair.flows.get() as usize,
        failover: failover(&pair.failover, clock),
        millisecond: clock.ticks(Duration::from_millis(1)),
        last_segments: 0,
    })
}

fn failover(settings: &FailoverSettings, clock: Clock) -> Failover {
    Failover {
        on_peer_lost: match settings.on_peer_lost {
            config::OnPeerLost::Hold => OnPeerLost::Hold,
            config::OnPeerLost::Release => OnPeerLost::Release,
            config::OnPeerLost::Exec(_) => OnPeerLost::Fence,
        },
        auto: settings.mode == FailoverMode::Auto,
        retry: clock.ticks(RETRY),
    }
}

/// A number that grows with time, in steps of 16 ms. By it a peer knows that a restarted node is the later one. A guard
/// with a key knows that without a clock.
fn boot_number() -> u32 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    ((since.as_millis() >> 4) as u32).max(1)
}

/// A configured rule in the form that the comparator matches.
fn rule(rule: &PolicyRule, clock: Clock) -> Rule {
    let protocols: &[u8] = match rule.protocol {
        Protocol::Tcp => &[ip::TCP],
        Protocol::Udp => &[ip::UDP],
        Protocol::Icmp => &[ip::ICMP, ip::ICMPV6],
        Protocol::Any => &[],
    };
    Rule {
        name: rule.name.as_str().to_owned(),
        protocols: protocols.to_vec(),
        port: rule.port.map(|port| port.get()),
        prefix: rule
            .prefix
            .map(|prefix| (prefix.address(), prefix.length())),
        vlan: rule.vlan,
        mask: rule.mask.as_ref().map(|it| mask(it, clock)),
    }
}

/// The comparator looks back as far as a configured rule may.
const _: () = assert!(
    MaskRule::MAX_LITERAL <= compare::MAX_LITERAL && MaskRule::MAX_VALUE <= compare::MAX_VALUE
);

fn mask(rule: &MaskRule, clock: Clock) -> Mask {
    // The wall clock is asked once: steps that it takes later move no rule's end.
    let remaining = |expires: SystemTime| {
        let left = expires.duration_since(SystemTime::now());
        tsc::now().saturating_add(clock.ticks(left.unwrap_or_default()))
    };
    Mask {
        literal: rule.after.to_vec(),
        extent: match rule.extent {
            MaskExtent::Length(length) => Extent::Length(length),
            MaskExtent::Until { end, most } => Extent::Until { end, most },
        },
        tried: rule.dry_run,
        expires: rule.expires.map(remaining),
    }
}
