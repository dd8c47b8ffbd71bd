//! Policy rules as an operator writes them: flows that may leave uncompared, or bytes of their streams that may differ,
//! each under a name (rule R1). Plain data; the comparison compiles it into what it matches frames with.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Value, json};

use super::mask::{MaskError, MaskKeys, MaskRule};
use super::{Bounded, TransportPort};

/// A rule that names flows and says what becomes of them.
///
/// A flow falls under a rule when it meets every condition that the rule has; a rule has at least
/// one. The first rule that a flow falls under counts it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Table")]
pub struct PolicyRule {
    /// The name under which its frames are counted; no two rules of a pair share one.
    pub name: RuleName,
    /// The transport protocol.
    pub protocol: Protocol,
    /// A transport port at either end; only with TCP, UDP or any protocol, where it stands for
    /// TCP and UDP alike.
    pub port: Option<TransportPort>,
    /// A prefix that holds the address at either end.
    pub prefix: Option<Prefix>,
    /// The VLAN id of the outermost tag, 1 to 4094.
    pub vlan: Option<u16>,
    /// The bytes that may differ; without it the frames leave uncompared.
    pub mask: Option<MaskRule>,
}

impl PolicyRule {
    /// The name, and what kind of rule it is unless it exempts.
    pub fn label(&self) -> String {
        match &self.mask {
            None => self.name.to_string(),
            Some(mask) if mask.dry_run => format!("{} (mask, dry run)", self.name),
            Some(_) => format!("{} (mask)", self.name),
        }
    }

    /// Whether what it masks is counted: neither a rule that exempts nor one that is tried.
    pub fn masks(&self) -> bool {
        self.mask.as_ref().is_some_and(|mask| !mask.dry_run)
    }

    /// Whether it is only tried.
    pub fn is_tried(&self) -> bool {
        self.mask.as_ref().is_some_and(|mask| mask.dry_run)
    }
}

impl PolicyRule {
    /// As captures and the control socket show it.
    pub fn to_json(&self) -> Value {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Icmp => "icmp",
            Protocol::Any => "any",
        };
        json!({
            "name": self.name.as_str(),
            "protocol": protocol,
            "port": self.port.map(|port| port.get()),
            "prefix": self.prefix.map(|prefix| prefix.to_string()),
            "vlan": self.vlan,
        })
    }
}

/// What becomes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    /// The PVM's frames leave at once, uncompared.
    Exempt,
    /// Some bytes of its streams may differ.
    Mask,
}

/// The transport protocol of a rule, over IPv4 and IPv6 alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6.
    Icmp,
    /// Whatever is over IP.
    #[default]
    Any,
}

/// The name of a rule: 1 to 64 of a-z, 0-9, `_` and `-`, and not the name of a default rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleName(Box<str>);

impl RuleName {
    /// Names of the default rules, which always apply.
    pub const DEFAULTS: [&'static str; 5] = ["arp", "neighbour_discovery", "lldp", "igmp", "mld"];

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RuleName {
    type Err = RuleError;

    fn from_str(name: &str) -> Result<Self, RuleError> {
        let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
            Err(RuleError::Name)
        } else if Self::DEFAULTS.contains(&name) {
            Err(RuleError::DefaultName)
        } else {
            Ok(Self(name.into()))
        }
    }
}

/// An address prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// The prefix's first address; all bits behind [`Prefix::length`] are 0.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Bits that count, 0 to 32 or 128.
    pub fn length(&self) -> u8 {
        self.length
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// `address/length`, or an address alone for itself.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| PrefixError::Syntax)?;
        let (bits, width) = match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let length = match length {
            None => width,
            Some(length) => length
                .parse()
                .ok()
                .filter(|length| *length <= width)
                .ok_or(PrefixError::Syntax)?,
        };
        if bits.checked_shl(length.into()).unwrap_or(0) != 0 {
            return Err(PrefixError::HostBits);
        }
        Ok(Self { address, length })
    }
}

impl TryFrom<String> for Prefix {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Self, PrefixError> {
        text.parse()
    }
}

/// Text that is no prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Neither `address/length` nor an address.
    #[error("a prefix is an address and a length, such as 10.0.0.0/8 or 2001:db8::/32")]
    Syntax,
    /// Bits are set behind the length.
    #[error("the prefix has bits set behind its length; clear them or write a longer length")]
    HostBits,
}

/// A rule that says too little or contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A name that cannot be a counter's.
    #[error("a rule's name has 1 to 64 of a-z, 0-9, _ and -")]
    Name,
    /// The name of a default rule.
    #[error("the name is that of a default rule; choose another")]
    DefaultName,
    /// A port with a protocol that has none.
    #[error("ICMP has no ports; remove `port` or name tcp, udp or any")]
    PortOfIcmp,
    /// No condition at all.
    #[error("the rule would exempt all traffic; name a protocol, port, prefix or vlan")]
    Everything,
    /// A mask that is none.
    #[error(transparent)]
    Mask(#[from] MaskError),
}

/// The table as written.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    name: String,
    action: Action,
    #[serde(default)]
    protocol: Protocol,
    port: Option<TransportPort>,
    prefix: Option<Prefix>,
    vlan: Option<Bounded<1, 4094>>,
    after: Option<String>,
    length: Option<usize>,
    until: Option<String>,
    max_length: Option<usize>,
    dry_run: Option<bool>,
    expires: Option<toml::value::Datetime>,
}

impl TryFrom<Table> for PolicyRule {
    type Error = RuleError;

    fn try_from(table: Table) -> Result<Self, RuleError> {
        let keys = MaskKeys {
            after: table.after,
            length: table.length,
            until: table.until,
            max_length: table.max_length,
            dry_run: table.dry_run,
            expires: table.expires,
        };
        let mask = match table.action {
            Action::Exempt => keys.refuse()?,
            Action::Mask if table.protocol == Protocol::Tcp => Some(keys.rule()?),
            Action::Mask => return Err(MaskError::NoStream.into()),
        };
        let rule = Self {
            name: table.name.parse()?,
            protocol: table.protocol,
            port: table.port,
            prefix: table.prefix,
            // The bound of the type keeps it below 2^12.
            vlan: table.vlan.map(|vlan| vlan.value() as u16),
            mask,
        };
        if rule.protocol == Protocol::Icmp && rule.port.is_some() {
            return Err(RuleError::PortOfIcmp);
        }
        let conditions =
            rule.port.is_some() || rule.prefix.is_some_and(|p| p.length > 0) || rule.vlan.is_some();
        if rule.protocol == Protocol::Any && !conditions {
            return Err(RuleError::Everything);
        }
        Ok(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Result<PolicyRule, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn a_rule_carries_its_conditions() {
        let found = rule(
            "name = 'ntp'\naction = 'exempt'\nprotocol = 'udp'\nport = 123\n\
             prefix = '10.0.0.0/8'\nvlan = 7",
        )
        .expect("a valid rule");
        assert_eq!(
            found,
            PolicyRule {
                name: "ntp".parse().expect("a valid name"),
                protocol: Protocol::Udp,
                port: TransportPort::new(123),
                prefix: Some("10.0.0.0/8".parse().expect("a valid prefix")),
                vlan: Some(7),
                mask: None,
            }
        );
    }

    #[test]
    fn a_rule_must_say_what_it_exempts() {
        for (conditions, complaint) in [
            ("", "exempt all traffic"),
            ("protocol = 'any'", "exempt all traffic"),
            ("prefix = '0.0.0.0/0'", "exempt all traffic"),
            ("protocol = 'icmp'\nport = 1", "ICMP has no ports"),
            ("vlan = 0", "from 1 to 4094"),
            ("vlan = 4095", "from 1 to 4094"),
            ("port = 0", "nonzero"),
            ("protocol = 'sctp'", "unknown variant"),
            ("colour = 1", "unknown field"),
            ("prefix = '10.0.0.1/8'", "behind its length"),
        ] {
            let text = format!("name = 'x'\naction = 'exempt'\n{conditions}");
            let error = rule(&text).expect_err(conditions).to_string();
            assert!(error.contains(complaint), "{conditions}: {error}");
        }
        for name in ["", "Upper", "a b", "arp"] {
            let text = format!("name = '{name}'\naction = 'exempt'\nvlan = 1");
            rule(&text).expect_err(name);
        }
        rule("name = 'x'\naction = 'hide'\nvlan = 1").expect_err("an action that is none");
        rule("name = 'x'\nvlan = 1").expect_err("no action");
    }

    #[test]
    fn prefixes_have_no_host_bits() {
        for text in [
            "0.0.0.0/0",
            "::/0",
            "10.0.0.0/8",
            "10.1.2.3/32",
            "2001:db8::/32",
            "::1/128",
        ] {
            assert_eq!(text.parse::<Prefix>().expect(text).to_string(), text);
        }
        let alone: Prefix = "10.1.2.3".parse().expect("an address alone");
        assert_eq!(alone.length(), 32);
        for text in [
            "10.0.0.0/7/1",
            "10.0.0.0/33",
            "::/129",
            "x/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
        ] {
            assert_eq!(text.parse::<Prefix>(), Err(PrefixError::Syntax), "{text}");
        }
        for text in ["10.0.0.1/31", "128.0.0.0/0", "2001:db8::1/127"] {
            assert_eq!(text.parse::<Prefix>(), Err(PrefixError::HostBits), "{text}");
        }
    }
}
