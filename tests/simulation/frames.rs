//! Frames of the simulated network: built with etherparse, read with the crate's own parser.

use std::net::{Ipv4Addr, Ipv6Addr};

use dpdk_colo::packet::{Kind, Packet, TcpFlags, TcpOptions, checksum};
use etherparse::{PacketBuilder, TcpHeader};

/// A conversation of the VM: its own port and the client's number and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    pub port: u16,
    pub client: u8,
    pub client_port: u16,
}

impl Peer {
    /// Every other client speaks IPv6.
    fn v6(self) -> bool {
        !self.client.is_multiple_of(2)
    }
}

/// Which way a frame travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the VM to a client.
    Output,
    /// From a client to the VM.
    Input,
}

/// A TCP segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub seq: u32,
    pub ack: Option<u32>,
    pub syn: bool,
    pub fin: bool,
    /// TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
    pub payload: Vec<u8>,
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Tcp(Segment),
    Udp(Vec<u8>),
    Other,
}

fn build(peer: Peer, way: Way, add: impl Fn(Layers) -> Vec<u8>) -> Vec<u8> {
    let (vm, client) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 1, peer.client]);
    let (src, dst) = match way {
        Way::Output => (vm, client),
        Way::Input => (client, vm),
    };
    let ethernet = PacketBuilder::ethernet2(src, dst);
    if peer.v6() {
        let address = |last: u8| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into()).octets();
        let (vm, client) = (address(1), address(peer.client + 2));
        let (src, dst) = match way {
            Way::Output => (vm, client),
            Way::Input => (client, vm),
        };
        add(ethernet.ipv6(src, dst, 64))
    } else {
        let address = |last: u8| Ipv4Addr::new(10, 0, 0, last).octets();
        let (vm, client) = (address(1), address(peer.client + 2));
        let (src, dst) = match way {
            Way::Output => (vm, client),
            Way::Input => (client, vm),
        };
        add(ethernet.ipv4(src, dst, 64))
    }
}

type Layers = etherparse::PacketBuilderStep<etherparse::IpHeaders>;

fn ports(peer: Peer, way: Way) -> (u16, u16) {
    match way {
        Way::Output => (peer.port, peer.client_port),
        Way::Input => (peer.client_port, peer.port),
    }
}

pub fn tcp(peer: Peer, way: Way, segment: &Segment) -> Vec<u8> {
    let (src, dst) = ports(peer, way);
    let mut header = TcpHeader::new(src, dst, segment.seq, 60_000);
    header.acknowledgment_number = segment.ack.unwrap_or(0);
    header.ack = segment.ack.is_some();
    (header.syn, header.fin) = (segment.syn, segment.fin);
    header.psh = !segment.payload.is_empty();
    let mut options = Vec::new();
    if segment.syn {
        options.extend([2, 4, 5, 0xb4, 4, 2, 1, 1]);
    }
    if let Some((value, echo)) = segment.timestamps {
        options.extend([1, 1, 8, 10]);
        options.extend(value.to_be_bytes());
        options.extend(echo.to_be_bytes());
    }
    header.set_options_raw(&options).expect("few options");
    build(peer, way, |layers| {
        let mut frame = Vec::new();
        layers
            .tcp_header(header.clone())
            .write(&mut frame, &segment.payload)
            .expect("a Vec takes everything");
        frame
    })
}

pub fn udp(peer: Peer, way: Way, payload: &[u8]) -> Vec<u8> {
    let (src, dst) = ports(peer, way);
    build(peer, way, |layers| {
        let mut frame = Vec::new();
        layers
            .udp(src, dst)
            .write(&mut frame, payload)
            .expect("a Vec takes everything");
        frame
    })
}

/// An ARP request of the VM.
pub fn arp() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.resize(60, 0);
    frame
}

/// What a frame says and to whom; its checksum must be right.
pub fn read(frame: &[u8], way: Way) -> (Option<Peer>, Content) {
    let packet = Packet::parse(frame, frame.len());
    let vm_first = match way {
        Way::Output => packet.key,
        Way::Input => packet.key.reversed(),
    };
    let peer = || {
        let client = match vm_first.dst_ip()? {
            std::net::IpAddr::V4(ip) => ip.octets()[3] - 2,
            std::net::IpAddr::V6(ip) => ip.octets()[15] - 2,
        };
        Some(Peer {
            port: vm_first.src_port()?,
            client,
            client_port: vm_first.dst_port()?,
        })
    };
    let payload = || {
        let at = usize::from(packet.payload);
        frame[at..at + packet.payload_len as usize].to_vec()
    };
    match packet.kind {
        Kind::Tcp => {
            let right = checksum::verify(&packet, [frame]);
            assert_eq!(right, Some(true), "a wrong TCP checksum");
            let flags = packet.tcp.flags;
            let options = TcpOptions::parse(packet.tcp_options(frame));
            let segment = Segment {
                seq: packet.tcp.seq,
                ack: flags.contains(TcpFlags::ACK).then_some(packet.tcp.ack),
                syn: flags.contains(TcpFlags::SYN),
                fin: flags.contains(TcpFlags::FIN),
                timestamps: options.timestamps,
                payload: payload(),
            };
            (peer(), Content::Tcp(segment))
        }
        Kind::Udp => (peer(), Content::Udp(payload())),
        _ => (None, Content::Other),
    }
}

/// To whom an ICMP unreachable says that the VM can be reached, and about which sequence number.
pub fn reminds(frame: &[u8]) -> Option<(Peer, u32)> {
    let ether_type = frame.get(12..14)?;
    let (quote, length) = match (ether_type, frame.get(23), frame.get(20)) {
        ([0x08, 0x00], Some(1), _) => (14 + 20 + 8, 20),
        ([0x86, 0xdd], _, Some(58)) if frame.get(54) == Some(&1) => (14 + 40 + 8, 40),
        _ => return None,
    };
    // The last byte of the quoted source address: bytes 12 to 16 of IPv4, 8 to 24 of IPv6.
    let client = frame.get(quote + if length == 20 { 15 } else { 23 })?;
    let port = |at: usize| Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
    let l4 = quote + length;
    let peer = Peer {
        client: client.checked_sub(2)?,
        client_port: port(l4)?,
        port: port(l4 + 2)?,
    };
    Some((
        peer,
        u32::from_be_bytes(*frame.get(l4 + 4..)?.first_chunk()?),
    ))
}
