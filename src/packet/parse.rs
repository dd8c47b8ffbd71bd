//! Stub.

use crate::flow::FlowKey;

/// What kind of traffic a frame is, as the comparison distinguishes it (the design's comparison table).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// TCP over IPv4 or IPv6, not a fragment; [`Packet::tcp`] is valid.
    Tcp,
    /// UDP, not a fragment. The payload begins behind the UDP header.
    Udp,
    /// ICMP or ICMPv6 (but neighbour discovery). The payload is the whole ICMP message.
    Icmp,
    /// Any other protocol over IP. The payload is all that follows the IP header (and extension headers).
    OtherIp,
    /// A fragment of an IP datagram, the first one included. The payload is the fragment's data.
    Fragment,
    /// ARP.
    Arp,
    /// IPv6 neighbour discovery (ICMPv6 types 133 to 137).
    NeighbourDiscovery,
    /// LLDP.
    Lldp,
    /// Any other EtherType or an 802.3 length field. The payload is all that follows the Ethernet header and tags.
    Opaque,
    /// Headers that are truncated or contradict each other, or lie beyond the first segment.
    Unreadable(Unreadable),
}

/// Why a frame cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unreadable {
    /// The frame or its first segment ends inside a header.
    Truncated,
    /// A length or offset field contradicts another or the frame.
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
    pub flags: super::TcpFlags,
    /// Window field, unscaled.
    pub window: u16,
}

/// What a frame is and where its parts lie; offsets in bytes from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The kind of traffic.
    pub kind: Kind,
    /// The flow it belongs to, in the direction in which the frame travels.
    pub key: FlowKey,
    /// Offset of the IP header (or of the payload for non-IP frames).
    pub l3: u16,
    /// Offset of the transport header (first byte after IP header and extension headers).
    pub l4: u16,
    /// Offset of the payload. May lie at or beyond the first segment's end in a chain.
    pub payload: u16,
    /// Bytes of payload by the IP header's length, so without padding.
    pub payload_len: u32,
    /// TCP fields when `kind` is [`Kind::Tcp`], else zero.
    pub tcp: Tcp,
    /// For [`Kind::Fragment`]: offset in 8-byte units << 1 | more-fragments; else 0.
    pub fragment: u16,
}
