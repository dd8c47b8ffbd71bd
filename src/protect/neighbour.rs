//! Asks in the VM's place where its neighbours are, when it is served again.
//!
//! A VM whose NIC had no link has forgotten its neighbours (Linux `neigh_carrier_down`), and what it asked by ARP
//! or neighbour discovery while its node or its primary was gone, nobody answered. Its output waits until it asks again, a second later
//! (RFC 4861, section 10, `RETRANS_TIMER`; Linux `retrans_time_ms`). The answer to a question from here goes to the VM: one that waits for
//! it goes on, one that knows it already or does not care is not disturbed (RFC 4861, 7.2.5; RFC 826).
//!
//! In: frames from and to the VM, of which are kept whom it asked for and whom it has connections with. Out: ARP requests and
//! neighbour solicitations. A peer is asked at the MAC address that its frames have, as a host does to confirm a
//! neighbour (RFC 1122, 2.3.2.1; RFC 4861, 7.3.3): nobody else hears it, and a router does not answer for those behind it.
//! But a solicitation always goes to the solicited-node address, if need be in a frame to one MAC address (RFC 6085): the answer to
//! one that is sent to the peer's own may leave out the MAC address (RFC 4861, 7.2.4; Linux does), and a VM that has forgotten
//! it would drop that (7.2.5).

use std::net::IpAddr;

use super::address::{Address, Announcement};
use crate::packet::build::discovery;
use crate::packet::{Kind, Packet};
use crate::proto::ether;

/// Neighbours that are kept; a further one takes the place of the first.
const NEIGHBOURS: usize = 16;
/// Where ARP over Ethernet and IPv4 has its target (RFC 826).
const ARP_TARGET: usize = 24;
/// ARP's request (RFC 826).
const REQUEST: u8 = 1;
/// A neighbour solicitation, where it has its target, and its option with the MAC address of who asks
/// (RFC 4861, 4.3 and 4.6.1).
const SOLICITATION: u8 = 135;
const ND_TARGET: usize = 8;
const SOURCE_LINK_LAYER: u8 = 1;

#[derive(Clone, Copy, Debug)]
struct Neighbour {
    /// Who asks.
    vm: Address,
    ip: IpAddr,
    /// Whom to ask; everybody if that is not known.
    mac: Option<[u8; 6]>,
    /// Rounds in which it was asked.
    rounds: usize,
}

/// Whom a VM speaks to.
#[derive(Debug)]
pub(super) struct Neighbours {
    kept: [Option<Neighbour>; NEIGHBOURS],
    next: usize,
}

impl Neighbours {
    /// Knows nobody.
    pub(crate) fn new() -> Self {
        Self {
            kept: [None; NEIGHBOURS],
            next: 0,
        }
    }

    /// Takes in whom a VM asks for in this frame, which it sent as `vm`.
    pub(crate) fn asks(&mut self, head: &[u8], packet: &Packet, vm: Address) {
        if let Some(ip) = target(head, packet) {
            self.keep(vm, ip, None);
        }
    }

    /// Takes in that a VM and this peer, whose frames have this MAC address, speak to each other.
    pub(crate) fn speaks(&mut self, vm: Address, ip: IpAddr, mac: [u8; 6]) {
        self.keep(vm, ip, Some(mac));
    }

    fn keep(&mut self, vm: Address, ip: IpAddr, mac: Option<[u8; 6]>) {
        if vm
            .ip
            .is_none_or(|own| own.is_ipv4() != ip.is_ipv4() || own == ip)
        {
            return;
        }
        let known = |kept: &Neighbour| kept.vm == vm && kept.ip == ip && kept.mac == mac;
        if !self.kept.iter().flatten().any(known) {
            let rounds = 0;
            self.kept[self.next] = Some(Neighbour {
                vm,
                ip,
                mac,
                rounds,
            });
            self.next = (self.next + 1) % NEIGHBOURS;
        }
    }

    /// All are to be asked again from the first round on.
    pub(crate) fn begin(&mut self) {
        for kept in self.kept.iter_mut().flatten() {
            kept.rounds = 0;
        }
    }

    /// The next question, if one was not asked in each of `rounds` rounds.
    pub(crate) fn next(&mut self, rounds: usize) -> Option<Announcement> {
        let due = |kept: &&mut Neighbour| kept.rounds < rounds;
        let neighbour = self.kept.iter_mut().flatten().find(due)?;
        neighbour.rounds = rounds;
        question(neighbour)
    }
}

/// Whose MAC address the VM asks for.
fn target(head: &[u8], packet: &Packet) -> Option<IpAddr> {
    let at = |offset: u16, more: usize| head.get(usize::from(offset) + more..);
    match packet.kind {
        Kind::Arp => {
            let request = at(packet.l3, 0)?.starts_with(&[0, 1, 8, 0, 6, 4, 0, 1]);
            let ip: [u8; 4] = *at(packet.l3, ARP_TARGET)?.first_chunk()?;
            request.then(|| ip.into())
        }
        Kind::NeighbourDiscovery => {
            let message = at(packet.l4, 0)?;
            let ip: [u8; 16] = *message.get(ND_TARGET..)?.first_chunk()?;
            (message[0] == SOLICITATION).then(|| ip.into())
        }
        _ => None,
    }
}

fn question(neighbour: &Neighbour) -> Option<Announcement> {
    let Neighbour { vm, ip, mac, .. } = neighbour;
    match (vm.ip?, *ip) {
        (IpAddr::V4(own), IpAddr::V4(ip)) => {
            let mut frame = vm.frame(&mac.unwrap_or([0xff; 6]), ether::ARP);
            frame.arp(REQUEST, (vm.mac, own.octets()), ([0; 6], ip.octets()));
            frame.pad();
            Some(frame)
        }
        (IpAddr::V6(own), IpAddr::V6(ip)) => {
            // The solicited-node address (RFC 4291, 2.7.1), and Ethernet's for it (RFC 2464, 7).
            let [.., a, b, c] = ip.octets();
            let low = [0xff00 | u16::from(a), u16::from_be_bytes([b, c])];
            let to = [0xff02, 0, 0, 0, 0, 1, low[0], low[1]].into();
            let to_mac = mac.unwrap_or([0x33, 0x33, 0xff, a, b, c]);
            let message = discovery(SOLICITATION, 0, ip, SOURCE_LINK_LAYER, &vm.mac);
            Some(vm.discovery(&to_mac, [own, to], message))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::checksum::verify;
    use etherparse::{ArpOperation, NetSlice, SlicedPacket, TransportSlice};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const PEER: [u8; 6] = [4, 0, 0, 0, 0, 9];

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn vm(text: &str) -> Address {
        Address {
            mac: MAC,
            ip: Some(ip(text)),
            ..Address::default()
        }
    }

    fn asks(neighbours: &mut Neighbours, frame: &[u8], vm: Address) {
        neighbours.asks(frame, &Packet::parse(frame, frame.len()), vm);
    }

    fn asked(neighbours: &mut Neighbours, rounds: usize) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| neighbours.next(rounds))
            .map(|frame| frame.bytes().to_vec())
            .collect()
    }

    #[test]
    fn a_peer_is_asked_once_a_round_and_nobody_else() {
        let mut neighbours = Neighbours::new();
        for _ in 0..2 {
            neighbours.speaks(vm("10.0.0.2"), ip("10.0.0.9"), PEER);
        }
        // Not of the same kind, or itself.
        neighbours.speaks(vm("10.0.0.2"), ip("fd00::9"), PEER);
        neighbours.speaks(vm("10.0.0.2"), ip("10.0.0.2"), PEER);
        let first = asked(&mut neighbours, 1);
        assert_eq!(first.len(), 1);
        let Some(NetSlice::Arp(arp)) = SlicedPacket::from_ethernet(&first[0]).unwrap().net else {
            panic!("no ARP");
        };
        assert_eq!(arp.operation(), ArpOperation::REQUEST);
        assert_eq!(arp.sender_hw_addr(), MAC);
        assert_eq!(arp.sender_protocol_addr(), [10, 0, 0, 2]);
        assert_eq!(arp.target_protocol_addr(), [10, 0, 0, 9]);
        assert_eq!((&first[0][..6], first[0].len()), (&PEER[..], 60));
        assert!(asked(&mut neighbours, 1).is_empty());
        assert_eq!(asked(&mut neighbours, 3), first);
        neighbours.begin();
        assert_eq!(asked(&mut neighbours, 1), first);
    }

    #[test]
    fn what_the_vm_asked_everybody_is_asked_again() {
        for (own, other) in [("10.0.0.2", "10.0.0.9"), ("fd00::2", "fd00::12:3456")] {
            let mut neighbours = Neighbours::new();
            neighbours.keep(vm(own), ip(other), None);
            let question = asked(&mut neighbours, 1).remove(0);
            let mut again = Neighbours::new();
            asks(&mut again, &question, vm(own));
            assert_eq!(asked(&mut again, 1), [&question[..]]);
            let mut none = Neighbours::new();
            // An answer asks for nobody, and a probe or an announcement asks for itself.
            let mut answer = question.clone();
            answer[if own.contains('.') { 21 } else { 54 }] ^= 3;
            asks(&mut none, &answer, vm(own));
            asks(&mut none, &question, vm(other));
            for end in 0..question.len() - 30 {
                asks(&mut none, &question[..end], vm(own));
            }
            assert!(asked(&mut none, 1).is_empty());
        }
    }

    #[test]
    fn a_solicitation_is_whole() {
        for peer in [None, Some(PEER)] {
            let mut neighbours = Neighbours::new();
            neighbours.keep(vm("fd00::2"), ip("fd00::12:3456"), peer);
            let question = asked(&mut neighbours, 1).remove(0);
            let packet = Packet::parse(&question, question.len());
            assert_eq!(packet.kind, Kind::NeighbourDiscovery);
            assert_ne!(verify(&packet, [&question[..]]), Some(false));
            assert_eq!(packet.key.src_ip(), Some(ip("fd00::2")));
            assert_eq!(packet.key.dst_ip(), Some(ip("ff02::1:ff12:3456")));
            let everybody = [0x33, 0x33, 0xff, 0x12, 0x34, 0x56];
            assert_eq!(question[..6], peer.unwrap_or(everybody));
            let sliced = SlicedPacket::from_ethernet(&question).unwrap();
            let Some(TransportSlice::Icmpv6(message)) = sliced.transport else {
                panic!("no ICMPv6");
            };
            assert_eq!(message.type_u8(), SOLICITATION);
            assert_eq!(target(&question, &packet), Some(ip("fd00::12:3456")));
            // Its source's link-layer address.
            assert_eq!(question[question.len() - 8..], [1, 1, 2, 0, 0, 0, 0, 1]);
        }
    }

    #[test]
    fn any_number_of_peers_is_survived() {
        let mut neighbours = Neighbours::new();
        for last in 3..=255 {
            neighbours.speaks(vm("10.0.0.2"), [10, 0, 0, last].into(), PEER);
        }
        let all = asked(&mut neighbours, 1);
        assert_eq!(all.len(), NEIGHBOURS);
        assert!(all.iter().any(|frame| frame[41] == 255), "the last one");
    }
}
