//! Which output leaves without a comparison: explicit rules, each named and counted.
//!
//! Some rules are always there: ARP, neighbour discovery, LLDP and reports of multicast membership keep the VM's
//! neighbourhood alive, carry no stream, and come from timers that two VMs never share. A query for membership is
//! compared: routers act upon who asks.

use std::net::IpAddr;

use crate::flow::FlowKey;
use crate::packet::Kind;

/// A rule that lets output leave uncompared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The name that counters use.
    pub name: String,
    /// IP protocol numbers; none stands for any.
    pub protocols: Vec<u8>,
    /// A transport port at either end, or any.
    pub port: Option<u16>,
    /// A prefix that holds either address, or any.
    pub prefix: Option<(IpAddr, u8)>,
    /// The id of the outermost VLAN tag, or any.
    pub vlan: Option<u16>,
}

impl Rule {
    fn matches(&self, key: &FlowKey) -> bool {
        (self.protocols.is_empty() || key.protocol().is_some_and(|p| self.protocols.contains(&p)))
            && self.vlan.is_none_or(|vlan| key.vlans().outer == vlan)
            && self
                .port
                .is_none_or(|p| key.src_port() == Some(p) || key.dst_port() == Some(p))
            && self
                .prefix
                .is_none_or(|prefix| within(prefix, key.src_ip()) || within(prefix, key.dst_ip()))
    }
}

fn within((network, length): (IpAddr, u8), address: Option<IpAddr>) -> bool {
    match (network, address) {
        (IpAddr::V4(n), Some(IpAddr::V4(a))) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(length.min(32)))
                .unwrap_or(0);
            (u32::from(n) ^ u32::from(a)) & mask == 0
        }
        (IpAddr::V6(n), Some(IpAddr::V6(a))) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(length.min(128)))
                .unwrap_or(0);
            (u128::from(n) ^ u128::from(a)) & mask == 0
        }
        _ => false,
    }
}

/// The rules of one VM pair and how often each was used.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Vec<Rule>,
    used: Vec<u64>,
    arp: u64,
    neighbour_discovery: u64,
    lldp: u64,
    igmp: u64,
    mld: u64,
}

impl Policy {
    /// The default rules and the given ones, tried in order.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self {
            used: vec![0; rules.len()],
            rules,
            ..Self::default()
        }
    }

    /// Whether there are no rules but those that are always there, which concern neither TCP nor UDP.
    #[inline]
    pub(crate) fn is_default(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether no rule can concern this kind of output.
    #[inline]
    pub(super) fn ignores(&self, kind: Kind) -> bool {
        matches!(kind, Kind::Tcp | Kind::Udp) && self.is_default()
    }

    /// Whether a rule exempts this output from comparison; counts the use.
    pub(super) fn exempts(&mut self, kind: Kind, key: &FlowKey) -> bool {
        match kind {
            Kind::Arp => self.arp += 1,
            Kind::NeighbourDiscovery => self.neighbour_discovery += 1,
            Kind::Lldp => self.lldp += 1,
            Kind::Igmp => self.igmp += 1,
            Kind::Mld => self.mld += 1,
            Kind::Unreadable(_) => return false,
            _ => match self.rule(key) {
                Some(i) => self.used[i] += 1,
                None => return false,
            },
        }
        true
    }

    /// Whether a rule exempts this output from comparison, so that its counterpart is of no use.
    pub(crate) fn covers(&self, kind: Kind, key: &FlowKey) -> bool {
        match kind {
            Kind::Arp | Kind::NeighbourDiscovery | Kind::Lldp | Kind::Igmp | Kind::Mld => true,
            Kind::Unreadable(_) => false,
            _ => self.rule(key).is_some(),
        }
    }

    fn rule(&self, key: &FlowKey) -> Option<usize> {
        self.rules.iter().position(|rule| rule.matches(key))
    }

    /// Name and use of each rule.
    pub fn uses(&self) -> impl Iterator<Item = (&str, u64)> {
        [
            ("arp", self.arp),
            ("neighbour_discovery", self.neighbour_discovery),
            ("lldp", self.lldp),
            ("igmp", self.igmp),
            ("mld", self.mld),
        ]
        .into_iter()
        .chain(
            self.rules
                .iter()
                .map(|r| r.name.as_str())
                .zip(self.used.iter().copied()),
        )
    }
}
