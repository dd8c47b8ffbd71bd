//! Reading the headers of a frame.
//!
//! A frame without tags that carries TCP or UDP right behind an IPv4 header without options or an
//! IPv6 header is tried first and costs a few predictable branches; everything else takes the
//! general path, which alone decides what is unreadable.

use super::TcpFlags;
use super::extras::{are_ordinary, are_usual};
use crate::flow::{Endpoints, FlowClass, FlowKey, Vlans, is_echo};
use crate::proto::ether;
use crate::proto::ip::{
    AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ICMP, ICMPV6, IGMP, ROUTING, TCP,
    UDP,
};

/// What kind of traffic a frame is, as the comparison distinguishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// TCP over IPv4 or IPv6, not a fragment; [`Packet::tcp`] is valid.
    Tcp,
    /// UDP, not a fragment. The payload begins behind the UDP header.
    Udp,
    /// ICMP or ICMPv6 (but neighbour discovery and listener reports). The payload is the whole ICMP message.
    Icmp,
    /// Any other protocol over IP. The payload is all that follows the IP header (and extension
    /// headers).
    OtherIp,
    /// A fragment of an IP datagram, the first one included. The payload is the fragment's data.
    Fragment,
    /// ARP.
    Arp,
    /// IPv6 neighbour discovery (ICMPv6 types 133 to 137), not in a fragment (RFC 6980). The
    /// payload is the whole ICMPv6 message.
    NeighbourDiscovery,
    /// LLDP.
    Lldp,
    /// An IGMP membership report or leave of any version (not a query), not in a fragment. The payload is the whole
    /// message.
    Igmp,
    /// A multicast listener report or done of any version (not a query), not in a fragment. The payload is the whole
    /// ICMPv6 message.
    Mld,
    /// Any other EtherType or an 802.3 length field. The payload is all that follows the Ethernet
    /// header and tags, or as much of it as that length says.
    Opaque,
    /// Headers that are truncated or contradict each other, or lie beyond the first segment. The
    /// payload is all that follows the Ethernet header and the tags that could be read.
    Unreadable(Unreadable),
}

/// Why a frame cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unreadable {
    /// The frame or its first segment ends inside a header.
    Truncated,
    /// A length, version or offset field contradicts another or the frame.
    Length,
    /// More VLAN tags or IPv6 extension headers than a frame may have here.
    TooManyHeaders,
}

/// TCP header fields, in host byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number; meaningful with ACK.
    pub ack: u32,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window field, unscaled.
    pub window: u16,
}

/// What a frame is and where its parts lie; offsets in bytes from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The kind of traffic.
    pub kind: Kind,
    /// The flow it belongs to, in the direction in which the frame travels. Of a frame that is
    /// unreadable it is the flow by MAC addresses and EtherType.
    pub key: FlowKey,
    /// Offset of the IP header (or of the payload for non-IP frames).
    pub l3: u16,
    /// Offset of the transport header (first byte after IP header and extension headers).
    pub l4: u16,
    /// Offset of the payload. May lie at or beyond the first segment's end in a chain.
    pub payload: u16,
    /// Bytes of payload by the IP header's length (by the UDP header's for UDP), so without
    /// padding.
    pub payload_len: u32,
    /// TCP fields when `kind` is [`Kind::Tcp`], else zero.
    pub tcp: Tcp,
    /// For [`Kind::Fragment`]: offset in 8-byte units << 1 | more-fragments; else 0.
    pub fragment: u16,
    /// What stands before the payload.
    pub(super) form: Form,
}

/// What stands in a frame before its payload, as far as the fast path asks: one byte for all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Form {
    /// Without extras, and in a frame without tags, a TCP segment right behind an IPv4 header.
    Segment4,
    /// The same behind an IPv6 header.
    Segment6,
    /// A UDP datagram, likewise.
    Datagram4,
    /// The same behind an IPv6 header.
    Datagram6,
    /// Any other frame without extras.
    Other,
    /// See [`Packet::has_extras`].
    Extras,
}

/// VLAN tags that a frame may have.
const MAX_TAGS: usize = 2;
/// IPv6 extension headers that a frame may have.
const MAX_EXTENSIONS: usize = 8;

pub(super) const ETHERNET_HEADER: usize = 14;
pub(super) const IPV4_HEADER: usize = 20;
pub(super) const IPV6_HEADER: usize = 40;
pub(super) const TCP_HEADER: usize = 20;
pub(super) const UDP_HEADER: usize = 8;
/// Where the transport header lies in a frame without tags, options and extension headers.
pub(super) const V4: usize = ETHERNET_HEADER + IPV4_HEADER;
pub(super) const V6: usize = ETHERNET_HEADER + IPV6_HEADER;
/// Type, code and checksum, which every ICMP message has.
const ICMP_HEADER: usize = 4;
const ICMP_ECHO_HEADER: usize = 8;
/// An IGMP message has 8 bytes at least, in all versions.
const IGMP_HEADER: usize = 8;

/// The highest value of the EtherType that is a length (IEEE 802.3, 3.2.6).
const MAX_LENGTH: u16 = 1500;

/// More-fragments and the fragment offset in IPv4's word of flags.
const IPV4_FRAGMENT_MASK: u16 = 0x3fff;

impl Packet {
    /// A packet of nothing, to fill an array with.
    pub(crate) const EMPTY: Self = Self {
        kind: Kind::Opaque,
        key: FlowKey::link([0; 6], [0; 6], 0, Vlans { outer: 0, inner: 0 }),
        l3: 0,
        l4: 0,
        payload: 0,
        payload_len: 0,
        tcp: Tcp {
            seq: 0,
            ack: 0,
            flags: TcpFlags(0),
            window: 0,
        },
        fragment: 0,
        form: Form::Other,
    };

    /// Whether there is more that an end system could act on: IPv4 options, IPv6 extension headers, TCP
    /// options but those of a SYN, time stamps, SACK blocks and signatures, or bytes behind a UDP datagram.
    #[inline(always)]
    pub fn has_extras(&self) -> bool {
        self.form == Form::Extras
    }

    /// Reads a frame whose first segment is `head` and which has `frame_len` bytes in all its
    /// segments, at least `head.len()`.
    ///
    /// All headers through the transport header must lie in `head`, payload need not. Checksums
    /// are not verified: a wrong one is passed on, as a wire would.
    #[inline]
    pub fn parse(head: &[u8], frame_len: usize) -> Self {
        let mut packet = Self::EMPTY;
        packet.read(head, frame_len);
        packet
    }

    /// Becomes what [`Packet::parse`] returns, without a copy.
    #[inline(always)]
    pub(crate) fn read(&mut self, head: &[u8], frame_len: usize) {
        if !self.read_plain(head, frame_len) {
            *self = Self::parse_any(head, frame_len);
        }
    }

    /// Offset of the first byte after the payload.
    #[inline]
    pub const fn end(&self) -> usize {
        self.payload as usize + self.payload_len as usize
    }

    /// Sequence numbers that a TCP segment takes: its payload's, and one each for SYN and FIN (RFC 9293,
    /// 3.4, SEG.LEN). 0 for any other kind.
    pub const fn sequence_len(&self) -> u32 {
        match self.kind {
            Kind::Tcp => {
                let flags = self.tcp.flags;
                let (syn, fin) = (flags.contains(TcpFlags::SYN), flags.contains(TcpFlags::FIN));
                self.payload_len + syn as u32 + fin as u32
            }
            _ => 0,
        }
    }

    /// The options area of the TCP header, empty for any other kind. `head` is the first segment
    /// of the frame that this packet was parsed from.
    #[inline]
    pub fn tcp_options<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        match self.kind {
            Kind::Tcp => {
                let options = usize::from(self.l4) + TCP_HEADER..usize::from(self.payload);
                head.get(options).unwrap_or_default()
            }
            _ => &[],
        }
    }

    /// Reads untagged IPv4 without options or IPv6 without extension headers that carries TCP or
    /// UDP and contradicts itself nowhere. For anything else it is false and nothing is read.
    #[inline(always)]
    pub(super) fn read_plain(&mut self, head: &[u8], frame_len: usize) -> bool {
        let Some(h) = head.first_chunk::<{ V4 + UDP_HEADER }>() else {
            return false;
        };
        let ether_type = u16_at(h, 12);
        if ether_type == ether::IPV4 {
            let end = ETHERNET_HEADER + usize::from(u16_at(h, 16));
            let plain = h[14] == 0x45 && u16_at(h, 20) & IPV4_FRAGMENT_MASK == 0;
            if !plain || end > frame_len {
                return false;
            }
            let ends = Endpoints::v4([h[26], h[27], h[28], h[29]], [h[30], h[31], h[32], h[33]]);
            match (h[23], head.first_chunk::<{ V4 + TCP_HEADER }>()) {
                (TCP, Some(h)) => self.read_tcp::<V4>(&h[V4..], head, ends, end),
                (UDP, _) => self.read_udp::<V4>(&h[V4..], ends, end),
                _ => false,
            }
        } else if ether_type == ether::IPV6 {
            let Some(h) = head.first_chunk::<{ V6 + UDP_HEADER }>() else {
                return false;
            };
            let end = V6 + usize::from(u16_at(h, 18));
            let (Ok(src), Ok(dst)) = (header_at(h, 22), header_at(h, 38)) else {
                return false;
            };
            if h[14] >> 4 != 6 || end > frame_len {
                return false;
            }
            let ends = Endpoints::v6(*src, *dst);
            match (h[20], head.first_chunk::<{ V6 + TCP_HEADER }>()) {
                (TCP, Some(h)) => self.read_tcp::<V6>(&h[V6..], head, ends, end),
                (UDP, _) => self.read_udp::<V6>(&h[V6..], ends, end),
                _ => false,
            }
        } else {
            false
        }
    }

    /// A TCP header `h` at offset `L4` of a datagram that ends at `end`.
    #[inline(always)]
    fn read_tcp<const L4: usize>(
        &mut self,
        h: &[u8],
        head: &[u8],
        ends: Endpoints,
        end: usize,
    ) -> bool {
        let header = usize::from(h[12] >> 4) * 4;
        let payload = L4 + header;
        if header < TCP_HEADER || payload > end.min(head.len()) {
            return false;
        }
        *self = Self {
            kind: Kind::Tcp,
            key: transport_key(FlowClass::Tcp, ends, h),
            l3: ETHERNET_HEADER as u16,
            l4: L4 as u16,
            payload: payload as u16,
            payload_len: (end - payload) as u32,
            tcp: tcp_fields(h),
            fragment: 0,
            form: match L4 {
                V4 => Form::Segment4,
                _ => Form::Segment6,
            },
        };
        if !are_usual(head, L4 + TCP_HEADER, payload) {
            self.read_unusual_options(head);
        }
        true
    }

    /// Whether the options of a plain segment are extras.
    #[inline(never)]
    fn read_unusual_options(&mut self, head: &[u8]) {
        if self.has_unusual_options(head) {
            self.form = Form::Extras;
        }
    }

    /// Whether a segment has options that are extras.
    fn has_unusual_options(&self, head: &[u8]) -> bool {
        !self.tcp.flags.contains(TcpFlags::SYN) && !are_ordinary(self.tcp_options(head))
    }

    /// A UDP header `h` at offset `L4` of a datagram that ends at `end`.
    #[inline(always)]
    fn read_udp<const L4: usize>(&mut self, h: &[u8], ends: Endpoints, end: usize) -> bool {
        let length = usize::from(u16_at(h, 4));
        if length < UDP_HEADER || L4 + length > end {
            return false;
        }
        *self = Self {
            kind: Kind::Udp,
            key: transport_key(FlowClass::Udp, ends, h),
            l3: ETHERNET_HEADER as u16,
            l4: L4 as u16,
            payload: (L4 + UDP_HEADER) as u16,
            payload_len: (length - UDP_HEADER) as u32,
            tcp: Tcp::default(),
            fragment: 0,
            form: match L4 {
                V4 => Form::Datagram4,
                _ => Form::Datagram6,
            },
        };
        if L4 + length != end {
            self.form = Form::Extras;
        }
        true
    }

    /// What stands in a frame before the payload; everything else of it was read.
    fn form_in(&self, head: &[u8]) -> Form {
        let has_extras = self.has_network_options(head)
            || !self.surplus(head).is_empty()
            || self.has_unusual_options(head);
        if has_extras {
            return Form::Extras;
        }
        let (l3, l4, is_v6) = (self.l3.into(), self.l4.into(), self.key.is_v6());
        match (self.kind, l3, l4) {
            (Kind::Tcp, ETHERNET_HEADER, V4) => Form::Segment4,
            (Kind::Udp, ETHERNET_HEADER, V4) => Form::Datagram4,
            (Kind::Tcp, ETHERNET_HEADER, V6) if is_v6 => Form::Segment6,
            (Kind::Udp, ETHERNET_HEADER, V6) if is_v6 => Form::Datagram6,
            _ => Form::Other,
        }
    }

    /// Reads any frame. What [`Packet::read_plain`] reads is also the result here.
    #[inline(never)]
    pub(super) fn parse_any(head: &[u8], frame_len: usize) -> Self {
        let frame_len = frame_len.max(head.len());
        let mut link = Link::default();
        link.read(head)
            .and_then(|()| link.packet(head, frame_len))
            .unwrap_or_else(|why| link.whole(Kind::Unreadable(why), head, frame_len))
    }
}

/// The Ethernet header and its tags.
#[derive(Default)]
struct Link {
    ether_type: u16,
    vlans: Vlans,
    /// Offset of what follows the tags.
    end: usize,
}

impl Link {
    /// Reads the header, or as much of it as there is.
    fn read(&mut self, head: &[u8]) -> Result<(), Unreadable> {
        let h: &[u8; ETHERNET_HEADER] = header_at(head, 0)?;
        self.ether_type = u16_at(h, 12);
        self.end = ETHERNET_HEADER;
        let mut tags = 0;
        while matches!(self.ether_type, 0x8100 | 0x88a8 | 0x9100) {
            if tags == MAX_TAGS {
                return Err(Unreadable::TooManyHeaders);
            }
            let tag: &[u8; 4] = header_at(head, self.end)?;
            let identifier = u16_at(tag, 0) & 0xfff;
            match tags {
                0 => self.vlans.outer = identifier,
                _ => self.vlans.inner = identifier,
            }
            self.ether_type = u16_at(tag, 2);
            self.end += 4;
            tags += 1;
        }
        Ok(())
    }

    fn packet(&self, head: &[u8], frame_len: usize) -> Result<Packet, Unreadable> {
        match self.ether_type {
            ether::IPV4 | ether::IPV6 => {
                let ip = Ip::read(self.ether_type, head, self.end, frame_len)?;
                let mut packet = ip.packet(head, self)?;
                packet.form = packet.form_in(head);
                Ok(packet)
            }
            // A length (IEEE 802.3, 3.2.6); what lies behind it is padding.
            length @ ..=MAX_LENGTH if self.end + usize::from(length) <= frame_len => Ok(Packet {
                payload_len: u32::from(length),
                ..self.whole(Kind::Opaque, head, frame_len)
            }),
            ether::ARP => Ok(self.whole(Kind::Arp, head, frame_len)),
            ether::LLDP => Ok(self.whole(Kind::Lldp, head, frame_len)),
            _ => Ok(self.whole(Kind::Opaque, head, frame_len)),
        }
    }

    /// A packet whose payload is all that follows the header.
    fn whole(&self, kind: Kind, head: &[u8], frame_len: usize) -> Packet {
        let (dst, src) = match head.first_chunk::<12>() {
            Some(&[a, b, c, d, e, f, g, h, i, j, k, l]) => ([a, b, c, d, e, f], [g, h, i, j, k, l]),
            None => ([0; 6], [0; 6]),
        };
        let payload = self.end as u16;
        Packet {
            kind,
            key: FlowKey::link(src, dst, self.ether_type, self.vlans),
            l3: payload,
            l4: payload,
            payload,
            payload_len: u32::try_from(frame_len - self.end).unwrap_or(u32::MAX),
            tcp: Tcp::default(),
            fragment: 0,
            form: Form::Other,
        }
    }
}

/// The IP header and its extension headers.
pub(super) struct Ip {
    pub(super) ends: Endpoints,
    l3: usize,
    /// Offset of what follows the header and extension headers.
    pub(super) l4: usize,
    /// Offset of the first byte after the datagram.
    pub(super) end: usize,
    pub(super) protocol: u8,
    /// As in [`Packet::fragment`].
    pub(super) fragment: u16,
    /// Whether there is a fragment header, be the datagram whole or not.
    fragment_header: bool,
}

impl Ip {
    /// Reads IPv4 or, with any other EtherType, IPv6 at `l3`. No length may lead beyond
    /// `frame_len`.
    pub(super) fn read(
        ether_type: u16,
        head: &[u8],
        l3: usize,
        frame_len: usize,
    ) -> Result<Self, Unreadable> {
        match ether_type {
            ether::IPV4 => Self::v4(head, l3, frame_len),
            _ => Self::v6(head, l3, frame_len),
        }
    }

    fn v4(head: &[u8], l3: usize, frame_len: usize) -> Result<Self, Unreadable> {
        let h: &[u8; IPV4_HEADER] = header_at(head, l3)?;
        let header = usize::from(h[0] & 0xf) * 4;
        let total = usize::from(u16_at(h, 2));
        if h[0] >> 4 != 4 || header < IPV4_HEADER || total < header || l3 + total > frame_len {
            return Err(Unreadable::Length);
        }
        if l3 + header > head.len() {
            return Err(Unreadable::Truncated);
        }
        let fragment = u16_at(h, 6) & IPV4_FRAGMENT_MASK;
        Ok(Self {
            ends: Endpoints::v4([h[12], h[13], h[14], h[15]], [h[16], h[17], h[18], h[19]]),
            l3,
            l4: l3 + header,
            end: l3 + total,
            protocol: h[9],
            fragment: (fragment & 0x1fff) << 1 | fragment >> 13,
            fragment_header: fragment != 0,
        })
    }

    fn v6(head: &[u8], l3: usize, frame_len: usize) -> Result<Self, Unreadable> {
        let h: &[u8; IPV6_HEADER] = header_at(head, l3)?;
        let end = l3 + IPV6_HEADER + usize::from(u16_at(h, 4));
        if h[0] >> 4 != 6 || end > frame_len {
            return Err(Unreadable::Length);
        }
        let (src, dst) = (header_at(h, 8)?, header_at(h, 24)?);
        let mut ip = Self {
            ends: Endpoints::v6(*src, *dst),
            l3,
            l4: l3 + IPV6_HEADER,
            end,
            protocol: h[6],
            fragment: 0,
            fragment_header: false,
        };
        ip.pass_extensions(head)?;
        Ok(ip)
    }

    /// Moves on to the transport header or to the data of a fragment.
    fn pass_extensions(&mut self, head: &[u8]) -> Result<(), Unreadable> {
        let mut passed = 0;
        while self.fragment == 0 {
            let unit = match self.protocol {
                HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => 8,
                AUTHENTICATION => 4,
                FRAGMENT => 0,
                _ => break,
            };
            if passed == MAX_EXTENSIONS {
                return Err(Unreadable::TooManyHeaders);
            }
            let h: &[u8; 8] = self.header_at(head, self.l4)?;
            // Lengths count units beyond the first 8 bytes; a fragment header has none.
            let length = 8 + usize::from(h[1]) * unit;
            if self.l4 + length > self.end {
                return Err(Unreadable::Length);
            }
            if self.l4 + length > head.len() {
                return Err(Unreadable::Truncated);
            }
            if self.protocol == FRAGMENT {
                // Offset in the upper 13 bits, two reserved bits, more-fragments. A header with
                // neither stands before a whole datagram (RFC 6946).
                let word = u16_at(h, 2);
                self.fragment = word >> 3 << 1 | word & 1;
                self.fragment_header = true;
            }
            self.protocol = h[0];
            self.l4 += length;
            passed += 1;
        }
        Ok(())
    }

    /// The `N` bytes of a header at `at`, which the datagram and the first segment must have.
    fn header_at<'a, const N: usize>(
        &self,
        head: &'a [u8],
        at: usize,
    ) -> Result<&'a [u8; N], Unreadable> {
        if at + N > self.end {
            Err(Unreadable::Length)
        } else {
            header_at(head, at)
        }
    }

    fn packet(&self, head: &[u8], link: &Link) -> Result<Packet, Unreadable> {
        let is_v6 = self.ends.is_v6();
        if self.fragment != 0 {
            let protocol = u16::from(self.protocol);
            return Ok(self.of(link, Kind::Fragment, FlowClass::Fragment, 0, protocol));
        }
        match self.protocol {
            TCP => self.tcp(head, link),
            UDP => self.udp(head, link),
            ICMP if !is_v6 => self.icmp(head, link),
            ICMPV6 if is_v6 => self.icmp(head, link),
            IGMP if self.reports_membership(head) => {
                Ok(self.of(link, Kind::Igmp, FlowClass::OtherIp, 0, u16::from(IGMP)))
            }
            other => Ok(self.of(link, Kind::OtherIp, FlowClass::OtherIp, 0, u16::from(other))),
        }
    }

    fn tcp(&self, head: &[u8], link: &Link) -> Result<Packet, Unreadable> {
        let h: &[u8; TCP_HEADER] = self.header_at(head, self.l4)?;
        let header = usize::from(h[12] >> 4) * 4;
        let payload = self.l4 + header;
        if header < TCP_HEADER || payload > self.end {
            return Err(Unreadable::Length);
        }
        if payload > head.len() {
            return Err(Unreadable::Truncated);
        }
        Ok(Packet {
            payload: payload as u16,
            payload_len: (self.end - payload) as u32,
            tcp: tcp_fields(h),
            ..self.of(link, Kind::Tcp, FlowClass::Tcp, u16_at(h, 0), u16_at(h, 2))
        })
    }

    fn udp(&self, head: &[u8], link: &Link) -> Result<Packet, Unreadable> {
        let h: &[u8; UDP_HEADER] = self.header_at(head, self.l4)?;
        let length = usize::from(u16_at(h, 4));
        if length < UDP_HEADER || self.l4 + length > self.end {
            return Err(Unreadable::Length);
        }
        Ok(Packet {
            payload: (self.l4 + UDP_HEADER) as u16,
            payload_len: (length - UDP_HEADER) as u32,
            ..self.of(link, Kind::Udp, FlowClass::Udp, u16_at(h, 0), u16_at(h, 2))
        })
    }

    fn icmp(&self, head: &[u8], link: &Link) -> Result<Packet, Unreadable> {
        let h: &[u8; ICMP_HEADER] = self.header_at(head, self.l4)?;
        let is_v6 = self.ends.is_v6();
        let identifier = if is_echo(h[0], is_v6) {
            u16_at(self.header_at::<ICMP_ECHO_HEADER>(head, self.l4)?, 4)
        } else {
            0
        };
        let kind = match h[0] {
            133..=137 if is_v6 && !self.fragment_header => Kind::NeighbourDiscovery,
            // MLDv1 report and done (RFC 2710), MLDv2 report (RFC 3810).
            131 | 132 | 143 if is_v6 && !self.fragment_header => Kind::Mld,
            _ => Kind::Icmp,
        };
        Ok(self.of(link, kind, FlowClass::Icmp, identifier, u16::from(h[0])))
    }

    /// Whether an IGMP message says what groups its sender is a member of: reports of IGMPv1 (RFC 1112), IGMPv2 (RFC
    /// 2236) and IGMPv3 (RFC 3376), and a leave.
    fn reports_membership(&self, head: &[u8]) -> bool {
        let message: Result<&[u8; IGMP_HEADER], _> = self.header_at(head, self.l4);
        !self.ends.is_v6() && message.is_ok_and(|m| matches!(m[0], 0x12 | 0x16 | 0x17 | 0x22))
    }

    /// A packet whose payload is all that follows the IP headers.
    fn of(
        &self,
        link: &Link,
        kind: Kind,
        class: FlowClass,
        source: u16,
        destination: u16,
    ) -> Packet {
        Packet {
            kind,
            key: FlowKey::new(self.ends, class, source, destination, link.vlans),
            l3: self.l3 as u16,
            l4: self.l4 as u16,
            payload: self.l4 as u16,
            payload_len: (self.end - self.l4) as u32,
            tcp: Tcp::default(),
            fragment: self.fragment,
            form: Form::Other,
        }
    }
}

/// The key of a flow without VLAN by its transport header.
#[inline(always)]
fn transport_key(class: FlowClass, ends: Endpoints, h: &[u8]) -> FlowKey {
    FlowKey::new(ends, class, u16_at(h, 0), u16_at(h, 2), Vlans::default())
}

/// Fields of a header of at least 20 bytes.
#[inline]
pub(super) fn tcp_fields(h: &[u8]) -> Tcp {
    Tcp {
        seq: u32_at(h, 4),
        ack: u32_at(h, 8),
        flags: TcpFlags(h[13]),
        window: u16_at(h, 14),
    }
}

#[inline]
fn header_at<const N: usize>(head: &[u8], at: usize) -> Result<&[u8; N], Unreadable> {
    head.get(at..)
        .and_then(<[u8]>::first_chunk)
        .ok_or(Unreadable::Truncated)
}

#[inline]
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
