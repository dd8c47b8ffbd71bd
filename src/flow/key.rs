//! The key of a flow in one direction.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::ser::{Serialize, SerializeStruct, Serializer};

/// What a flow consists of, and so which parts its key has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowClass {
    /// TCP: addresses and ports.
    Tcp,
    /// UDP: addresses and ports.
    Udp,
    /// ICMP over IPv4 or ICMPv6 over IPv6: addresses, type, and of an echo its identifier.
    Icmp,
    /// Any other protocol over IP: addresses and protocol.
    OtherIp,
    /// Fragments of IP datagrams, whose ports not every fragment has: addresses and protocol.
    Fragment,
    /// What is not IP: MAC addresses and EtherType (or 802.3 length).
    Link,
}

/// The key of a flow in the direction in which a frame travels, in 40 bytes.
///
/// VLANs tell flows apart by their identifiers alone; the identifier 0 means no VLAN (802.1Q calls
/// it a priority tag).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// IPv6 address in network order; an IPv4 or MAC address in the low bits of the second word.
    src: [u64; 2],
    dst: [u64; 2],
    /// From bit 0 on: 16 bits each of destination slot and source slot, 12 bits each of outer and
    /// inner VLAN, 3 bits of class, 1 bit set for IPv6. The slots hold ports for TCP and UDP; for
    /// ICMP the echo identifier (source) and the type (destination); otherwise 0 (source) and the
    /// protocol or EtherType (destination).
    rest: u64,
}

const SRC_SLOT: u32 = 16;
const OUTER: u32 = 32;
const INNER: u32 = 44;
const CLASS: u32 = 56;
const IPV6: u64 = 1 << 59;
const VLAN_MASK: u16 = 0xfff;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// VLAN identifiers of a frame, outer tag first; 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Vlans {
    /// Identifier of the outer tag, or of the only one.
    pub outer: u16,
    /// Identifier of the inner of two tags.
    pub inner: u16,
}

impl Vlans {
    const fn bits(self) -> u64 {
        ((self.outer & VLAN_MASK) as u64) << OUTER | ((self.inner & VLAN_MASK) as u64) << INNER
    }
}

/// Both addresses of an IP flow, as the parser reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoints {
    src: [u64; 2],
    dst: [u64; 2],
    family: u64,
}

impl Endpoints {
    #[inline]
    pub(crate) const fn v4(src: [u8; 4], dst: [u8; 4]) -> Self {
        Self {
            src: [0, u32::from_be_bytes(src) as u64],
            dst: [0, u32::from_be_bytes(dst) as u64],
            family: 0,
        }
    }

    #[inline]
    pub(crate) const fn v6(src: [u8; 16], dst: [u8; 16]) -> Self {
        Self {
            src: halves(u128::from_be_bytes(src)),
            dst: halves(u128::from_be_bytes(dst)),
            family: IPV6,
        }
    }

    #[inline]
    pub(crate) const fn is_v6(&self) -> bool {
        self.family != 0
    }
}

const fn halves(bits: u128) -> [u64; 2] {
    [(bits >> 64) as u64, bits as u64]
}

impl FlowKey {
    #[inline]
    pub(crate) const fn new(
        ends: Endpoints,
        class: FlowClass,
        source: u16,
        destination: u16,
        vlans: Vlans,
    ) -> Self {
        let slots = (source as u64) << SRC_SLOT | destination as u64;
        Self {
            src: ends.src,
            dst: ends.dst,
            rest: slots | vlans.bits() | (class as u64) << CLASS | ends.family,
        }
    }

    /// A TCP flow. Both addresses are of one family; otherwise IPv4 is taken as mapped into IPv6.
    pub fn tcp(src: SocketAddr, dst: SocketAddr) -> Self {
        Self::transport(FlowClass::Tcp, src, dst)
    }

    /// A UDP flow, under the same rule as [`FlowKey::tcp`].
    pub fn udp(src: SocketAddr, dst: SocketAddr) -> Self {
        Self::transport(FlowClass::Udp, src, dst)
    }

    fn transport(class: FlowClass, src: SocketAddr, dst: SocketAddr) -> Self {
        let ends = match (src.ip(), dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Endpoints::v4(src.octets(), dst.octets()),
            (src, dst) => Endpoints::v6(mapped(src).octets(), mapped(dst).octets()),
        };
        Self::new(ends, class, src.port(), dst.port(), Vlans::default())
    }

    /// A flow that is not IP, by MAC addresses and EtherType.
    #[inline]
    pub const fn link(src: [u8; 6], dst: [u8; 6], ether_type: u16, vlans: Vlans) -> Self {
        let ends = Endpoints {
            src: [0, mac_bits(src)],
            dst: [0, mac_bits(dst)],
            family: 0,
        };
        Self::new(ends, FlowClass::Link, 0, ether_type, vlans)
    }

    /// The same flow under other VLAN identifiers, of which the low 12 bits count.
    pub const fn with_vlans(mut self, vlans: Vlans) -> Self {
        let mask = (VLAN_MASK as u64) << OUTER | (VLAN_MASK as u64) << INNER;
        self.rest = self.rest & !mask | vlans.bits();
        self
    }

    /// The same conversation seen in the other direction. An echo request turns into the reply.
    #[inline]
    pub const fn reversed(self) -> Self {
        let (source, destination) = (self.source_slot(), self.destination_slot());
        let (source, destination) = match self.class() {
            FlowClass::Tcp | FlowClass::Udp => (destination, source),
            FlowClass::Icmp => (source, answering_type(destination, self.is_v6())),
            FlowClass::OtherIp | FlowClass::Fragment | FlowClass::Link => (source, destination),
        };
        let slots = (source as u64) << SRC_SLOT | destination as u64;
        Self {
            src: self.dst,
            dst: self.src,
            rest: self.rest & !0xffff_ffff | slots,
        }
    }

    /// A hash that spreads over all 64 bits. It is the same in every process; where the peer may
    /// choose keys to collide, use [`FlowKey::hash_seeded`].
    #[inline]
    pub const fn hash(&self) -> u64 {
        self.hash_seeded(0)
    }

    /// A hash that spreads over all 64 bits and differs from seed to seed.
    #[inline]
    pub const fn hash_seeded(&self, seed: u64) -> u64 {
        // Odd constants without pattern (digits of pi) keep a factor from being 0 for common keys.
        let src = folded_product(
            self.src[0] ^ 0x243f_6a88_85a3_08d3 ^ seed,
            self.src[1] ^ 0x1319_8a2e_0370_7345,
        );
        let dst = folded_product(
            self.dst[0] ^ 0xa409_3822_299f_31d1,
            self.dst[1] ^ 0x082e_fa98_ec4e_6c89 ^ seed,
        );
        folded_product(src ^ self.rest ^ seed, dst ^ 0x4528_21e6_38d0_1377)
    }

    /// A hash that is the same for both directions, so that they meet on the same core.
    #[inline]
    pub const fn symmetric_hash(&self) -> u64 {
        self.hash().wrapping_add(self.reversed().hash())
    }

    /// What the flow consists of.
    #[inline]
    pub const fn class(&self) -> FlowClass {
        match self.rest >> CLASS & 7 {
            0 => FlowClass::Tcp,
            1 => FlowClass::Udp,
            2 => FlowClass::Icmp,
            3 => FlowClass::OtherIp,
            4 => FlowClass::Fragment,
            _ => FlowClass::Link,
        }
    }

    /// Source address of an IP flow.
    pub const fn src_ip(&self) -> Option<IpAddr> {
        self.ip(self.src)
    }

    /// Destination address of an IP flow.
    pub const fn dst_ip(&self) -> Option<IpAddr> {
        self.ip(self.dst)
    }

    /// Source port of a TCP or UDP flow.
    #[inline]
    pub const fn src_port(&self) -> Option<u16> {
        match self.class() {
            FlowClass::Tcp | FlowClass::Udp => Some(self.source_slot()),
            _ => None,
        }
    }

    /// Destination port of a TCP or UDP flow.
    #[inline]
    pub const fn dst_port(&self) -> Option<u16> {
        match self.class() {
            FlowClass::Tcp | FlowClass::Udp => Some(self.destination_slot()),
            _ => None,
        }
    }

    /// Protocol of an IP flow, by its IANA number, extension headers passed over.
    #[inline]
    pub const fn protocol(&self) -> Option<u8> {
        match self.class() {
            FlowClass::Tcp => Some(TCP),
            FlowClass::Udp => Some(UDP),
            FlowClass::Icmp if self.is_v6() => Some(ICMPV6),
            FlowClass::Icmp => Some(ICMP),
            FlowClass::OtherIp | FlowClass::Fragment => Some(self.destination_slot() as u8),
            FlowClass::Link => None,
        }
    }

    /// Type and, for an echo request or reply, identifier of an ICMP flow.
    pub const fn icmp(&self) -> Option<(u8, Option<u16>)> {
        match self.class() {
            FlowClass::Icmp => {
                let kind = self.destination_slot();
                let echo = kind != answering_type(kind, self.is_v6());
                Some((
                    kind as u8,
                    if echo { Some(self.source_slot()) } else { None },
                ))
            }
            _ => None,
        }
    }

    /// EtherType (or 802.3 length) of a flow that is not IP.
    pub const fn ether_type(&self) -> Option<u16> {
        match self.class() {
            FlowClass::Link => Some(self.destination_slot()),
            _ => None,
        }
    }

    /// Source and destination MAC address of a flow that is not IP.
    pub const fn macs(&self) -> Option<([u8; 6], [u8; 6])> {
        match self.class() {
            FlowClass::Link => Some((mac(self.src[1]), mac(self.dst[1]))),
            _ => None,
        }
    }

    /// VLAN identifiers.
    pub const fn vlans(&self) -> Vlans {
        Vlans {
            outer: (self.rest >> OUTER) as u16 & VLAN_MASK,
            inner: (self.rest >> INNER) as u16 & VLAN_MASK,
        }
    }

    /// The key as bytes, for another host.
    pub fn to_bytes(&self) -> [u8; 40] {
        let words = [
            self.src[0],
            self.src[1],
            self.dst[0],
            self.dst[1],
            self.rest,
        ];
        let mut bytes = [0; 40];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// The key that [`FlowKey::to_bytes`] gave these bytes, or `None` when no key has them.
    pub fn from_bytes(bytes: &[u8; 40]) -> Option<Self> {
        let (words, _) = bytes.as_chunks::<8>();
        let word = |i: usize| u64::from_be_bytes(words[i]);
        let key = Self {
            src: [word(0), word(1)],
            dst: [word(2), word(3)],
            rest: word(4),
        };
        let class = key.rest >> CLASS & 7;
        let widest = match (key.is_v6(), class == FlowClass::Link as u64) {
            (true, true) => return None,
            (true, false) => [u64::MAX, u64::MAX],
            (false, true) => [0, (1 << 48) - 1],
            (false, false) => [0, (1 << 32) - 1],
        };
        let fits = |address: [u64; 2]| address[0] <= widest[0] && address[1] <= widest[1];
        let valid = key.rest >> 60 == 0
            && class <= FlowClass::Link as u64
            && fits(key.src)
            && fits(key.dst)
            && match key.class() {
                FlowClass::Tcp | FlowClass::Udp => true,
                FlowClass::Icmp => {
                    key.destination_slot() <= 0xff
                        && (key.source_slot() == 0 || matches!(key.icmp(), Some((_, Some(_)))))
                }
                FlowClass::OtherIp | FlowClass::Fragment => {
                    key.destination_slot() <= 0xff && key.source_slot() == 0
                }
                FlowClass::Link => key.source_slot() == 0,
            };
        valid.then_some(key)
    }

    const fn source_slot(&self) -> u16 {
        (self.rest >> SRC_SLOT) as u16
    }

    const fn destination_slot(&self) -> u16 {
        self.rest as u16
    }

    const fn is_v6(&self) -> bool {
        self.rest & IPV6 != 0
    }

    const fn ip(&self, address: [u64; 2]) -> Option<IpAddr> {
        if matches!(self.class(), FlowClass::Link) {
            None
        } else if self.is_v6() {
            let bits = (address[0] as u128) << 64 | address[1] as u128;
            Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
        } else {
            Some(IpAddr::V4(Ipv4Addr::from_bits(address[1] as u32)))
        }
    }
}

/// The flow of nothing: no addresses, EtherType 0.
impl Default for FlowKey {
    fn default() -> Self {
        Self::link([0; 6], [0; 6], 0, Vlans::default())
    }
}

/// Whether an ICMP message of this type has an identifier by which a request meets its reply.
pub(crate) const fn is_echo(icmp_type: u8, is_v6: bool) -> bool {
    answering_type(icmp_type as u16, is_v6) != icmp_type as u16
}

const fn answering_type(icmp_type: u16, is_v6: bool) -> u16 {
    match (icmp_type, is_v6) {
        (0, false) => 8,
        (8, false) => 0,
        (128, true) => 129,
        (129, true) => 128,
        _ => icmp_type,
    }
}

#[inline]
const fn folded_product(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product >> 64) as u64 ^ product as u64
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[inline]
const fn mac_bits(m: [u8; 6]) -> u64 {
    u64::from_be_bytes([0, 0, m[0], m[1], m[2], m[3], m[4], m[5]])
}

const fn mac(bits: u64) -> [u8; 6] {
    let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
    [a, b, c, d, e, f]
}

struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FlowClass {
    /// The class in one word, as reports show it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::OtherIp => "ip",
            Self::Fragment => "fragment",
            Self::Link => "ether",
        }
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn tcp(src: &str, dst: &str) -> FlowKey {
        FlowKey::tcp(src.parse().unwrap(), dst.parse().unwrap())
    }

    fn icmp(icmp_type: u16, identifier: u16) -> FlowKey {
        let ends = Endpoints::v4([10, 0, 0, 2], [10, 0, 0, 1]);
        FlowKey::new(
            ends,
            FlowClass::Icmp,
            identifier,
            icmp_type,
            Vlans::default(),
        )
    }

    fn samples() -> Vec<FlowKey> {
        let v6 = Endpoints::v6([0xfd; 16], [0xfe; 16]);
        let both = Vlans {
            outer: 4095,
            inner: 1,
        };
        vec![
            tcp("10.0.0.2:80", "10.0.0.1:4242").with_vlans(Vlans { outer: 5, inner: 0 }),
            tcp("[fd00::1]:80", "[fd00::2]:4242").with_vlans(both),
            FlowKey::udp(
                "10.0.0.2:80".parse().unwrap(),
                "10.0.0.1:4242".parse().unwrap(),
            ),
            icmp(8, 77),
            icmp(3, 0),
            FlowKey::new(v6, FlowClass::Icmp, 77, 129, both),
            FlowKey::new(v6, FlowClass::OtherIp, 0, 47, Vlans::default()),
            FlowKey::new(v6, FlowClass::Fragment, 0, 17, Vlans::default()),
            FlowKey::link([2, 0, 0, 0, 0, 1], [0xff; 6], 0x0806, both),
            FlowKey::default(),
        ]
    }

    #[test]
    fn a_key_is_compact() {
        assert_eq!(size_of::<FlowKey>(), 40);
    }

    #[test]
    fn keys_read_as_a_person_writes_them() {
        let shown: Vec<String> = samples().iter().map(FlowKey::to_string).collect();
        assert_eq!(
            shown,
            [
                "tcp 10.0.0.2:80 > 10.0.0.1:4242 vlan 5",
                "tcp [fd00::1]:80 > [fd00::2]:4242 vlan 4095.1",
                "udp 10.0.0.2:80 > 10.0.0.1:4242",
                "icmp 10.0.0.2 > 10.0.0.1 type 8 id 77",
                "icmp 10.0.0.2 > 10.0.0.1 type 3",
                "icmp fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd > \
                 fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe type 129 id 77 vlan 4095.1",
                "ip fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd > \
                 fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe protocol 47",
                "fragment fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd > \
                 fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe protocol 17",
                "ether 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff type 0x0806 vlan 4095.1",
                "ether 00:00:00:00:00:00 > 00:00:00:00:00:00 type 0x0000",
            ]
        );
    }

    #[test]
    fn a_report_names_each_part() {
        assert_eq!(
            serde_json::to_value(samples()[0]).unwrap(),
            serde_json::json!({
                "class": "tcp", "src": "10.0.0.2", "dst": "10.0.0.1",
                "src_port": 80, "dst_port": 4242, "protocol": 6, "vlans": [5],
            })
        );
        assert_eq!(
            serde_json::to_value(samples()[8]).unwrap(),
            serde_json::json!({
                "class": "ether", "src": "02:00:00:00:00:01", "dst": "ff:ff:ff:ff:ff:ff",
                "ether_type": 0x0806, "vlans": [4095, 1],
            })
        );
    }

    #[test]
    fn the_other_direction_is_the_answer() {
        let key = tcp("10.0.0.2:80", "10.0.0.1:4242");
        assert_eq!(key.reversed(), tcp("10.0.0.1:4242", "10.0.0.2:80"));
        let reply = icmp(8, 77).reversed();
        assert_eq!(reply.icmp(), Some((0, Some(77))));
        for key in samples() {
            assert_eq!(key.reversed().reversed(), key);
            assert_eq!(
                key.symmetric_hash(),
                key.reversed().symmetric_hash(),
                "{key}"
            );
            assert_eq!(key.vlans(), key.reversed().vlans());
        }
    }

    #[test]
    fn bytes_come_back_as_the_key_or_not_at_all() {
        for key in samples() {
            assert_eq!(FlowKey::from_bytes(&key.to_bytes()), Some(key));
        }
        let mut bytes = samples()[0].to_bytes();
        bytes[0] = 1;
        assert_eq!(
            FlowKey::from_bytes(&bytes),
            None,
            "an IPv4 address of more than 32 bits"
        );
        assert_eq!(FlowKey::from_bytes(&[0xff; 40]), None, "unknown class");
        let mut bytes = icmp(3, 0).to_bytes();
        bytes[37] = 1;
        assert_eq!(
            FlowKey::from_bytes(&bytes),
            None,
            "an identifier without an echo"
        );
    }

    #[test]
    fn families_and_classes_do_not_meet() {
        let key = tcp("1.2.3.4:5", "6.7.8.9:10");
        let low = tcp("[::102:304]:5", "[::607:809]:10");
        assert_ne!(key, low);
        assert_ne!(key.hash(), low.hash());
        let distinct: HashSet<FlowKey> = samples().into_iter().collect();
        assert_eq!(distinct.len(), samples().len());
    }

    /// Sequential addresses and ports are what a load generator sends.
    #[test]
    fn hashes_of_neighbours_spread_like_chance() {
        const BUCKETS: usize = 1 << 16;
        for shift in [0, 16, 48] {
            for seed in [0, 1, 0x0123_4567_89ab_cdef] {
                let mut counts = vec![0u32; BUCKETS];
                for host in 0..=255u8 {
                    for port in 0..256u16 {
                        let src = SocketAddr::from(([10, 0, 0, host], 1024 + port));
                        let key = FlowKey::tcp(src, SocketAddr::from(([10, 0, 1, 1], 80)));
                        counts[(key.hash_seeded(seed) >> shift) as usize % BUCKETS] += 1;
                    }
                }
                let empty = counts.iter().filter(|&&count| count == 0).count();
                let expected = BUCKETS as f64 / std::f64::consts::E;
                assert!(
                    (empty as f64 - expected).abs() < 0.03 * expected,
                    "{shift} {seed} {empty}"
                );
                assert!(counts.iter().max() < Some(&12), "{shift} {seed}");
            }
        }
    }
}
