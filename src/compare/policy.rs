//! Which output leaves without a comparison, and which bytes may differ: explicit rules, each named and counted.
//!
//! Some rules are always there: ARP, neighbour discovery, LLDP and reports of multicast membership keep the VM's
//! neighbourhood alive, carry no stream, and come from timers that two VMs never share. A query for membership is
//! compared: routers act upon who asks.

use std::net::IpAddr;

use super::mask::Mask;
use crate::flow::FlowKey;
use crate::frame::Ticks;
use crate::packet::Kind;

/// A rule for the flows that meet all of its conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Which bytes of a stream may differ. Without it the flows' output leaves uncompared.
    pub mask: Option<Mask>,
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

/// What the mask rules say of a byte that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Masking {
    /// Nothing.
    None,
    /// Only a rule that is tried, and masks nothing, would mask it: the rule by its place.
    Tried(usize),
    /// A rule masks it: the rule by its place.
    Masked(usize),
}

/// The rules of one VM pair and how often each was used.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Vec<Rule>,
    used: Vec<u64>,
    /// The places of the rules that exempt output.
    exempting: Vec<usize>,
    masking: bool,
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
            exempting: (0..rules.len())
                .filter(|&at| rules[at].mask.is_none())
                .collect(),
            masking: rules.iter().any(|rule| rule.mask.is_some()),
            rules,
            ..Self::default()
        }
    }

    /// Whether no rule exempts output but those that are always there, which concern neither TCP nor UDP.
    #[inline]
    pub(crate) fn is_default(&self) -> bool {
        self.exempting.is_empty()
    }

    /// How many rules there are besides those that are always there.
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is a mask rule.
    #[inline]
    pub(super) fn masks(&self) -> bool {
        self.masking
    }

    /// Whether rules mask the last byte of what the two VMs have sent of a flow's stream.
    pub(super) fn masking(&self, key: &FlowKey, now: Ticks, [p, s]: [&[u8]; 2]) -> Masking {
        let mut tried = Masking::None;
        for (place, rule) in self.rules.iter().enumerate() {
            let Some(mask) = &rule.mask else {
                continue;
            };
            if !mask.is_valid(now) || !rule.matches(key) || !mask.covers(p, s) {
                continue;
            }
            if !mask.tried {
                return Masking::Masked(place);
            }
            if tried == Masking::None {
                tried = Masking::Tried(place);
            }
        }
        tried
    }

    /// Counts the use of a mask rule, by its place.
    pub(super) fn count_mask(&mut self, place: usize) {
        if let Some(used) = self.used.get_mut(place) {
            *used += 1;
        }
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
        let mut places = self.exempting.iter().copied();
        places.find(|&at| self.rules[at].matches(key))
    }

    /// Name and use of each rule: of one that exempts frames, of a mask rule the bytes that it has masked, and of one
    /// that is tried the differences that it would have masked.
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
