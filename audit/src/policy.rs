//! The frames that leave uncompared by a policy rule, and the rules that let bytes of a stream differ.

use std::net::IpAddr;

use dpdk_colo::flow::FlowKey;
use dpdk_colo::packet::{Kind, Packet};

use crate::record::{Mask, PolicyRule};

/// The name of the rule that covers a frame, if one does: a default rule or one of `rules`.
pub fn covering<'a>(rules: &'a [PolicyRule], packet: &Packet) -> Option<&'a str> {
    match packet.kind {
        Kind::Arp => Some("arp"),
        Kind::NeighbourDiscovery => Some("neighbour_discovery"),
        Kind::Lldp => Some("lldp"),
        Kind::Igmp => Some("igmp"),
        Kind::Mld => Some("mld"),
        Kind::Unreadable(_) => None,
        _ => rules
            .iter()
            .find(|rule| rule.mask.is_none() && covers(rule, &packet.key))
            .map(|rule| rule.name.as_str()),
    }
}

/// The rules that mask bytes of a flow, each with its name.
pub fn masking(rules: &[PolicyRule], key: &FlowKey) -> Vec<(String, Mask)> {
    let rules = rules.iter().filter(|rule| covers(rule, key));
    let masks = rules.filter_map(|rule| Some((rule.name.clone(), rule.mask.clone()?)));
    masks.collect()
}

fn covers(rule: &PolicyRule, key: &FlowKey) -> bool {
    let protocol = match rule.protocol.as_str() {
        "any" => true,
        "tcp" => key.protocol() == Some(6),
        "udp" => key.protocol() == Some(17),
        "icmp" => matches!(key.protocol(), Some(1 | 58)),
        _ => false,
    };
    let port = |port: u16| key.src_port() == Some(port) || key.dst_port() == Some(port);
    let prefix = |prefix: &str| {
        [key.src_ip(), key.dst_ip()]
            .into_iter()
            .flatten()
            .any(|address| within(prefix, address))
    };
    protocol
        && rule.port.is_none_or(port)
        && rule.prefix.as_deref().is_none_or(prefix)
        && rule.vlan.is_none_or(|vlan| key.vlans().outer == vlan)
}

/// Whether an address lies in `network/length`; a prefix that cannot be read holds none.
fn within(prefix: &str, address: IpAddr) -> bool {
    let Some((network, length)) = prefix.split_once('/') else {
        return false;
    };
    let (Ok(network), Ok(length)) = (network.parse(), length.parse::<u32>()) else {
        return false;
    };
    let (a, b, width) = match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    length <= width && (a ^ b).checked_shr(width - length).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_hold_what_begins_alike() {
        let ip = |text: &str| text.parse().expect("an address");
        assert!(within("10.9.0.0/16", ip("10.9.255.1")));
        assert!(!within("10.9.0.0/16", ip("10.8.255.1")));
        assert!(within("0.0.0.0/0", ip("1.2.3.4")));
        assert!(within("fd00::/8", ip("fd12::1")));
        assert!(!within("fd00::/8", ip("1.2.3.4")));
        assert!(within("::/0", ip("::1")));
        assert!(!within("10.0.0.0", ip("10.0.0.0")));
    }
}
