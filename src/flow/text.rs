//! How flows are written: for people, as in `tcp 10.0.0.2:80 > 10.0.0.1:4242 vlan 5`, and in
//! reports, as a map.

use std::fmt;
use std::net::SocketAddr;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::{FlowClass, FlowKey, Vlans};

struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// As in `tcp 10.0.0.2:80 > 10.0.0.1:4242 vlan 5`.
impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.class().name();
        if let (Some(src), Some(dst)) = (self.src_ip(), self.dst_ip()) {
            match (self.src_port(), self.dst_port()) {
                (Some(src_port), Some(dst_port)) => {
                    let (src, dst) = (
                        SocketAddr::new(src, src_port),
                        SocketAddr::new(dst, dst_port),
                    );
                    write!(f, "{name} {src} > {dst}")?;
                }
                _ => write!(f, "{name} {src} > {dst}")?,
            }
        }
        if let Some((src, dst)) = self.macs() {
            write!(f, "{name} {} > {}", Mac(src), Mac(dst))?;
        }
        match self.class() {
            FlowClass::Tcp | FlowClass::Udp => {}
            FlowClass::Icmp => write!(f, " type {}", self.destination_slot())?,
            FlowClass::OtherIp | FlowClass::Fragment => {
                write!(f, " protocol {}", self.destination_slot())?
            }
            FlowClass::Link => write!(f, " type {:#06x}", self.destination_slot())?,
        }
        if let Some((_, Some(identifier))) = self.icmp() {
            write!(f, " id {identifier}")?;
        }
        match self.vlans() {
            Vlans { outer: 0, inner: 0 } => Ok(()),
            Vlans { outer, inner: 0 } => write!(f, " vlan {outer}"),
            Vlans { outer, inner } => write!(f, " vlan {outer}.{inner}"),
        }
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FlowKey({self})")
    }
}

/// A map of `class`, `src` and `dst` (IP or MAC addresses), what the class has of `src_port`,
/// `dst_port`, `protocol`, `icmp_type`, `icmp_id` and `ether_type`, and a list `vlans`.
impl Serialize for FlowKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let vlans = match self.vlans() {
            Vlans { outer: 0, inner: 0 } => &[][..],
            Vlans { outer, inner: 0 } => &[outer][..],
            Vlans { outer, inner } => &[outer, inner][..],
        };
        let mut map = serializer.serialize_struct("FlowKey", 10)?;
        map.serialize_field("class", self.class().name())?;
        match self.macs() {
            Some((src, dst)) => {
                map.serialize_field("src", &format_args!("{}", Mac(src)))?;
                map.serialize_field("dst", &format_args!("{}", Mac(dst)))?;
            }
            None => {
                map.serialize_field("src", &self.src_ip())?;
                map.serialize_field("dst", &self.dst_ip())?;
            }
        }
        let icmp = self.icmp();
        let numbers = [
            ("src_port", self.src_port()),
            ("dst_port", self.dst_port()),
            ("protocol", self.protocol().map(u16::from)),
            ("icmp_type", icmp.map(|(icmp_type, _)| u16::from(icmp_type))),
            ("icmp_id", icmp.and_then(|(_, identifier)| identifier)),
            ("ether_type", self.ether_type()),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                map.serialize_field(name, &number)?;
            }
        }
        map.serialize_field("vlans", vlans)?;
        map.end()
    }
}
