//! The log's lines about what the pair's QEMU says.

use crate::config::{PairSettings, Role};
use crate::error_chain::chain;
use crate::observability::log::Log;
use crate::qmp::{Event, Probe};

/// Writes what an operator should know of an event by itself.
pub(super) fn log_event(event: &Event, settings: &PairSettings, log: &Log) {
    let name = &settings.name;
    match event {
        Event::Connected(probe) => log_probe(probe, settings, log),
        Event::Disconnected(error) => {
            log.urgent("monitor", format_args!("pair {name}: {}", chain(error)));
        }
        Event::ColoExit { mode, reason, .. } => log.urgent(
            "exit",
            format_args!("pair {name}: COLO ended: mode {mode:?}, reason {reason:?}"),
        ),
        Event::RequestFailed { cause, .. } => log.warning(
            "request",
            format_args!("pair {name}: checkpoint request: {}", chain(cause)),
        ),
        Event::LinkRaised { nic } => log.warning(
            "link",
            format_args!(
                "pair {name}: the guest has not enabled its vhost port: raising the link of NIC {nic:?}, \
                 which was down in the state that its peer sent"
            ),
        ),
        Event::FailOverAccepted => log.urgent(
            "failover",
            format_args!("pair {name}: QEMU goes on with this VM alone"),
        ),
        Event::FailOverFailed { cause } => log.urgent(
            "failover",
            format_args!("pair {name}: x-colo-lost-heartbeat: {}", chain(cause)),
        ),
        Event::Yanked { what } => log.warning(
            "yank",
            format_args!("pair {name}: the peer is certainly lost: QEMU has cut {what}"),
        ),
        Event::YankFailed { what, cause } => log.warning(
            "yank",
            format_args!("pair {name}: QEMU has not cut {what}: {}", chain(cause)),
        ),
        Event::Late { command, after } => log.urgent(
            "late",
            format_args!(
                "pair {name}: QEMU has not replied to {command} within {} s; it waits for a disk, or for a host that is \
                 gone (docs/vanished-peer.md)",
                after.as_secs()
            ),
        ),
        _ => {}
    }
}

/// Writes which QEMU it is, and what it cannot do.
fn log_probe(probe: &Probe, settings: &PairSettings, log: &Log) {
    let (name, version) = (&settings.name, probe.version);
    log.info(format_args!(
        "pair {name}: monitor connected: QEMU {version}"
    ));
    if let Err(why) = &probe.colo {
        log.error(
            "colo",
            format_args!("pair {name}: this QEMU cannot be protected: {why}"),
        );
    }
    if let Some(caution) = probe.caution {
        log.warning("caution", format_args!("pair {name}: {caution}"));
    }
    if settings.role.role() == Role::Compare && !version.passes_in_checkpoints() {
        log.error(
            "passes",
            format_args!(
                "pair {name}: QEMU {version} emits no MIGRATION_PASS in a checkpoint, and a comparator alone has no \
                 other proof of one: nothing that it holds is committed"
            ),
        );
    }
    if !probe.events_capability {
        log.warning(
            "events",
            format_args!(
                "pair {name}: the migration capability 'events' is off and QEMU refuses to switch it on \
                 now; without it a node commits nothing while the other node is not heard"
            ),
        );
    }
}
