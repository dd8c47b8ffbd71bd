//! The ports of a node with a VM: the guest port behind its fence, and the link behind its guard.

use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_channel::Receiver;

use super::super::NodeError;
use super::super::control::{GuestEvent, guest_events};
use super::super::outlet::Outlet;
use super::super::port_queue::{PortQueue, Queues};
use super::super::ports::Opened;
use super::super::shared_port::SharedPorts;
use super::super::stall::Stall;
use super::Site;
use crate::config::{LinkKey, PairSettings, PortName, PortRole, link_key};
use crate::dpdk::{Fence, FenceCore, LinkWatch, Mempool};
use crate::dumps;
use crate::link::Timing;
use crate::link::secure::{Guard, Identity, Role};

/// What reports a guest port's stops and starts to the control thread.
pub(super) struct GuestWatch {
    pub(super) watch: LinkWatch,
    pub(super) events: Receiver<GuestEvent>,
}

/// A guest port that is open and fenced.
pub(super) struct GuestPort {
    pub(super) queues: Queues,
    /// The poll core's part of the fence.
    pub(super) fence: FenceCore,
    pub(super) watch: GuestWatch,
}

/// Opens the guest port and fences it: its stop does not return before every core that polls it
/// has passed a quiescent point (rule R3).
pub(super) fn open_guest(
    site: &mut Site<'_>,
    name: &PortName,
    pool: &Mempool,
) -> Result<GuestPort, NodeError> {
    let fence = Fence::new();
    let (teller, events) = guest_events();
    let stops = AtomicU32::new(0);
    let callback_fence = fence.clone();
    let (lcore, patience) = (site.cores.poll, site.cores.patience);
    let (log, pair) = (site.cores.log.of(&site.pair.name), site.pair.name.clone());
    let on_change = move |up: bool| {
        if !up {
            stops.fetch_add(1, Ordering::Relaxed);
            let mut stall = Stall::new(lcore, patience, &log, &pair);
            callback_fence.close_and_wait(|time| stall.lasts(time));
        }
        let stops = stops.load(Ordering::Relaxed);
        teller.tell(if up {
            GuestEvent::Started { stops }
        } else {
            GuestEvent::Stopped
        });
    };
    let number = site.number;
    let Opened { queues, .. } = site.hardware.open(number, PortRole::Guest, name, pool)?;
    let watch = (site.hardware.last())
        .watch_link(on_change)
        .map_err(|source| NodeError::Port {
            place: PortRole::Guest.key(),
            name: name.as_str().to_owned(),
            source,
        })?;
    Ok(GuestPort {
        queues,
        fence: fence.join().ok_or(NodeError::TooManyPairs)?,
        watch: GuestWatch { watch, events },
    })
}

/// Opens the link port, whose driver must send a header and a shared frame as one chain. Returns its MAC address, too.
pub(super) fn open_link(
    site: &mut Site<'_>,
    name: &PortName,
    pool: &Mempool,
) -> Result<(Queues, [u8; 6]), NodeError> {
    let number = site.number;
    let opened = site.hardware.open(number, PortRole::Link, name, pool)?;
    match opened.sends_chains {
        true => Ok((opened.queues, opened.mac)),
        false => Err(NodeError::Chains {
            name: name.as_str().to_owned(),
        }),
    }
}

/// The guard of the link.
pub(super) fn guard(
    pair: &PairSettings,
    key: &LinkKey,
    role: Role,
    mac: [u8; 6],
    timing: Timing,
) -> Result<Guard, NodeError> {
    Ok(match key {
        LinkKey::Trusted => Guard::trusting(pair.vm_id, role, mac, timing),
        LinkKey::File(path) => {
            dumps::forbid()?;
            let identity = Identity {
                vm: pair.vm_id,
                role,
                mac,
                seed: link_key::random()?,
            };
            Guard::new(&link_key::read(path)?, &identity, timing)
        }
    })
}

/// The uplink of a node whose guest port this is.
pub(super) fn uplink_of(guest: &PortQueue, uplink: Queues, shared: &SharedPorts) -> Outlet {
    let mut uplink = PortQueue::new(uplink, shared);
    uplink.feeds(guest.abilities());
    Outlet::new(uplink)
}
