//! One pair: its defaults, what its role needs and forbids, and what could let both VMs speak.

use std::num::NonZeroU32;
use std::time::Duration;

use super::super::fault::PairFault;
use super::super::{
    FailoverMode, FailoverSettings, LinkKey, Macs, OnPeerLost, PairKeys, PairSettings, PolicyRule,
    PortName, PortRole, Role, RoleSettings,
};

const DEFAULT_COMPARE_TIMEOUT_MS: u32 = 3000;
const DEFAULT_CHECKPOINT_SHARE: u8 = 100;
pub(super) const DEFAULT_HOLD_FRAMES: u32 = 16_384;
const DEFAULT_FLOWS: u32 = 65_536;
const DEFAULT_HEARTBEAT_MS: u32 = 20;
const DEFAULT_HEARTBEAT_LOSS: u32 = 25;
const DEFAULT_PEER_STALL_LIMIT_MS: u32 = 5_000;
const DEFAULT_RESTART_LIMIT_MS: u32 = 30_000;

/// Longest sleeps in a silence, at least: two at each end, for a heartbeat and its answer.
const SLEEPS_IN_A_SILENCE: u32 = 4;

/// The settings of a pair with these keys and rules.
pub(super) fn pair_settings(
    name: String,
    keys: PairKeys,
    policy: Vec<PolicyRule>,
) -> Result<PairSettings, PairFault> {
    let printable = |c: char| c.is_ascii_graphic();
    if !(1..=64).contains(&name.len()) || !name.chars().all(printable) {
        return Err(PairFault::Name);
    }
    for (at, rule) in policy.iter().enumerate() {
        if policy[..at].iter().any(|earlier| earlier.name == rule.name) {
            return Err(PairFault::RuleTwice {
                name: rule.name.clone(),
            });
        }
    }
    let compare_timeout = keys
        .compare_timeout
        .map_or(DEFAULT_COMPARE_TIMEOUT_MS, |ms| ms.value());
    Ok(PairSettings {
        // The bound of the type keeps it below 2^16.
        vm_id: keys.vm_id.map_or(0, |id| id.value() as u16),
        compare_timeout: Duration::from_millis(compare_timeout.into()),
        // The bound of the type keeps it below 2^8.
        checkpoint_share: keys
            .checkpoint_share
            .map_or(DEFAULT_CHECKPOINT_SHARE, |percent| percent.value() as u8),
        // The bound of the type keeps it below 2^16.
        mtu: keys.mtu.map(|bytes| bytes.value() as u16),
        hold_frames: at_least_one_or(keys.hold_frames.map(|n| n.value()), DEFAULT_HOLD_FRAMES),
        flows: at_least_one_or(keys.flows.map(|n| n.value()), DEFAULT_FLOWS),
        failover: failover_settings(&keys)?,
        macs: keys.mac.clone().map_or_else(Vec::new, Macs::into_vec),
        migrate_listen: keys.migrate_listen,
        nbd_listen: keys.nbd_listen,
        role: role_settings(keys)?,
        name,
        policy,
    })
}

/// Refuses what could let both VMs speak, as far as one node can know, and what would never act.
fn failover_settings(keys: &PairKeys) -> Result<FailoverSettings, PairFault> {
    let settings = FailoverSettings {
        heartbeat: Duration::from_millis(
            keys.heartbeat
                .map_or(DEFAULT_HEARTBEAT_MS, |ms| ms.value())
                .into(),
        ),
        heartbeat_loss: keys
            .heartbeat_loss
            .map_or(DEFAULT_HEARTBEAT_LOSS, |n| n.value()),
        heartbeat_udp: keys.heartbeat_udp,
        peer_stall_limit: Duration::from_millis(
            keys.peer_stall_limit
                .map_or(DEFAULT_PEER_STALL_LIMIT_MS, |ms| ms.value())
                .into(),
        ),
        restart_limit: Duration::from_millis(
            keys.restart_limit
                .map_or(DEFAULT_RESTART_LIMIT_MS, |ms| ms.value())
                .into(),
        ),
        on_peer_lost: keys.on_peer_lost.clone().unwrap_or_default(),
        mode: keys.failover.unwrap_or_default(),
    };
    if settings.heartbeat_udp.is_some() && keys.link_key == Some(LinkKey::Trusted) {
        return Err(PairFault::ReportsWithoutKey);
    }
    if keys.migrate_listen.is_some() && keys.migrate_listen == keys.nbd_listen {
        return Err(PairFault::ListensTwice);
    }
    if settings.heartbeat_udp.is_none() && keys.peer_stall_limit.is_some() {
        return Err(PairFault::LimitWithoutReports);
    }
    match (keys.role, settings.mode, &settings.on_peer_lost) {
        (Some(Role::Secondary), FailoverMode::Auto, OnPeerLost::Release) => {
            Err(PairFault::SplitBrain)
        }
        (_, FailoverMode::Auto, OnPeerLost::Hold) => Err(PairFault::NeverCertain),
        _ => Ok(settings),
    }
}

fn at_least_one_or(given: Option<u32>, default: u32) -> NonZeroU32 {
    NonZeroU32::new(given.unwrap_or(default)).unwrap_or(NonZeroU32::MIN)
}

fn role_settings(mut keys: PairKeys) -> Result<RoleSettings, PairFault> {
    let role = keys.role.ok_or(PairFault::NoRole)?;
    keys.raw_secondary = keys.raw_secondary.filter(|is_raw| *is_raw);
    if let Some(key) = keys.present().find(|key| !key.is_for(role)) {
        return Err(PairFault::NotForRole {
            role,
            key: key.name,
        });
    }
    let port = |port: Option<PortName>, place: PortRole| {
        port.ok_or(PairFault::Missing {
            role,
            key: place.key(),
            value: "PORT",
        })
    };
    let link_key = PairFault::Missing {
        role,
        key: "link-key",
        value: "FILE, or none where nobody else can send frames on the link (--make-link-key FILE makes a key)",
    };
    let qmp = PairFault::Missing {
        role,
        key: "qmp",
        value: "SOCKET",
    };
    Ok(match role {
        Role::Primary => RoleSettings::Primary {
            guest: port(keys.guest, PortRole::Guest)?,
            uplink: port(keys.uplink, PortRole::Uplink)?,
            link: port(keys.link, PortRole::Link)?,
            qmp: keys.qmp.ok_or(qmp)?,
            link_key: keys.link_key.ok_or(link_key)?,
        },
        Role::Secondary => RoleSettings::Secondary {
            guest: port(keys.guest, PortRole::Guest)?,
            uplink: keys.uplink,
            link: port(keys.link, PortRole::Link)?,
            qmp: keys.qmp.ok_or(qmp)?,
            link_key: keys.link_key.ok_or(link_key)?,
        },
        Role::Compare => RoleSettings::Compare {
            primary_in: port(keys.primary_in, PortRole::PrimaryIn)?,
            secondary_in: port(keys.secondary_in, PortRole::SecondaryIn)?,
            out: port(keys.out, PortRole::Out)?,
            qmp: keys.qmp,
            raw_secondary: keys.raw_secondary.unwrap_or(false),
        },
    })
}

/// A heartbeat and its answer wait while a core at either end sleeps, and the peer must not be lost for that.
pub(super) fn refuse_sleepers(
    pair: &PairSettings,
    idle_sleep: Option<Duration>,
) -> Result<(), PairFault> {
    let has_peer = pair.role.role() != Role::Compare;
    let longest = pair.failover.silence() / SLEEPS_IN_A_SILENCE;
    match idle_sleep {
        Some(sleep) if has_peer && sleep > longest => Err(PairFault::SleepsTooLong {
            most: longest.as_micros().try_into().unwrap_or(u64::MAX),
        }),
        _ => Ok(()),
    }
}
