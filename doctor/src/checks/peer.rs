//! What both nodes of a pair must have alike.

use std::fmt::Display;

use crate::facts::{Facts, Key, Pair, Qemu, Seen};
use crate::finding::{Findings, Severity};

pub(super) fn check(facts: &Facts, found: &mut Findings) {
    let Some(peer) = &facts.peer else {
        return;
    };
    let (Some(ours), Some(theirs)) = (&facts.node, &peer.node) else {
        return;
    };
    if ours.version != theirs.version {
        found.warning(
            "peer-version",
            "dpdk-colo",
            format!("this node is of version {}, the other one of {}", ours.version, theirs.version),
            "run the same release on both hosts; during an upgrade the secondary's node comes first",
        );
    }
    for pair in &ours.pairs {
        let same_name = theirs.pairs.iter().find(|it| it.name == pair.name);
        let same_id = || theirs.pairs.iter().find(|it| it.vm_id == pair.vm_id);
        let Some(other) = same_name.or_else(same_id) else {
            found.error(
                "peer-lacks-pair",
                format!("pair {}", pair.name),
                format!(
                    "the other node has no pair of this name, and none with --vm-id {}",
                    pair.vm_id
                ),
                "add it to the other node's options or file",
            );
            continue;
        };
        settings(pair, other, found);
        let seen = |facts: &Facts, pair: &Pair| -> Seen {
            let seen = facts.seen.get(&pair.name);
            seen.cloned().unwrap_or_default()
        };
        if let (Some(ours), Some(theirs)) = (seen(facts, pair).qemu, seen(peer, other).qemu) {
            qemus(pair, &ours, &theirs, found);
        }
    }
}

fn settings(pair: &Pair, other: &Pair, found: &mut Findings) {
    let place = format!("pair {}", pair.name);
    let mut differ =
        |severity, option: &'static str, ours: &dyn Display, theirs: &dyn Display, todo: &str| {
            found.add(
                severity,
                "peer-settings",
                format!("{place}: --{option}"),
                format!("this node has {ours}, the other one {theirs}"),
                todo,
            );
        };
    let same = "give both nodes the same";
    if pair.vm_id != other.vm_id {
        let todo = "give both nodes the same id, or they do not hear each other";
        differ(Severity::Error, "vm-id", &pair.vm_id, &other.vm_id, todo);
    }
    // After a takeover the survivor is a primary, and has a new secondary.
    if pair.role == other.role && pair.role != "compare" {
        let todo = "start one of the two with the other role";
        differ(Severity::Error, "role", &pair.role, &other.role, todo);
    }
    match (&pair.key, &other.key) {
        (Key::File { ids: ours, .. }, Key::File { ids: theirs, .. })
            if !ours.is_empty()
                && !theirs.is_empty()
                && !ours.iter().any(|id| theirs.contains(id)) =>
        {
            let (ours, theirs) = (ours.join("+"), theirs.join("+"));
            let todo = "copy the file of one host to the other, mode 0600, and restart that node";
            differ(Severity::Error, "link-key", &ours, &theirs, todo);
        }
        (Key::File { .. }, Key::Trusted) | (Key::Trusted, Key::File { .. }) => {
            let word = |key: &Key| match key {
                Key::Trusted => "none",
                _ => "a key",
            };
            let (ours, theirs) = (word(&pair.key), word(&other.key));
            let todo = "give both nodes the same key file";
            differ(Severity::Error, "link-key", &ours, &theirs, todo);
        }
        _ => {}
    }
    for (option, ours, theirs) in [
        ("heartbeat", pair.heartbeat_ms, other.heartbeat_ms),
        ("heartbeat-loss", pair.heartbeat_loss, other.heartbeat_loss),
        (
            "compare-timeout",
            pair.compare_timeout_ms,
            other.compare_timeout_ms,
        ),
        ("hold-frames", pair.hold_frames, other.hold_frames),
        ("flows", pair.flows, other.flows),
        (
            "peer-stall-limit",
            pair.peer_stall_limit_ms,
            other.peer_stall_limit_ms,
        ),
        (
            "restart-limit",
            pair.restart_limit_ms,
            other.restart_limit_ms,
        ),
        (
            "mtu",
            pair.mtu.unwrap_or(0).into(),
            other.mtu.unwrap_or(0).into(),
        ),
    ] {
        if ours != theirs {
            let todo = "give both nodes the same: after a takeover the other one's value holds";
            differ(Severity::Warning, option, &ours, &theirs, todo);
        }
    }
    if pair.failover != other.failover {
        differ(
            Severity::Warning,
            "failover",
            &pair.failover,
            &other.failover,
            same,
        );
    }
    // `release` is for a primary alone, and commands may differ from host to host.
    let kind = |pair: &Pair| {
        let (kind, _) = pair
            .on_peer_lost
            .split_once(':')
            .unwrap_or((&pair.on_peer_lost, ""));
        kind.to_owned()
    };
    if kind(pair) != kind(other) {
        differ(
            Severity::Warning,
            "on-peer-lost",
            &kind(pair),
            &kind(other),
            same,
        );
    }
    if pair.policy != other.policy {
        let (ours, theirs) = (pair.policy.join(", "), other.policy.join(", "));
        let todo = "give both nodes the same rules: after a takeover the other one's hold";
        differ(Severity::Warning, "config (policy)", &ours, &theirs, todo);
    }
    let word = |ends: &Option<(String, String)>| match ends {
        None => "none".to_owned(),
        Some((local, remote)) => format!("{local},{remote}"),
    };
    let mirrored = other
        .heartbeat_udp
        .clone()
        .map(|(local, remote)| (remote, local));
    if pair.heartbeat_udp != mirrored {
        let todo = "give both nodes the same two addresses, each with its own first";
        let (ours, theirs) = (word(&pair.heartbeat_udp), word(&other.heartbeat_udp));
        differ(Severity::Warning, "heartbeat-udp", &ours, &theirs, todo);
    }
}

fn qemus(pair: &Pair, ours: &Qemu, theirs: &Qemu, found: &mut Findings) {
    let place = format!("pair {}: QEMU", pair.name);
    let name = |(major, minor, micro): (u32, u32, u32)| format!("{major}.{minor}.{micro}");
    if let (Some(here), Some(there)) = (ours.version, theirs.version)
        && here != there
    {
        found.warning(
            "peer-qemu",
            place.as_str(),
            format!(
                "release {} here, {} at the other host",
                name(here),
                name(there)
            ),
            "run the same release on both hosts: a VM's state may not load in another one",
        );
    }
    let size = |qemu: &Qemu| -> u64 { qemu.ram.iter().map(|ram| ram.size).sum() };
    if size(ours) != size(theirs) {
        found.error(
            "peer-memory",
            place.as_str(),
            format!(
                "the guest has {} MB here, {} MB at the other host",
                size(ours) >> 20,
                size(theirs) >> 20
            ),
            "start both QEMUs with the same -m and the same memory backend",
        );
    }
    let macs = |qemu: &Qemu| -> Vec<String> {
        qemu.nics.iter().filter_map(|nic| nic.mac.clone()).collect()
    };
    let (here, there) = (macs(ours), macs(theirs));
    if here != there {
        found.error(
            "peer-mac",
            place.as_str(),
            format!(
                "the guest's MAC addresses are {} here, {} at the other host",
                here.join(" "),
                there.join(" ")
            ),
            "start both QEMUs with the same mac= of each NIC",
        );
    }
    if ours.disks.len() != theirs.disks.len() {
        found.error(
            "peer-disks",
            place,
            format!(
                "the guest has {} disks here, {} at the other host",
                ours.disks.len(),
                theirs.disks.len()
            ),
            "start both QEMUs with the same devices",
        );
    }
}
