//! A node with a VM, as primary or secondary.

use super::super::NodeError;
use super::super::guest::{GuestAndLink, GuestNode};
use super::super::poll::{Builder, Pair};
use super::super::pools::{CACHED, Purpose};
use super::super::port_queue::{PortQueue, Queues};
use super::ports::{GuestPort, GuestWatch, guard, open_guest, open_link, uplink_of};
use super::values::{setup, times};
use super::{Ends, PairCores, Site};
use crate::config::{LinkKey, PortName, PortRole};
use crate::dpdk::{Burst, FenceCore, Mempool, tsc};
use crate::link::secure::Role;
use crate::pair::{Ports, PrimaryDriver, SecondaryDriver};
use crate::protect::{Primary, Secondary};

/// The share of the SVM's output that may be kept, to be sent again at a takeover.
const LAST_SHARE: usize = 8;

/// The names of a node's ports, and the key of its link.
pub(super) struct Names<'a> {
    pub(super) guest: &'a PortName,
    /// A secondary may have none.
    pub(super) uplink: Option<&'a PortName>,
    pub(super) link: &'a PortName,
    pub(super) link_key: &'a LinkKey,
}

/// The ports from which a node takes frames.
fn inputs(guest: PortQueue, link: PortQueue, fence: FenceCore, headers: Mempool) -> GuestAndLink {
    GuestAndLink {
        guest,
        link,
        fence,
        headers,
        reserved: Burst::new(),
    }
}

/// Opens a primary's ports. Returns what makes it, on the core that polls it.
pub(super) fn primary(
    site: &mut Site<'_>,
    names: Names<'_>,
    ends: Ends,
    cores: &mut PairCores<'_>,
) -> Result<(Builder, GuestWatch), NodeError> {
    let output = site.pool(Purpose::Output);
    let input = site.pool(Purpose::Input);
    let svm = site.pool(Purpose::Svm);
    let headers = site.pool(Purpose::Headers);
    let uplink = site.uplink(names.uplink, &input)?;
    let (link, mac) = open_link(site, names.link, &svm)?;
    let guest = open_guest(site, names.guest, &output)?;
    let GuestPort {
        queues,
        fence,
        watch,
    } = guest;
    let cached = site.cores.comparing.len() * CACHED;
    let shares = [Purpose::Output, Purpose::Svm].map(|purpose| site.share(purpose));
    let mut setup = setup(site, shares, cached)?;
    setup.link_mac = mac;
    let guard = guard(site.pair, names.link_key, Role::Primary, mac, setup.link)?;
    let link = Queues {
        link: Some((guard, headers.clone())),
        ..link
    };
    let clock = site.clock;
    let (rings, table) = cores.spread(&setup);
    let builder: Builder = Box::new(move |shared| {
        let guest = PortQueue::new(queues, shared);
        let link = PortQueue::new(link, shared);
        let uplink = uplink.map(|uplink| uplink_of(&guest, uplink, shared));
        let mut ports = ends.host(inputs(guest, link, fence, headers), uplink);
        let state = Primary::with_workers(setup, rings, table, tsc::now());
        let driver = PrimaryDriver::new(state, ports.quiesce(), times(clock));
        Pair::Guest(Box::new(GuestNode::new(driver, ports)))
    });
    Ok((builder, watch))
}

/// Opens a secondary's ports. Returns what makes it, on the core that polls it.
pub(super) fn secondary(
    site: &mut Site<'_>,
    names: Names<'_>,
    ends: Ends,
) -> Result<(Builder, GuestWatch), NodeError> {
    let output = site.pool(Purpose::Output);
    let input = site.pool(Purpose::Input);
    let uplink = match names.uplink {
        Some(_) => {
            let network = site.pool(Purpose::Network);
            site.uplink(names.uplink, &network)?
        }
        None => None,
    };
    let headers = site.pool(Purpose::Headers);
    let (link, mac) = open_link(site, names.link, &input)?;
    let guest = open_guest(site, names.guest, &output)?;
    let GuestPort {
        queues,
        fence,
        watch,
    } = guest;
    let shares = [Purpose::Output, Purpose::Input].map(|purpose| site.share(purpose));
    let mut setup = setup(site, shares, 0)?;
    let least = Burst::CAPACITY as u32 * 2;
    setup.window = setup.window.min((shares[1] / 4).max(least));
    setup.link_mac = mac;
    if uplink.is_some() {
        setup.last_segments = output.size() as usize / LAST_SHARE;
    }
    let guard = guard(site.pair, names.link_key, Role::Secondary, mac, setup.link)?;
    let link = Queues {
        link: Some((guard, headers.clone())),
        ..link
    };
    let clock = site.clock;
    let builder: Builder = Box::new(move |shared| {
        let guest = PortQueue::new(queues, shared);
        let link = PortQueue::new(link, shared);
        let uplink = uplink.map(|uplink| uplink_of(&guest, uplink, shared));
        let mut ports = ends.host(inputs(guest, link, fence, headers), uplink);
        let now = tsc::now();
        let standby = (ports.out.is_some()).then(|| Primary::new(setup.clone(), now));
        let state = Secondary::new(setup, now);
        let driver = SecondaryDriver::new(state, standby, ports.quiesce(), times(clock));
        Pair::Guest(Box::new(GuestNode::new(driver, ports)))
    });
    Ok((builder, watch))
}

impl Site<'_> {
    /// Opens the port to the network, if there is one.
    fn uplink(
        &mut self,
        name: Option<&PortName>,
        pool: &Mempool,
    ) -> Result<Option<Queues>, NodeError> {
        name.map(|name| self.open(PortRole::Uplink, name, pool))
            .transpose()
    }
}
