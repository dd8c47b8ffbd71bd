//! Announces to the network where the VM is now, after the secondary has taken over.
//!
//! In: what the VM sent while it was protected, of which its addresses are kept. Out: the frames to
//! send from the VM's new place, in five rounds as QEMU's own announcement has them: RARP for each
//! MAC address, which is enough for switches; a gratuitous ARP request (RFC 5227, 3) for each IPv4
//! and an unsolicited neighbour advertisement (RFC 4861, 7.2.6) for each IPv6 address.
//!
//! Each round asks for the VM's neighbours, too (`neighbour`), and reports its multicast groups again (`groups`).
//!
//! An IP address is believed from ARP and neighbour discovery alone, where its owner speaks for
//! itself: a VM that routes sends frames from addresses that are not its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) use super::address::Announcement;
use super::address::{Address, TAGS};
use super::groups::Groups;
use super::neighbour::Neighbours;
use crate::frame::Ticks;
use crate::packet::build::discovery;
use crate::packet::{Kind, Packet, TcpFlags};
use crate::proto::ether;

/// Addresses that are kept; a further one takes the place of the first.
const ADDRESSES: usize = 32;
/// When the rounds begin, in milliseconds after the takeover (QEMU `qemu_announce_timer_step` with
/// its default parameters).
const ROUNDS: [Ticks; 5] = [0, 50, 200, 450, 800];
/// ARP's request, and RARP's (RFC 826, RFC 903).
const REQUEST: u8 = 1;
const REVERSE_REQUEST: u8 = 3;
/// A neighbour advertisement, that it overrides what was known, and its option with the MAC address
/// (RFC 4861, 4.4 and 4.6.1).
const ADVERTISEMENT: u8 = 136;
const OVERRIDE: u8 = 0x20;
const TARGET_LINK_LAYER: u8 = 2;

/// The VM's addresses, and what is left to say of them.
#[derive(Debug)]
pub(crate) struct Announcer {
    addresses: [Option<Address>; ADDRESSES],
    next: usize,
    neighbours: Neighbours,
    groups: Groups,
    /// The last source of a frame: most frames have the same one.
    last: ([u8; 6], [u8; 2]),
    millisecond: Ticks,
    since: Option<Ticks>,
    round: usize,
    cursor: usize,
}

impl Announcer {
    /// Knows no address. `millisecond` is how many ticks that is.
    pub(crate) fn new(millisecond: Ticks) -> Self {
        Self {
            addresses: [None; ADDRESSES],
            next: 0,
            neighbours: Neighbours::new(),
            groups: Groups::new(),
            last: Default::default(),
            millisecond,
            since: None,
            round: 0,
            cursor: 0,
        }
    }

    /// Looks at a frame that the VM sent; `packet` was parsed from its first segment, `head`.
    pub(crate) fn learn(&mut self, head: &[u8], packet: &Packet) {
        let speaks_for_itself = matches!(
            packet.kind,
            Kind::Arp | Kind::NeighbourDiscovery | Kind::Igmp | Kind::Mld
        );
        let Some(mac) = head.get(6..12).and_then(<[u8]>::first_chunk) else {
            return;
        };
        let Some(ether_type) = head.get(12..14).and_then(<[u8]>::first_chunk) else {
            return;
        };
        if !speaks_for_itself && self.last == (*mac, *ether_type) {
            return;
        }
        self.last = (*mac, *ether_type);
        let Some(address) = source(head, packet) else {
            return;
        };
        self.keep(address);
        self.groups.learn(head, packet, address);
        let ip = match packet.kind {
            Kind::Arp => arp_sender(&head[usize::from(packet.l3).min(head.len())..], mac),
            Kind::NeighbourDiscovery => packet.key.src_ip().filter(|ip| !ip.is_unspecified()),
            _ => None,
        };
        if ip.is_some() {
            let address = Address { ip, ..address };
            self.keep(address);
            self.neighbours.asks(head, packet, address);
        }
    }

    /// Takes in a segment that the VM sent: its receiver may be a neighbour.
    pub(crate) fn speaks_to(&mut self, head: &[u8], packet: &Packet) {
        if is_of_a_connection(packet)
            && let Some(vm) = source(head, packet)
            && let (Some(mac), Some(ip)) = (destination(head), packet.key.dst_ip())
        {
            let own = packet.key.src_ip();
            self.neighbours.speaks(Address { ip: own, ..vm }, ip, mac);
        }
    }

    /// Takes in a segment that was sent to the VM: its sender may be a neighbour.
    pub(crate) fn hears(&mut self, head: &[u8], packet: &Packet) {
        if is_of_a_connection(packet)
            && let Some(peer) = source(head, packet)
            && let (Some(mac), Some(ip)) = (destination(head), packet.key.src_ip())
        {
            let own = packet.key.dst_ip();
            let vm = Address {
                mac,
                ip: own,
                ..peer
            };
            self.neighbours.speaks(vm, ip, peer.mac);
        }
    }

    fn keep(&mut self, address: Address) {
        if !self.addresses.contains(&Some(address)) {
            self.addresses[self.next] = Some(address);
            self.next = (self.next + 1) % ADDRESSES;
        }
    }

    /// It has not begun.
    pub(crate) fn is_new(&self) -> bool {
        self.since.is_none() && self.round == 0
    }

    /// All is said.
    pub(crate) fn is_done(&self) -> bool {
        self.since.is_none() && self.round > 0
    }

    /// The VM speaks from here now.
    pub(crate) fn begin(&mut self, now: Ticks) {
        self.since = Some(now);
        (self.round, self.cursor) = (0, 0);
        self.neighbours.begin();
        self.groups.begin();
    }

    /// The next frame that is due.
    pub(crate) fn next(&mut self, now: Ticks) -> Option<Announcement> {
        let since = self.since?;
        while let Some(after) = ROUNDS.get(self.round) {
            if now.saturating_sub(since) < after * self.millisecond {
                return self.next_of_peers();
            }
            while let Some(slot) = self.addresses.get(self.cursor) {
                self.cursor += 1;
                if let Some(address) = slot {
                    return Some(announcement(address));
                }
            }
            (self.round, self.cursor) = (self.round + 1, 0);
        }
        let last = self.next_of_peers();
        if last.is_none() {
            self.since = None;
        }
        last
    }

    /// What this round has for neighbours and for those who forward groups.
    fn next_of_peers(&mut self) -> Option<Announcement> {
        let question = self.neighbours.next(self.round);
        question.or_else(|| self.groups.next(self.round))
    }
}

/// Anybody can send a SYN in anybody's name: what opens a connection says nothing of its ends.
fn is_of_a_connection(packet: &Packet) -> bool {
    packet.kind == Kind::Tcp && !packet.tcp.flags.contains(TcpFlags::SYN)
}

/// The MAC address that a frame goes to, if it is one host's.
fn destination(head: &[u8]) -> Option<[u8; 6]> {
    let mac: [u8; 6] = *head.first_chunk()?;
    (mac[0] & 1 == 0 && mac != [0; 6]).then_some(mac)
}

/// The MAC address that sent a frame, and its tags.
fn source(head: &[u8], packet: &Packet) -> Option<Address> {
    let mac: [u8; 6] = *head.get(6..12)?.first_chunk()?;
    let tags_end = usize::from(packet.l3).saturating_sub(2);
    let tags = head.get(12..tags_end).filter(|t| t.len() <= TAGS)?;
    if mac[0] & 1 != 0 || mac == [0; 6] || matches!(packet.kind, Kind::Unreadable(_)) {
        return None;
    }
    let mut address = Address {
        mac,
        tags_len: tags.len() as u8,
        ..Address::default()
    };
    address.tags[..tags.len()].copy_from_slice(tags);
    Some(address)
}

/// The sender of an ARP packet over Ethernet and IPv4 (RFC 826), if it is the frame's.
fn arp_sender(arp: &[u8], mac: &[u8; 6]) -> Option<IpAddr> {
    let arp: &[u8; 28] = arp.first_chunk()?;
    let for_ipv4 = arp[..6] == [0, 1, 8, 0, 6, 4] && arp[8..14] == *mac;
    let ip = Ipv4Addr::new(arp[14], arp[15], arp[16], arp[17]);
    (for_ipv4 && !ip.is_unspecified()).then_some(IpAddr::V4(ip))
}

fn announcement(address: &Address) -> Announcement {
    let mac = address.mac;
    let (ether_type, operation, ip) = match address.ip {
        // Request reverse, of nobody's protocol address (RFC 903), as QEMU does.
        None => (ether::RARP, REVERSE_REQUEST, [0; 4]),
        Some(IpAddr::V4(ip)) => (ether::ARP, REQUEST, ip.octets()),
        Some(IpAddr::V6(ip)) => {
            let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
            let message = discovery(ADVERTISEMENT, OVERRIDE, ip, TARGET_LINK_LAYER, &mac);
            return address.discovery(&[0x33, 0x33, 0, 0, 0, 1], [ip, all_nodes], message);
        }
    };
    let target = if operation == REQUEST { [0; 6] } else { mac };
    let mut frame = address.frame(&[0xff; 6], ether_type);
    frame.arp(operation, (mac, ip), (target, ip));
    frame.pad();
    frame
}

#[cfg(test)]
mod tests {
    use etherparse::{ArpPacket, EtherType, SlicedPacket, TransportSlice};

    use super::*;
    use crate::packet::checksum::verify;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn learn(announcer: &mut Announcer, frame: &[u8]) {
        announcer.learn(frame, &Packet::parse(frame, frame.len()));
    }

    fn arp(tags: &[u8], ip: [u8; 4]) -> Vec<u8> {
        let mut frame = [&[0xff; 6][..], &MAC, tags, &ether::ARP.to_be_bytes()].concat();
        frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(MAC);
        frame.extend(ip);
        frame.extend([0; 6]);
        frame.extend(ip);
        frame
    }

    fn said(announcer: &mut Announcer, now: Ticks) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| announcer.next(now))
            .map(|frame| frame.bytes().to_vec())
            .collect()
    }

    #[test]
    fn every_address_is_announced_in_five_rounds() {
        let mut announcer = Announcer::new(10);
        learn(&mut announcer, &arp(&[], [10, 0, 0, 7]));
        learn(&mut announcer, &arp(&[0x81, 0, 0, 5], [10, 5, 0, 7]));
        for _ in 0..100 {
            learn(&mut announcer, &arp(&[], [10, 0, 0, 7]));
        }
        assert_eq!(said(&mut announcer, 5), Vec::<Vec<u8>>::new());
        announcer.begin(1_000);
        let first = said(&mut announcer, 1_000);
        // RARP and ARP, without a tag and with it.
        assert_eq!(first.len(), 4);
        let kinds: Vec<_> = first.iter().map(|f| (f[12], f[13], f.len())).collect();
        assert_eq!(
            kinds,
            [(0x80, 0x35, 60), (8, 6, 60), (0x81, 0, 60), (0x81, 0, 60)]
        );
        let sliced = SlicedPacket::from_ethernet(&first[1]).unwrap();
        let Some(etherparse::NetSlice::Arp(slice)) = sliced.net else {
            panic!("no ARP");
        };
        let ArpPacket {
            proto_addr_type, ..
        } = slice.to_packet();
        assert_eq!(proto_addr_type, EtherType::IPV4);
        assert_eq!(slice.sender_protocol_addr(), [10, 0, 0, 7]);
        assert_eq!(slice.target_protocol_addr(), [10, 0, 0, 7]);
        assert_eq!(slice.sender_hw_addr(), MAC);
        for at in [50, 200, 450, 800] {
            assert!(said(&mut announcer, 1_000 + at * 10 - 1).is_empty());
            assert_eq!(said(&mut announcer, 1_000 + at * 10), first);
        }
        assert!(said(&mut announcer, 1_000_000).is_empty());
    }

    #[test]
    fn neighbours_are_asked_for_in_each_round_even_those_that_are_named_late() {
        let mut announcer = Announcer::new(10);
        let mut question = arp(&[], [10, 0, 0, 7]);
        question[41] = 9;
        learn(&mut announcer, &question);
        announcer.begin(0);
        let first = said(&mut announcer, 0);
        assert_eq!(first.len(), 3, "RARP, ARP, question");
        assert_eq!(first[2][..42], question);
        let mut segment = Vec::new();
        etherparse::PacketBuilder::ethernet2(MAC, [4; 6])
            .ipv4([10, 0, 0, 7], [10, 0, 0, 8], 64)
            .tcp(80, 40_000, 1, 100)
            .write(&mut segment, b"x")
            .unwrap();
        announcer.speaks_to(&segment, &Packet::parse(&segment, segment.len()));
        let mut answer = Vec::new();
        etherparse::PacketBuilder::ethernet2([4; 6], MAC)
            .ipv4([10, 0, 0, 8], [10, 0, 0, 7], 64)
            .tcp(40_000, 80, 1, 100)
            .write(&mut answer, b"x")
            .unwrap();
        announcer.hears(&answer, &Packet::parse(&answer, answer.len()));
        let late = said(&mut announcer, 1);
        assert_eq!(late.len(), 1, "both are of one neighbour");
        assert_eq!(late[0][..12], [[4; 6], MAC].concat());
        assert_eq!(
            late[0][28..42],
            [[10, 0, 0, 7].as_slice(), &[0; 6], &[10, 0, 0, 8]].concat()
        );
        let mut syn = Vec::new();
        etherparse::PacketBuilder::ethernet2([4; 6], MAC)
            .ipv4([10, 0, 0, 9], [10, 0, 0, 7], 64)
            .tcp(40_000, 80, 1, 100)
            .syn()
            .write(&mut syn, b"")
            .unwrap();
        announcer.hears(&syn, &Packet::parse(&syn, syn.len()));
        assert!(said(&mut announcer, 1).is_empty(), "anybody may send that");
        assert_eq!(said(&mut announcer, 50 * 10).len(), 4);
        assert_eq!(said(&mut announcer, 800 * 10).len(), 3 * 4 - 2 * 2);
        assert!(said(&mut announcer, 1_000 * 10).is_empty());
    }

    #[test]
    fn a_group_that_the_vm_has_joined_is_reported_in_each_round() {
        let mut report = vec![1, 0, 0x5e, 1, 2, 3, 2, 0, 0, 0, 0, 1, 8, 0];
        report.extend([0x45, 0, 0, 28, 0, 0, 0x40, 0, 1, 2, 0, 0, 10, 0, 0, 7]);
        report.extend([239, 1, 2, 3, 0x16, 0, 0, 0, 239, 1, 2, 3]);
        let mut announcer = Announcer::new(10);
        learn(&mut announcer, &report);
        announcer.begin(0);
        let first = said(&mut announcer, 0);
        assert_eq!(first.len(), 2, "RARP and the report");
        assert_eq!((&first[1][..6], first[1][23]), (&report[..6], 2));
        for at in [50, 200, 450, 800] {
            assert_eq!(said(&mut announcer, at * 10), first);
        }
        assert!(said(&mut announcer, 1_000_000).is_empty());
    }

    #[test]
    fn a_neighbour_advertisement_is_whole() {
        let ip: Ipv6Addr = "fd00::7".parse().unwrap();
        let address = Address {
            mac: MAC,
            ip: Some(ip.into()),
            ..Address::default()
        };
        let frame = announcement(&address);
        let packet = Packet::parse(frame.bytes(), frame.bytes().len());
        assert_eq!(packet.kind, Kind::NeighbourDiscovery);
        let sliced = SlicedPacket::from_ethernet(frame.bytes()).unwrap();
        assert!(matches!(sliced.transport, Some(TransportSlice::Icmpv6(_))));
        assert_ne!(verify(&packet, [frame.bytes()]), Some(false));
        // The node that comes next learns the address from it.
        let mut announcer = Announcer::new(1);
        learn(&mut announcer, frame.bytes());
        announcer.begin(0);
        assert!(said(&mut announcer, 0).contains(&frame.bytes().to_vec()));
    }

    #[test]
    fn a_router_does_not_claim_what_it_forwards() {
        let mut announcer = Announcer::new(1);
        let builder = etherparse::PacketBuilder::ethernet2(MAC, [4; 6])
            .ipv4([192, 0, 2, 1], [10, 0, 0, 2], 64)
            .udp(53, 5353);
        let mut forwarded = Vec::new();
        builder.write(&mut forwarded, b"x").unwrap();
        learn(&mut announcer, &forwarded);
        let mut proxy = arp(&[], [192, 0, 2, 1]);
        proxy[22] = 4;
        learn(&mut announcer, &proxy);
        announcer.begin(0);
        let said = said(&mut announcer, 0);
        assert_eq!(said.len(), 1, "the MAC address alone");
        assert_eq!(said[0][12..14], ether::RARP.to_be_bytes());
    }

    #[test]
    fn any_number_of_addresses_and_any_bytes_are_survived() {
        let mut announcer = Announcer::new(1);
        for n in 0..1_000u16 {
            let [a, b] = n.to_be_bytes();
            learn(&mut announcer, &arp(&[], [10, 0, a, b]));
        }
        let whole = arp(&[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2], [10, 0, 0, 1]);
        for end in 0..whole.len() {
            learn(&mut announcer, &whole[..end]);
        }
        announcer.begin(0);
        assert_eq!(said(&mut announcer, 0).len(), ADDRESSES);
    }
}
