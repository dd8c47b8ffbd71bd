//! QEMU's monitor: whether it is there, and who has it.

use super::pairs;
use crate::facts::{Facts, Kind, Monitor, Pair, Seen};
use crate::finding::Findings;

pub(super) fn check(facts: &Facts, found: &mut Findings) {
    for (node, pair, seen) in pairs(facts) {
        let Some(address) = &pair.qmp else {
            continue;
        };
        let place = format!("pair {}: --qmp {address}", pair.name);
        if let Some(status) = &seen.status {
            match status.monitor.as_str() {
                "connected" => continue,
                "unresponsive" => {
                    found.error(
                        "monitor-unresponsive",
                        place,
                        "QEMU has the node's command and does not answer: it waits for a disk, or for a host that is gone",
                        "see `coloctl status` for what it owes; free it by yank (docs/vanished-peer.md), or end it",
                    );
                    continue;
                }
                _ => {}
            }
        }
        let start = format!(
            "start QEMU with -qmp unix:{address},server=on,wait=off, and look at its messages"
        );
        match seen.monitor {
            Monitor::Unknown | Monitor::Free | Monitor::Ours => {}
            Monitor::Missing => found.error(
                "monitor-missing",
                place,
                "there is no socket: QEMU does not run, or has its monitor elsewhere",
                start,
            ),
            Monitor::Dead => found.error(
                "monitor-dead",
                place,
                "nobody listens at the socket: its QEMU has ended",
                start,
            ),
            Monitor::Denied => found.error(
                "monitor-rights",
                place,
                "this user may not connect to it",
                "run QEMU and the node as one user, or let both be of the socket's group with the right to write",
            ),
            Monitor::Mute if node.pid.is_none() && waits_for_node(facts, pair, &seen) => found.error(
                "qemu-waits",
                place,
                "QEMU waits for its vhost-user socket and answers nothing before",
                "start the node: QEMU goes on by itself within its reconnect time",
            ),
            Monitor::Mute => found.error(
                "monitor-taken",
                place,
                "it takes connections and greets nobody: another program has it, and a monitor serves one at a time",
                format!("`ss -xp | grep {address}` names the program; end it, and give QEMU a second -qmp for it"),
            ),
        }
    }
}

/// Whether QEMU would connect to a socket at which no node listens yet, or listens at one to which no node connects.
fn waits_for_node(facts: &Facts, pair: &Pair, seen: &Seen) -> bool {
    let Some(guest) = pair.port("guest") else {
        return false;
    };
    let file = guest
        .socket
        .as_ref()
        .and_then(|path| facts.host.files.get(path));
    let waits = match guest.listens {
        true => Kind::Missing,
        false => Kind::Socket,
    };
    file.is_some_and(|file| file.kind == waits) && seen.process.is_some()
}
