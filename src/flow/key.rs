//! The key of a flow in one direction.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::proto::ip::{ICMP, ICMPV6, TCP, UDP};

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

impl FlowClass {
    /// All classes, in the order of their numbers, which a key has in its bytes.
    pub const ALL: [Self; 6] = [
        Self::Tcp,
        Self::Udp,
        Self::Icmp,
        Self::OtherIp,
        Self::Fragment,
        Self::Link,
    ];

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

/// The key of a flow in the direction in which a frame travels, in 40 bytes.
///
/// VLANs distinguish flows by their identifiers alone; the identifier 0 means no VLAN (802.1Q calls
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

    /// A hash that is the same for both directions, so that they meet on the same core. Its upper
    /// bits spread, and differ from seed to seed.
    #[inline]
    pub const fn symmetric_hash(&self, seed: u64) -> u64 {
        let (source, destination) = (self.source_slot(), self.destination_slot());
        let (source, destination, slots) = match self.class() {
            FlowClass::Tcp | FlowClass::Udp => (source, destination, 0),
            FlowClass::Icmp => {
                let answer = answering_type(destination, self.is_v6());
                let least = if answer < destination {
                    answer
                } else {
                    destination
                };
                (0, 0, self.rest & 0xffff_0000 | least as u64)
            }
            FlowClass::OtherIp | FlowClass::Fragment | FlowClass::Link => {
                (0, 0, self.rest & 0xffff_ffff)
            }
        };
        // A product does not show which factor is whose.
        let ends = folded_product(
            end_hash(self.src, source, seed),
            end_hash(self.dst, destination, seed),
        );
        (ends ^ self.rest & !0xffff_ffff ^ slots).wrapping_mul(0x9e37_79b9_7f4a_7c15)
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
            // `new` writes no larger number than the last class, and `from_bytes` refuses one.
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
            && class < FlowClass::ALL.len() as u64
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

    pub(super) const fn destination_slot(&self) -> u16 {
        self.rest as u16
    }

    #[inline]
    pub(crate) const fn is_v6(&self) -> bool {
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

/// One end of a flow: an address and, for TCP and UDP, a port. The factors are secret, so that nobody
/// can choose both so that they make up for each other.
#[inline]
const fn end_hash(address: [u64; 2], port: u16, seed: u64) -> u64 {
    let (high, low) = (seed | 1, seed.rotate_left(32) | 1);
    let sum = address[0]
        .wrapping_mul(high)
        .wrapping_add(address[1])
        .wrapping_add((port as u64).wrapping_mul(low));
    sum ^ 0x243f_6a88_85a3_08d3 ^ seed
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
