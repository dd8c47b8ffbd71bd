//! The interfaces behind the ports.

use super::pairs;
use crate::facts::Facts;
use crate::finding::Findings;

pub(super) fn check(facts: &Facts, found: &mut Findings) {
    for (_, pair, _) in pairs(facts) {
        for port in &pair.ports {
            let Some(name) = &port.interface else {
                continue;
            };
            let place = format!("pair {}: {} {}", pair.name, port.place, port.name);
            match facts.host.interfaces.get(name) {
                None => {}
                Some(None) => found.error(
                    "interface-missing",
                    place,
                    format!("there is no interface {name}"),
                    "correct iface= (`ip link` lists those of this host), or make the interface before the node starts",
                ),
                Some(Some(interface)) if !interface.up => found.error(
                    "interface-down",
                    place,
                    format!("interface {name} is down"),
                    format!("`ip link set dev {name} up`, and have it up at every boot"),
                ),
                Some(Some(interface)) if interface.carrier == Some(false) => found.error(
                    "interface-no-carrier",
                    place,
                    format!("interface {name} has no carrier"),
                    "look at the cable, the switch's port, and the other end of a veth or tap",
                ),
                Some(Some(interface)) => {
                    if let Some(asked) = pair.mtu.filter(|_| port.place != "link" && port.place != "guest")
                        && interface.mtu < u32::from(asked)
                    {
                        found.error(
                            "uplink-mtu",
                            place,
                            format!("interface {name} has an MTU of {}, and --mtu asks for {asked}", interface.mtu),
                            format!("`ip link set dev {name} mtu {asked}`, or give a lower --mtu"),
                        );
                    }
                }
            }
        }
    }
}
