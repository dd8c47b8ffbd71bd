//! The ports of all pairs. All are inspected before any pool is made, then opened one by one.

use std::collections::HashMap;

use colo_doctor::facts as doctor;

use super::NodeError;
use super::facts::port;
use super::pools::{FRAME, Pools, Purpose};
use super::port_queue::Queues;
use crate::config::{PairSettings, PortName, PortRole, Settings};
use crate::dpdk::{Eal, Mempool, Port, PortConfig, PortError, fanout};
use crate::observability::log::Log;
use crate::plan::{Carries, Device, ring_for};

/// A port that is not open yet.
struct Found {
    port: Port,
    carries: Carries,
    device: Device,
}

/// Open ports and their pools.
pub(crate) struct Hardware {
    /// By name.
    found: HashMap<String, Found>,
    ports: Vec<Port>,
    /// The pools of all pairs.
    pub pools: Pools,
    /// What each port is, by its name.
    pub facts: HashMap<String, doctor::Port>,
}

impl Hardware {
    /// Inspects all ports of the settings and makes the pools for them. `comparing` is the number of lcores that
    /// compare for each pair, besides the one that polls.
    ///
    /// # Errors
    /// Where a port does not exist, or would lose frames as it is; where memory does not suffice.
    pub(crate) fn new(
        eal: &Eal,
        settings: &Settings,
        comparing: usize,
        log: &Log,
    ) -> Result<Self, NodeError> {
        let (mut found, mut facts) = (HashMap::new(), HashMap::new());
        for pair in &settings.pairs {
            for (place, name) in pair.ports() {
                let looked = look_at(eal, place, name, pair, &log.of(&pair.name))?;
                let fact = port(place, name, &looked.device, looked.carries.mtu);
                facts.insert(name.as_str().to_owned(), fact);
                found.insert(name.as_str().to_owned(), looked);
            }
        }
        let is_packet_socket = |found: &Found| found.port.driver() == "net_af_packet";
        if found.values().any(is_packet_socket) && fanout::is_defragmenting(eal).unwrap_or(false) {
            log.warning(
                "fragments",
                format_args!(
                    "net_af_packet lets the kernel put IPv4 fragments together and cuts off what comes \
                     of it, so incoming fragments are lost; use net_af_xdp, net_tap or a NIC's own \
                     driver where they matter"
                ),
            );
        }
        let buffer = |place: PortRole, pair: &PairSettings| {
            let mut ports = pair.ports();
            let name = ports.find_map(|(at, name)| (at == place).then_some(name));
            name.and_then(|name| found.get(name.as_str()))
                .map_or(FRAME, |port| port.carries.buffer)
        };
        let pools = Pools::make(eal, &settings.pairs, comparing, buffer, log)?;
        Ok(Self {
            found,
            ports: Vec::new(),
            pools,
            facts,
        })
    }

    /// Starts a port of the pair with one queue each way. It enables offloads, except on the link, whose frames the
    /// peer node makes. Returns the port, too.
    pub(crate) fn open(
        &mut self,
        pair: usize,
        place: PortRole,
        name: &PortName,
        pool: &Mempool,
    ) -> Result<(Queues, &Port), NodeError> {
        let failed = |source| NodeError::Port {
            place: place.key(),
            name: name.as_str().to_owned(),
            source,
        };
        let taken = || PortError::Taken {
            name: name.as_str().to_owned(),
        };
        let Found {
            mut port, carries, ..
        } = (self.found.remove(name.as_str())).ok_or_else(|| failed(taken()))?;
        let config = PortConfig {
            offloads: place != PortRole::Link,
            mtu: carries.configure,
            scatter: carries.scatter,
            ..PortConfig::new(pool)
        };
        let mut queues = port.start(&config).map_err(failed)?;
        port.receive_all();
        let (rx, tx) = (queues.rx.swap_remove(0), queues.tx.swap_remove(0));
        let cutting = match place {
            PortRole::Link if carries.mtu.is_none() => None,
            PortRole::Uplink | PortRole::Out | PortRole::Link => {
                Some(self.pools.of(pair, Purpose::Cutting).clone())
            }
            _ => None,
        };
        let queues = Queues {
            rx,
            tx,
            abilities: port.abilities(),
            mtu: carries.mtu.map(usize::from),
            cutting,
            link: None,
            source: matches!(
                place,
                PortRole::Guest | PortRole::PrimaryIn | PortRole::SecondaryIn
            )
            .then(|| pool.clone()),
        };
        let at = self.ports.len();
        self.ports.push(port);
        Ok((queues, &self.ports[at]))
    }

    /// Stops and closes all ports.
    pub(crate) fn close(&mut self) {
        for port in self.ports.drain(..) {
            // A port that does not close ends with the process.
            let _ = port.close();
        }
    }
}

/// Inspects a port and computes which frames it carries.
fn look_at(
    eal: &Eal,
    place: PortRole,
    name: &PortName,
    pair: &PairSettings,
    log: &Log,
) -> Result<Found, NodeError> {
    let failed = |source| NodeError::Port {
        place: place.key(),
        name: name.as_str().to_owned(),
        source,
    };
    let unfit = |source| NodeError::Device {
        place: place.key(),
        name: name.as_str().to_owned(),
        source,
    };
    let names = Port::names(eal);
    if !names.iter().any(|known| known == name.as_str()) {
        let known = match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        };
        return Err(NodeError::UnknownPort {
            place: place.key(),
            name: name.as_str().to_owned(),
            known,
            complaints: eal.complaints().to_owned(),
        });
    }
    let port = Port::by_name(eal, name.as_str()).map_err(failed)?;
    let device = port.device().map_err(failed)?;
    device.one_queue().map_err(unfit)?;
    // The guest's MTU is QEMU's matter, and the link carries longer frames in fragments.
    let asked = match place {
        PortRole::Guest | PortRole::Link => None,
        PortRole::Uplink | PortRole::Out | PortRole::PrimaryIn | PortRole::SecondaryIn => pair.mtu,
    };
    let carries = device.carries(asked, FRAME).map_err(unfit)?;
    if let (Some(mtu), Some(cut), true) = (carries.cut_above, carries.mtu, place != PortRole::Link)
    {
        log.warning(
            place.key(),
            format_args!(
                "--{} {name}: its interface has an MTU of {mtu} bytes, and what is longer than {cut} \
                 arrives cut off; give {} in its --vdev, or the interface a lower MTU",
                place.key(),
                ring_for(mtu),
            ),
        );
    }
    Ok(Found {
        port,
        carries,
        device,
    })
}
