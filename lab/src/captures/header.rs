//! What a frame is, read by hand: the oracle shares no parser with the comparator that it judges.
//!
//! In goes a whole Ethernet frame; out come its flow, in the direction of travel, and the place of what
//! a comparison has to hold equal. Numbers are read as RFC 9293 (TCP), RFC 768 (UDP), RFC 791 (IPv4)
//! and RFC 8200 (IPv6) lay them out.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

/// FIN, SYN, RST and ACK (RFC 9293, 3.1).
pub const FIN: u8 = 0x01;
/// See [`FIN`].
pub const SYN: u8 = 0x02;
/// See [`FIN`].
pub const RST: u8 = 0x04;
/// See [`FIN`].
pub const ACK: u8 = 0x10;
/// The urgent pointer is significant.
pub const URG: u8 = 0x20;

/// Offset of the sequence number in a TCP header.
pub const SEQ_AT: usize = 4;
/// Offset of the flags in a TCP header.
pub const FLAGS_AT: usize = 13;
/// Offset of the window in a TCP header.
pub const WINDOW_AT: usize = 14;
/// Offset of the checksum in a TCP header.
pub const CHECKSUM_AT: usize = 16;

/// Kinds of flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// TCP, by addresses and ports.
    Tcp,
    /// UDP, by addresses and ports.
    Udp,
    /// ICMP or ICMPv6, by addresses, type and the identifier of an echo.
    Icmp,
    /// Fragments, by addresses, protocol and identification.
    Fragment,
    /// Any other protocol over IP, by addresses and protocol.
    Ip,
    /// What is not IP, by MAC addresses and EtherType.
    Link,
}

/// A flow in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// What kind.
    pub class: Class,
    is_v6: bool,
    from: [u8; 16],
    to: [u8; 16],
    /// Ports; type and identifier; protocol or EtherType and 0.
    slots: [u16; 2],
    /// Identification of a fragmented datagram, else 0.
    datagram: u32,
    /// VLAN identifiers, outer first; 0 for none.
    vlans: [u16; 2],
}

/// A TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Offset of the IP header in the frame.
    pub network: usize,
    /// Offset of the TCP header in the frame.
    pub transport: usize,
    /// Offset of the payload in the frame.
    pub payload: usize,
    /// Bytes of payload.
    pub len: usize,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number; meaningful with [`ACK`].
    pub ack: u32,
    /// Control bits.
    pub flags: u8,
}

impl Segment {
    /// Whether all of these bits are set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Position of the first byte of payload.
    pub fn first(&self) -> u32 {
        self.seq.wrapping_add(u32::from(self.has(SYN)))
    }

    /// Position behind the last byte of payload.
    pub fn end(&self) -> u32 {
        self.first().wrapping_add(self.len as u32)
    }

    /// Whether it is an acknowledgment and nothing else.
    pub fn is_bare(&self) -> bool {
        self.len == 0 && self.has(ACK) && self.flags & (SYN | FIN | RST) == 0
    }
}

/// What of a frame has to be equal at both VMs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A byte stream's segment.
    Tcp(Segment),
    /// Whole or not at all: these parts of the frame.
    Datagram {
        /// Parts that must be equal, in order.
        parts: [Range<usize>; 2],
        /// What a rule may exempt one day: group membership reports.
        may_be_exempt: bool,
    },
    /// ARP, neighbour discovery and LLDP leave uncompared.
    Exempt,
    /// The headers are cut off or contradict each other.
    Malformed(&'static str),
}

/// A frame as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its flow; of a malformed frame the one by MAC addresses and EtherType.
    pub key: Key,
    /// Its content.
    pub body: Body,
}

/// Two bytes in network order.
pub fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Four bytes in network order.
pub fn double(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Why a frame cannot be read, for [`Body::Malformed`].
type Why = &'static str;
const CUT: Why = "it ends inside a header";
const LENGTH: Why = "a length contradicts another";

/// Reads a frame.
pub fn read(frame: &[u8]) -> Reading {
    let mut key = Key {
        class: Class::Link,
        is_v6: false,
        from: [0; 16],
        to: [0; 16],
        slots: [0; 2],
        datagram: 0,
        vlans: [0; 2],
    };
    let body = read_link(frame, &mut key).unwrap_or_else(Body::Malformed);
    if matches!(body, Body::Malformed(_)) {
        key = link_key(frame, &key);
    }
    Reading { key, body }
}

fn link_key(frame: &[u8], read: &Key) -> Key {
    let mut key = Key {
        class: Class::Link,
        is_v6: false,
        from: [0; 16],
        to: [0; 16],
        datagram: 0,
        ..*read
    };
    if let Some(macs) = frame.first_chunk::<12>() {
        key.to[..6].copy_from_slice(&macs[..6]);
        key.from[..6].copy_from_slice(&macs[6..]);
    }
    key
}

fn read_link(frame: &[u8], key: &mut Key) -> Result<Body, Why> {
    let mut at = 12;
    let mut tags = 0;
    let mut ether_type = word(frame, at).ok_or(CUT)?;
    while matches!(ether_type, 0x8100 | 0x88a8 | 0x9100) {
        if tags == 2 {
            return Err("it has more than two VLAN tags");
        }
        key.vlans[tags] = word(frame, at + 2).ok_or(CUT)? & 0xfff;
        ether_type = word(frame, at + 4).ok_or(CUT)?;
        at += 4;
        tags += 1;
    }
    at += 2;
    key.slots = [ether_type, 0];
    match ether_type {
        0x0800 => read_v4(frame, at, key),
        0x86dd => read_v6(frame, at, key),
        _ => {
            *key = link_key(frame, key);
            let exempt = matches!(ether_type, 0x0806 | 0x88cc);
            // An 802.3 length field: what lies behind it is padding (IEEE 802.3, 3.2.6).
            let end = match usize::from(ether_type) {
                length @ ..1536 => frame.len().min(at + length),
                _ => frame.len(),
            };
            Ok(if exempt {
                Body::Exempt
            } else {
                datagram([at..end, end..end])
            })
        }
    }
}

fn datagram(parts: [Range<usize>; 2]) -> Body {
    Body::Datagram {
        parts,
        may_be_exempt: false,
    }
}

fn read_v4(frame: &[u8], at: usize, key: &mut Key) -> Result<Body, Why> {
    let header = frame.get(at..at + 20).ok_or(CUT)?;
    let length = usize::from(header[0] & 0xf) * 4;
    let total = usize::from(word(header, 2).ok_or(CUT)?);
    if header[0] >> 4 != 4 || length < 20 || total < length || at + total > frame.len() {
        return Err(LENGTH);
    }
    key.from[..4].copy_from_slice(&header[12..16]);
    key.to[..4].copy_from_slice(&header[16..20]);
    let fragment = word(header, 6).ok_or(CUT)? & 0x3fff;
    let range = at + length..at + total;
    let protocol = header[9];
    if fragment != 0 {
        key.class = Class::Fragment;
        key.slots = [u16::from(protocol), 0];
        key.datagram = u32::from(word(header, 4).ok_or(CUT)?);
        return Ok(datagram([at + 6..at + 8, range]));
    }
    read_transport(frame, at, protocol, range, key, true)
}

fn read_v6(frame: &[u8], at: usize, key: &mut Key) -> Result<Body, Why> {
    let header = frame.get(at..at + 40).ok_or(CUT)?;
    let end = at + 40 + usize::from(word(header, 4).ok_or(CUT)?);
    if header[0] >> 4 != 6 || end > frame.len() {
        return Err(LENGTH);
    }
    key.is_v6 = true;
    key.from.copy_from_slice(&header[8..24]);
    key.to.copy_from_slice(&header[24..40]);
    let (mut protocol, mut next) = (header[6], at + 40);
    let mut whole = true;
    for passed in 0.. {
        let unit = match protocol {
            0 | 43 | 60 => 8,
            51 => 4,
            44 => 0,
            _ => break,
        };
        if passed == 8 {
            return Err("it has more than eight extension headers");
        }
        if next + 8 > end {
            return Err(LENGTH);
        }
        let length = 8 + usize::from(frame[next + 1]) * unit;
        if next + length > end {
            return Err(LENGTH);
        }
        if protocol == 44 {
            whole = false;
            let offset = word(frame, next + 2).ok_or(CUT)?;
            if offset & 0xfff9 != 0 {
                key.class = Class::Fragment;
                key.slots = [u16::from(frame[next]), 0];
                key.datagram = double(frame, next + 4).ok_or(CUT)?;
                return Ok(datagram([next + 2..next + 4, next + 8..end]));
            }
        }
        protocol = frame[next];
        next += length;
    }
    read_transport(frame, at, protocol, next..end, key, whole)
}

fn read_transport(
    frame: &[u8],
    network: usize,
    protocol: u8,
    range: Range<usize>,
    key: &mut Key,
    whole: bool,
) -> Result<Body, Why> {
    let data = &frame[range.clone()];
    let at = range.start;
    let ports = |key: &mut Key, class| -> Result<(), Why> {
        key.class = class;
        key.slots = [word(data, 0).ok_or(LENGTH)?, word(data, 2).ok_or(LENGTH)?];
        Ok(())
    };
    let icmp = match key.is_v6 {
        false => 1,
        true => 58,
    };
    match protocol {
        6 => {
            if data.len() < 20 {
                return Err(LENGTH);
            }
            let length = usize::from(data[12] >> 4) * 4;
            if length < 20 || length > data.len() {
                return Err(LENGTH);
            }
            ports(key, Class::Tcp)?;
            Ok(Body::Tcp(Segment {
                network,
                transport: at,
                payload: at + length,
                len: data.len() - length,
                seq: double(data, 4).ok_or(LENGTH)?,
                ack: double(data, 8).ok_or(LENGTH)?,
                flags: data[13],
            }))
        }
        17 => {
            let length = usize::from(word(data, 4).ok_or(LENGTH)?);
            if length < 8 || length > data.len() {
                return Err(LENGTH);
            }
            ports(key, Class::Udp)?;
            Ok(datagram([at + 8..at + length, at + length..at + length]))
        }
        _ if protocol == icmp => {
            let kind = *data.first().ok_or(LENGTH)?;
            if data.len() < 4 {
                return Err(LENGTH);
            }
            if key.is_v6 && whole && matches!(kind, 133..=137) {
                key.class = Class::Icmp;
                key.slots = [u16::from(kind), 0];
                return Ok(Body::Exempt);
            }
            let echo = match key.is_v6 {
                false => matches!(kind, 0 | 8),
                true => matches!(kind, 128 | 129),
            };
            let identifier = match echo {
                true => word(data, 4).filter(|_| data.len() >= 8).ok_or(LENGTH)?,
                false => 0,
            };
            key.class = Class::Icmp;
            key.slots = [u16::from(kind), identifier];
            Ok(Body::Datagram {
                // Between them lies the checksum, which follows from the rest.
                parts: [at..at + 2, at + 4..range.end],
                may_be_exempt: key.is_v6 && matches!(kind, 130..=132 | 143),
            })
        }
        _ => {
            key.class = Class::Ip;
            key.slots = [u16::from(protocol), 0];
            Ok(Body::Datagram {
                parts: [range.clone(), range.end..range.end],
                may_be_exempt: protocol == 2,
            })
        }
    }
}

/// Offset of TSval in an options area (RFC 7323, 3.2).
pub fn timestamp(options: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(kind) = options.get(at) {
        match kind {
            0 => return None,
            1 => at += 1,
            _ => {
                let length = usize::from(*options.get(at + 1)?);
                if *kind == 8 && length == 10 && at + 10 <= options.len() {
                    return Some(at + 2);
                }
                at += length.max(2);
            }
        }
    }
    None
}

/// As in `tcp 10.0.0.2:80 > 10.0.0.1:4242 vlan 5`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v4 = |a: &[u8; 16]| Ipv4Addr::new(a[0], a[1], a[2], a[3]);
        let ip = |a: &[u8; 16]| -> std::net::IpAddr {
            match self.is_v6 {
                true => Ipv6Addr::from(*a).into(),
                false => v4(a).into(),
            }
        };
        let [x, y] = self.slots;
        match self.class {
            Class::Tcp | Class::Udp => {
                let name = if self.class == Class::Tcp {
                    "tcp"
                } else {
                    "udp"
                };
                let (from, to) = (
                    SocketAddr::new(ip(&self.from), x),
                    SocketAddr::new(ip(&self.to), y),
                );
                write!(f, "{name} {from} > {to}")?;
            }
            Class::Icmp => {
                write!(f, "icmp {} > {} type {x}", ip(&self.from), ip(&self.to))?;
                if y != 0 {
                    write!(f, " id {y}")?;
                }
            }
            Class::Fragment => write!(
                f,
                "fragment {} > {} protocol {x} datagram {}",
                ip(&self.from),
                ip(&self.to),
                self.datagram
            )?,
            Class::Ip => write!(f, "ip {} > {} protocol {x}", ip(&self.from), ip(&self.to))?,
            Class::Link => {
                let mac = |a: &[u8; 16]| {
                    let bytes: Vec<String> = a[..6].iter().map(|b| format!("{b:02x}")).collect();
                    bytes.join(":")
                };
                write!(
                    f,
                    "ether {} > {} type {x:#06x}",
                    mac(&self.from),
                    mac(&self.to)
                )?;
            }
        }
        match self.vlans {
            [0, 0] => Ok(()),
            [outer, 0] => write!(f, " vlan {outer}"),
            [outer, inner] => write!(f, " vlan {outer}.{inner}"),
        }
    }
}
