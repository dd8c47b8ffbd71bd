//! Frames of two VMs, made by etherparse: whole connections, datagrams, and the tags around them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use colo_testkit::rng::Rng;
use etherparse::{
    IcmpEchoHeader, Icmpv4Type, Icmpv6Type, IpFragOffset, IpNumber, Ipv4Header, PacketBuilder,
    PacketBuilderStep, TcpHeader, TcpOptionElement,
};

/// Sequence number of the client, whose bytes the VMs acknowledge.
pub const CLIENT: u32 = 7_000;

/// Both ends of a flow of the VM's output, with the VLAN tags that its frames have.
#[derive(Clone, Debug)]
pub struct Flow {
    pub server: (IpAddr, u16),
    pub client: (IpAddr, u16),
    pub tags: Vec<u16>,
}

impl Flow {
    /// Number `n` over IPv4.
    pub fn v4(n: u16) -> Self {
        Self {
            server: (Ipv4Addr::new(192, 0, 2, 1).into(), 80),
            client: (Ipv4Addr::new(198, 51, 100, n as u8).into(), 40_000 + n),
            tags: Vec::new(),
        }
    }

    /// Number `n` over IPv6.
    pub fn v6(n: u16) -> Self {
        Self {
            server: (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), 80),
            client: (
                Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, n).into(),
                40_000 + n,
            ),
            tags: Vec::new(),
        }
    }

    /// The same under VLAN tags, the outer one first.
    pub fn tagged(mut self, tags: &[u16]) -> Self {
        self.tags = tags.to_vec();
        self
    }

    /// The other direction: what the client sends.
    pub fn reversed(self) -> Self {
        Self {
            server: self.client,
            client: self.server,
            tags: self.tags,
        }
    }

    fn ip(&self) -> PacketBuilderStep<etherparse::IpHeaders> {
        match (self.server.0, self.client.0) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                PacketBuilder::ipv4(from.octets(), to.octets(), 64)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                PacketBuilder::ipv6(from.octets(), to.octets(), 64)
            }
            _ => panic!("both ends are of one family"),
        }
    }

    /// Ethernet and the tags in front of an IP packet.
    fn frame(&self, packet: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        for (n, tag) in self.tags.iter().enumerate() {
            let outer = n + 1 < self.tags.len();
            let tpid: u16 = if outer { 0x88a8 } else { 0x8100 };
            frame.extend_from_slice(&tpid.to_be_bytes());
            frame.extend_from_slice(&tag.to_be_bytes());
        }
        let ether_type: u16 = if self.server.0.is_ipv4() {
            0x0800
        } else {
            0x86dd
        };
        frame.extend_from_slice(&ether_type.to_be_bytes());
        frame.extend_from_slice(packet);
        // Ethernet's least length, as a NIC pads.
        frame.resize(frame.len().max(60), 0);
        frame
    }

    /// A segment.
    pub fn segment(&self, header: TcpHeader, payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = self.ip().tcp_header(header);
        builder.write(&mut packet, payload).expect("a packet");
        self.frame(&packet)
    }

    /// A segment in the middle of a stream.
    pub fn data(&self, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
        self.segment(acknowledging(self, seq, ack), payload)
    }

    /// A SYN+ACK, or a SYN where nothing is acknowledged.
    pub fn syn(&self, isn: u32, ack: Option<u32>) -> Vec<u8> {
        let mut header = acknowledging(self, isn, ack.unwrap_or(0));
        (header.syn, header.psh, header.ack) = (true, false, ack.is_some());
        header
            .set_options(&[
                TcpOptionElement::MaximumSegmentSize(1400),
                TcpOptionElement::SelectiveAcknowledgementPermitted,
                TcpOptionElement::Noop,
                TcpOptionElement::WindowScale(7),
            ])
            .expect("short options");
        self.segment(header, &[])
    }

    /// A UDP datagram.
    pub fn udp(&self, payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = self.ip().udp(self.server.1, self.client.1);
        builder.write(&mut packet, payload).expect("a packet");
        self.frame(&packet)
    }

    /// The answer to a ping.
    pub fn echo_reply(&self, seq: u16, payload: &[u8]) -> Vec<u8> {
        let echo = IcmpEchoHeader {
            id: self.client.1,
            seq,
        };
        let mut packet = Vec::new();
        match self.server.0 {
            IpAddr::V4(_) => {
                let builder = self.ip().icmpv4(Icmpv4Type::EchoReply(echo));
                builder.write(&mut packet, payload).expect("a packet");
            }
            IpAddr::V6(_) => {
                let builder = self.ip().icmpv6(Icmpv6Type::EchoReply(echo));
                builder.write(&mut packet, payload).expect("a packet");
            }
        }
        self.frame(&packet)
    }

    /// A UDP datagram over IPv4 in two fragments.
    pub fn fragments(&self, id: u16, payload: &[u8]) -> Vec<Vec<u8>> {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (self.server.0, self.client.0) else {
            panic!("fragments are made over IPv4");
        };
        let mut datagram = [self.server.1, self.client.1, 8 + payload.len() as u16, 0]
            .iter()
            .flat_map(|word| word.to_be_bytes())
            .collect::<Vec<u8>>();
        datagram.extend_from_slice(payload);
        let cut = datagram.len() / 2 / 8 * 8;
        [(0, &datagram[..cut], true), (cut, &datagram[cut..], false)]
            .into_iter()
            .map(|(at, part, more)| {
                let mut header = Ipv4Header::new(
                    part.len() as u16,
                    64,
                    IpNumber::UDP,
                    from.octets(),
                    to.octets(),
                )
                .expect("a short packet");
                header.identification = id;
                header.dont_fragment = false;
                header.more_fragments = more;
                header.fragment_offset =
                    IpFragOffset::try_new((at / 8) as u16).expect("a short packet");
                header.header_checksum = header.calc_header_checksum();
                let mut packet = header.to_bytes().to_vec();
                packet.extend_from_slice(part);
                self.frame(&packet)
            })
            .collect()
    }
}

fn acknowledging(flow: &Flow, seq: u32, ack: u32) -> TcpHeader {
    let mut header = TcpHeader::new(flow.server.1, flow.client.1, seq, 64_240);
    header.ack = true;
    header.psh = true;
    header.acknowledgment_number = ack;
    header
}

/// How one VM numbers a connection's segments.
#[derive(Clone, Copy)]
pub struct Numbering {
    /// Of its SYN+ACK.
    pub isn: u32,
    /// Of everything behind it: its own, or the PVM's where a rewriter stands before it.
    pub stream: u32,
}

impl Numbering {
    /// One's own numbers throughout.
    pub fn own(isn: u32) -> Self {
        Self { isn, stream: isn }
    }
}

/// A whole connection as a VM that serves it sends it: SYN+ACK, the stream in segments of random
/// length, FIN. Acknowledgments of the client's bytes rise on the way, and all VMs end with the
/// same.
pub fn connection(
    flow: &Flow,
    numbering: Numbering,
    stream: &[u8],
    random: &mut Rng,
) -> Vec<Vec<u8>> {
    let mut frames = vec![flow.syn(numbering.isn, Some(CLIENT + 1))];
    let first = numbering.stream.wrapping_add(1);
    let mut at = 0;
    while at < stream.len() {
        let len = random.within(1..1401).min(stream.len() - at);
        let seq = first.wrapping_add(at as u32);
        let ack = CLIENT + 1 + (at / 50) as u32;
        frames.push(flow.data(seq, ack, &stream[at..at + len]));
        at += len;
    }
    let last = CLIENT + 1 + (stream.len() / 50) as u32;
    let mut fin = acknowledging(flow, first.wrapping_add(stream.len() as u32), last);
    (fin.fin, fin.psh) = (true, false);
    frames.push(flow.segment(fin, &[]));
    frames
}

/// Where the TCP payload of an untagged frame over IPv4 without options begins and how long it is.
pub fn payload_of(frame: &[u8]) -> (usize, usize) {
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let header = usize::from(frame[14 + 20 + 12] >> 4) * 4;
    (34 + header, total - 20 - header)
}

/// TCP acknowledgment number of an untagged frame over IPv4.
pub fn ack_of(frame: &[u8]) -> u32 {
    u32::from_be_bytes([frame[42], frame[43], frame[44], frame[45]])
}

/// TCP sequence number of an untagged frame over IPv4.
pub fn seq_of(frame: &[u8]) -> u32 {
    u32::from_be_bytes([frame[38], frame[39], frame[40], frame[41]])
}
