//! Builds the frames that a node sends in a VM's name, header by header, without an allocation.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::checksum::Sum;
use crate::proto::ip::ICMPV6;

/// Bytes of an Ethernet frame without FCS that has no padding to come (IEEE 802.3).
const SHORTEST: usize = 60;
/// Bytes of an IPv4 header without options, and of an IPv6 header.
pub const IPV4_HEADER: usize = 20;
/// See [`IPV4_HEADER`].
pub const IPV6_HEADER: usize = 40;
/// Bytes of a neighbour solicitation or advertisement with one option.
pub const DISCOVERY: usize = 32;

/// The target or the sender of an ARP packet: a MAC address and an IPv4 address.
pub type ArpEnd = ([u8; 6], [u8; 4]);

/// A frame of at most `N` bytes that is being built.
#[derive(Clone, Copy, Debug)]
pub struct Buffer<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Buffer<N> {
    fn default() -> Self {
        Self {
            bytes: [0; N],
            len: 0,
        }
    }
}

/// What an IPv4 header says (RFC 791). Its datagram is never to be fragmented, so that the identification
/// may be 0 (RFC 6864).
pub struct Ipv4<'a> {
    /// Source.
    pub from: Ipv4Addr,
    /// Destination.
    pub to: Ipv4Addr,
    /// What follows.
    pub protocol: u8,
    /// Time to live.
    pub hops: u8,
    /// Precedence and type of service.
    pub service: u8,
    /// Options, in whole words.
    pub options: &'a [u8],
}

/// What an IPv6 header says (RFC 8200, 3).
pub struct Ipv6 {
    /// Source.
    pub from: Ipv6Addr,
    /// Destination.
    pub to: Ipv6Addr,
    /// What follows.
    pub next: u8,
    /// Hop limit.
    pub hops: u8,
}

impl<const N: usize> Buffer<N> {
    /// The frame so far, Ethernet header included, without FCS.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Appends bytes, for which there must be room.
    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends an Ethernet header with these tags, from their EtherType on.
    pub fn ethernet(&mut self, to: &[u8; 6], from: &[u8; 6], tags: &[u8], ether_type: u16) {
        self.put(to);
        self.put(from);
        self.put(tags);
        self.put(&ether_type.to_be_bytes());
    }

    /// Appends an ARP packet (RFC 826), or a reverse one (RFC 903).
    pub fn arp(&mut self, operation: u8, sender: ArpEnd, target: ArpEnd) {
        // Ethernet, IPv4, and the lengths of their addresses.
        self.put(&[0, 1, 8, 0, 6, 4, 0, operation]);
        for (mac, ip) in [sender, target] {
            self.put(&mac);
            self.put(&ip);
        }
    }

    /// Appends an IPv4 header before this many bytes.
    pub fn ipv4(&mut self, header: &Ipv4<'_>, payload: usize) {
        debug_assert!(header.options.len().is_multiple_of(4));
        let len = IPV4_HEADER + header.options.len();
        let mut fixed = [0; IPV4_HEADER];
        (fixed[0], fixed[1]) = (0x40 | (len / 4) as u8, header.service);
        fixed[2..4].copy_from_slice(&((len + payload) as u16).to_be_bytes());
        fixed[6] = 0x40;
        (fixed[8], fixed[9]) = (header.hops, header.protocol);
        fixed[12..16].copy_from_slice(&header.from.octets());
        fixed[16..].copy_from_slice(&header.to.octets());
        let mut sum = Sum::default();
        sum.add(&fixed);
        sum.add(header.options);
        fixed[10..12].copy_from_slice(&sum.checksum().to_be_bytes());
        self.put(&fixed);
        self.put(header.options);
    }

    /// Appends an IPv6 header before this many bytes.
    pub fn ipv6(&mut self, header: &Ipv6, payload: usize) {
        let [high, low] = (payload as u16).to_be_bytes();
        self.put(&[0x60, 0, 0, 0, high, low, header.next, header.hops]);
        self.put(&header.from.octets());
        self.put(&header.to.octets());
    }

    /// Appends zeros up to the length of the shortest Ethernet frame.
    pub fn pad(&mut self) {
        self.len = self.len.max(SHORTEST);
    }
}

/// A neighbour solicitation or advertisement (RFC 4861, 4.3 and 4.4) with its only option, a link-layer
/// address; its checksum is still to come.
pub fn discovery(
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    option: u8,
    mac: &[u8; 6],
) -> [u8; DISCOVERY] {
    let mut message = [0; DISCOVERY];
    (message[0], message[4]) = (kind, flags);
    message[8..24].copy_from_slice(&target.octets());
    // The option's length in units of 8 bytes.
    (message[24], message[25]) = (option, 1);
    message[26..].copy_from_slice(mac);
    message
}

/// Writes the checksum of an ICMP or IGMP message, which has no pseudo-header (RFC 792, RFC 3376).
pub fn finish(message: &mut [u8]) {
    write_checksum(message, Sum::default());
}

/// Writes the checksum of an ICMPv6 message (RFC 4443, 2.3).
pub fn finish_v6(message: &mut [u8], from: Ipv6Addr, to: Ipv6Addr) {
    let mut sum = Sum::default();
    sum.add(&from.octets());
    sum.add(&to.octets());
    sum.add_u32(message.len() as u32);
    sum.add_u32(u32::from(ICMPV6));
    write_checksum(message, sum);
}

fn write_checksum(message: &mut [u8], mut sum: Sum) {
    message[2..4].fill(0);
    sum.add(message);
    message[2..4].copy_from_slice(&sum.checksum().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, PacketBuilder, SlicedPacket};

    use super::*;
    use crate::packet::{Packet, checksum};
    use crate::proto::{ether, ip};

    #[test]
    fn headers_are_what_another_builder_writes() {
        let (from, to) = (Ipv4Addr::new(10, 0, 0, 7), Ipv4Addr::new(10, 0, 0, 1));
        let (from6, to6) = (Ipv6Addr::from([0xfd; 16]), Ipv6Addr::from([0xfe; 16]));
        let payload = [0, 80, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4];
        for v6 in [false, true] {
            let mut own = Buffer::<80>::default();
            let ether_type = if v6 { ether::IPV6 } else { ether::IPV4 };
            own.ethernet(&[4; 6], &[2; 6], &[], ether_type);
            if v6 {
                let header = Ipv6 {
                    from: from6,
                    to: to6,
                    next: ip::UDP,
                    hops: 9,
                };
                own.ipv6(&header, payload.len());
            } else {
                let header = Ipv4 {
                    from,
                    to,
                    protocol: ip::UDP,
                    hops: 9,
                    service: 0,
                    options: &[],
                };
                own.ipv4(&header, payload.len());
            }
            let mut other = Vec::new();
            let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
            let network = match v6 {
                true => link.ipv6(from6.octets(), to6.octets(), 9),
                false => link.ipv4(from.octets(), to.octets(), 9),
            };
            let datagram = network.udp(80, 53);
            datagram.write(&mut other, &payload[8..]).expect("a frame");
            assert_eq!(own.bytes(), &other[..own.bytes().len()], "IPv6: {v6}");
        }
    }

    #[test]
    fn options_belong_to_the_header_and_its_checksum() {
        let mut frame = Buffer::<60>::default();
        frame.ethernet(&[4; 6], &[2; 6], &[], ether::IPV4);
        let header = Ipv4 {
            from: Ipv4Addr::new(10, 0, 0, 7),
            to: Ipv4Addr::new(224, 0, 0, 22),
            protocol: ip::IGMP,
            hops: 1,
            service: 0xc0,
            options: &[0x94, 4, 0, 0],
        };
        frame.ipv4(&header, 8);
        frame.put(&[0x16, 0, 0, 0, 224, 0, 0, 22]);
        frame.pad();
        let sliced = SlicedPacket::from_ethernet(frame.bytes()).expect("whole");
        let Some(NetSlice::Ipv4(ip)) = sliced.net else {
            panic!("no IPv4: {sliced:?}");
        };
        let read = ip.header().to_header();
        assert_eq!((read.header_len(), ip.payload().payload.len()), (24, 8));
        assert_eq!(read.header_checksum, read.calc_header_checksum());
        assert_eq!(frame.bytes().len(), SHORTEST);
    }

    #[test]
    fn messages_have_the_checksum_that_their_readers_compute() {
        let (from, to) = (Ipv6Addr::from([0xfd; 16]), Ipv6Addr::from([0xfe; 16]));
        let mut message = discovery(135, 0, to, 1, &[2; 6]);
        finish_v6(&mut message, from, to);
        let mut frame = Buffer::<86>::default();
        frame.ethernet(&[4; 6], &[2; 6], &[], ether::IPV6);
        let header = Ipv6 {
            from,
            to,
            next: ip::ICMPV6,
            hops: 255,
        };
        frame.ipv6(&header, message.len());
        frame.put(&message);
        let packet = Packet::parse(frame.bytes(), frame.bytes().len());
        assert_eq!(checksum::verify(&packet, [frame.bytes()]), Some(true));

        let mut report = [0x16, 0, 9, 9, 239, 1, 2, 3];
        finish(&mut report);
        let mut sum = Sum::default();
        sum.add(&report);
        assert_eq!(sum.folded(), 0xffff);
    }
}
