//! The ports of all pairs. All are inspected before any pool is made, then opened one by one.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use colo_doctor::facts as doctor;

use super::NodeError;
use super::facts::port;
use super::pools::{FRAME, Pools, Purpose};
use super::port_queue::Queues;
use super::shared_port::{Bounds, SharedQueues, Switch, Way};
use crate::config::{PairSettings, PortName, PortRole, Settings, Sharing};
use crate::dpdk::{Abilities, Eal, Mempool, Port, PortConfig, PortError, fanout};
use crate::observability::log::Log;
use crate::plan::{Carries, Device, ring_for};
use crate::switch::{LinkSwitch, UplinkSwitch};

/// A port that is not open yet.
struct Found {
    port: Port,
    carries: Carries,
    device: Device,
}

/// A port that a pair has opened.
pub(crate) struct Opened {
    /// The pair's way to it.
    pub queues: Queues,
    /// Its address.
    pub mac: [u8; 6],
    /// Whether it sends chained mbufs.
    pub sends_chains: bool,
}

/// What all pairs at a shared port know of it.
#[derive(Clone, Copy)]
struct Common {
    number: usize,
    abilities: Abilities,
    carries: Carries,
    mac: [u8; 6],
    sends_chains: bool,
}

/// Open ports and their pools.
pub(crate) struct Hardware {
    /// By name.
    found: HashMap<String, Found>,
    ports: Vec<Port>,
    /// What several pairs share, by name.
    sharing: HashMap<String, Sharing>,
    /// Of those, the open ones.
    common: HashMap<String, Common>,
    /// Those that were opened since they were last taken.
    shared: Vec<SharedQueues>,
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
                if found.contains_key(name.as_str()) {
                    // Another pair has it, too.
                    continue;
                }
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
        let pools = Pools::make(eal, settings, comparing, buffer, log)?;
        let sharing = settings.shared_ports().into_iter();
        Ok(Self {
            found,
            ports: Vec::new(),
            sharing: sharing
                .map(|sharing| (sharing.port.as_str().to_owned(), sharing))
                .collect(),
            common: HashMap::new(),
            shared: Vec::new(),
            pools,
            facts,
        })
    }

    /// Starts a port of the pair with one queue each way; a shared one with the first of its pairs. It enables offloads,
    /// except on the link, whose frames the peer node makes.
    pub(crate) fn open(
        &mut self,
        pair: usize,
        place: PortRole,
        name: &PortName,
        pool: &Mempool,
    ) -> Result<Opened, NodeError> {
        let member = (self.sharing.get(name.as_str()))
            .and_then(|sharing| sharing.members.iter().position(|member| *member == pair));
        if let (Some(member), Some(common)) = (member, self.common.get(name.as_str()).copied()) {
            let port = common.number;
            let way = Way::Shared { port, member };
            return Ok(self.opened(pair, place, common, way, pool));
        }
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
        let common = Common {
            number: self.common.len(),
            abilities: port.abilities(),
            carries,
            mac: port.mac(),
            sends_chains: port.sends_chains(),
        };
        self.ports.push(port);
        let way = match (member, self.sharing.get(name.as_str())) {
            (Some(member), Some(sharing)) => {
                let number = common.number;
                self.common.insert(name.as_str().to_owned(), common);
                let members = sharing.members.iter().zip(&sharing.roles);
                let bounds = members.map(|(pair, role)| {
                    let purpose = Purpose::of_port(place, *role);
                    let [received, sent] =
                        [purpose, Purpose::Output].map(|purpose| self.pools.share(*pair, purpose));
                    Bounds::new(place == PortRole::Link, received, sent)
                });
                self.shared.push(SharedQueues {
                    number,
                    rx,
                    tx,
                    switch: switch(sharing),
                    bounds: bounds.collect(),
                });
                let port = number;
                Way::Shared { port, member }
            }
            _ => Way::Own { rx, tx },
        };
        Ok(self.opened(pair, place, common, way, pool))
    }

    fn opened(
        &self,
        pair: usize,
        place: PortRole,
        common: Common,
        way: Way,
        pool: &Mempool,
    ) -> Opened {
        let carries = common.carries;
        let cutting = match place {
            PortRole::Link if carries.mtu.is_none() => None,
            PortRole::Uplink | PortRole::Out | PortRole::Link => {
                Some(self.pools.of(pair, Purpose::Cutting).clone())
            }
            _ => None,
        };
        let queues = Queues {
            way,
            abilities: common.abilities,
            mtu: carries.mtu.map(usize::from),
            cutting,
            link: None,
            source: matches!(
                place,
                PortRole::Guest | PortRole::PrimaryIn | PortRole::SecondaryIn
            )
            .then(|| pool.clone()),
        };
        Opened {
            queues,
            mac: common.mac,
            sends_chains: common.sends_chains,
        }
    }

    /// The port that was opened last.
    pub(crate) fn last(&self) -> &Port {
        self.ports.last().expect("a port was opened")
    }

    /// The shared ports that were opened since the last call.
    pub(crate) fn take_shared(&mut self) -> Vec<SharedQueues> {
        std::mem::take(&mut self.shared)
    }

    /// Stops and closes all ports.
    pub(crate) fn close(&mut self) {
        for port in self.ports.drain(..) {
            // A port that does not close ends with the process.
            let _ = port.close();
        }
    }
}

/// What decides about the frames of a shared port.
fn switch(sharing: &Sharing) -> Switch {
    match sharing.place {
        PortRole::Link => Switch::Link(LinkSwitch::new(&sharing.vm_ids)),
        _ => {
            let seed = RandomState::new().hash_one(sharing.port.as_str());
            Switch::Uplink(Box::new(UplinkSwitch::new(&sharing.macs, seed)))
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
