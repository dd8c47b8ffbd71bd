//! The rewriter in single situations; here the segments that go through it.

mod ageing;
mod clocks;
mod connections;
mod translation;

use colo_testkit::rng::Rng;
use etherparse::{IpHeaders, Ipv4Header, Ipv6Header, PacketBuilder, TcpHeader, VlanId};

use super::*;
use crate::flow::Vlans;
use crate::frame::HeapFrame;

const LIMITS: Limits = Limits {
    connections: 8,
    linger: 60,
    half_open: 100,
};

/// A segment between guest and client, of which each test varies what it is about.
#[derive(Clone, Debug)]
struct Segment {
    v6: bool,
    vlans: usize,
    from_client: bool,
    seq: u32,
    ack: u32,
    flags: TcpFlags,
    /// NOPs before the SACK option, which decide how it is aligned.
    shift: usize,
    sack: Vec<u32>,
    timestamps: Option<(u32, u32)>,
    payload: Vec<u8>,
}

impl Segment {
    fn any(random: &mut Rng) -> Self {
        let count = random.below(3);
        let length = random.of(&[0, 0, 1, 2, 33]);
        Self {
            v6: random.one_in(2),
            vlans: random.below(3),
            from_client: random.one_in(2),
            seq: number(random),
            ack: number(random),
            flags: TcpFlags(random.next() as u8),
            shift: random.below(4),
            sack: (0..2 * count).map(|_| number(random)).collect(),
            timestamps: random
                .one_in(2)
                .then(|| (number(random), number(random).max(1))),
            payload: random.bytes(length),
        }
    }

    fn plain(flags: TcpFlags) -> Self {
        Self {
            v6: false,
            vlans: 0,
            from_client: false,
            seq: 0,
            ack: 0,
            flags,
            shift: 0,
            sack: Vec::new(),
            timestamps: None,
            payload: Vec::new(),
        }
    }

    fn key(&self) -> FlowKey {
        let key = if self.v6 {
            FlowKey::tcp(([0xfd; 16], 80).into(), ([0xfe; 16], 4242).into())
        } else {
            FlowKey::tcp(([10, 0, 0, 2], 80).into(), ([10, 0, 0, 1], 4242).into())
        };
        key.with_vlans(
            [
                Vlans::default(),
                Vlans { outer: 5, inner: 0 },
                Vlans { outer: 5, inner: 6 },
            ][self.vlans],
        )
    }

    fn options(&self) -> Vec<u8> {
        let mut options = Vec::new();
        if let Some((value, echo)) = self.timestamps {
            options.extend([8, 10]);
            options.extend(value.to_be_bytes());
            options.extend(echo.to_be_bytes());
        }
        options.extend(vec![1; self.shift]);
        if !self.sack.is_empty() {
            options.extend([5, 2 + 4 * self.sack.len() as u8]);
            options.extend(self.sack.iter().flat_map(|edge| edge.to_be_bytes()));
        }
        options
    }

    fn ip(&self, from_client: bool) -> IpHeaders {
        if self.v6 {
            let [source, destination] = ends(from_client, [0xfd; 16], [0xfe; 16]);
            let header = Ipv6Header {
                source,
                destination,
                hop_limit: 64,
                ..Default::default()
            };
            IpHeaders::Ipv6(header, Default::default())
        } else {
            let [source, destination] = ends(from_client, [10, 0, 0, 2], [10, 0, 0, 1]);
            let header = Ipv4Header {
                source,
                destination,
                time_to_live: 64,
                ..Default::default()
            };
            IpHeaders::Ipv4(header, Default::default())
        }
    }

    fn tcp(&self) -> TcpHeader {
        let (source, destination) = if self.from_client {
            (4242, 80)
        } else {
            (80, 4242)
        };
        let mut tcp = TcpHeader::new(source, destination, self.seq, 5000);
        let has = |flag| self.flags.contains(flag);
        tcp.acknowledgment_number = self.ack;
        tcp.fin = has(TcpFlags::FIN);
        tcp.syn = has(TcpFlags::SYN);
        tcp.rst = has(TcpFlags::RST);
        tcp.psh = has(TcpFlags::PSH);
        tcp.ack = has(TcpFlags::ACK);
        tcp.urg = has(TcpFlags::URG);
        tcp.ece = has(TcpFlags::ECE);
        tcp.cwr = has(TcpFlags::CWR);
        tcp.set_options_raw(&self.options()).unwrap();
        tcp
    }

    /// The segment as a frame, checksums computed in full by `etherparse`.
    fn bytes(&self) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = self.ip(self.from_client);
        let id = |id| VlanId::try_new(id).unwrap();
        let builder = match self.vlans {
            0 => builder.ip(ip),
            1 => builder.single_vlan(id(5)).ip(ip),
            _ => builder.double_vlan(id(5), id(6)).ip(ip),
        };
        let mut bytes = Vec::new();
        builder
            .tcp_header(self.tcp())
            .write(&mut bytes, &self.payload)
            .unwrap();
        bytes
    }

    /// An ICMP error by the receiver of the segment, which quotes it up to `length` bytes of TCP.
    fn quoted(&self, length: usize) -> Vec<u8> {
        let frame = self.bytes();
        let packet = Packet::parse(&frame, frame.len());
        let start = usize::from(packet.l3);
        let end = packet.end().min(usize::from(packet.l4) + length);
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = self.ip(!self.from_client);
        let id = |id| VlanId::try_new(id).unwrap();
        let builder = match self.vlans {
            0 => builder.ip(ip),
            1 => builder.single_vlan(id(5)).ip(ip),
            _ => builder.double_vlan(id(5), id(6)).ip(ip),
        };
        let mut bytes = Vec::new();
        if self.v6 {
            builder
                .icmpv6_raw(1, 4, [0; 4])
                .write(&mut bytes, &frame[start..end])
                .unwrap();
        } else {
            builder
                .icmpv4_raw(3, 3, [0; 4])
                .write(&mut bytes, &frame[start..end])
                .unwrap();
        }
        bytes
    }

    fn has_ack(&self) -> bool {
        self.flags.contains(TcpFlags::ACK)
    }

    fn keeps_number(&self) -> bool {
        self.flags.contains(TcpFlags::SYN)
            || self.flags.contains(TcpFlags::RST | TcpFlags::ACK) && self.seq == 0
    }

    /// The segment of a client in the SVM's numbers.
    fn for_svm(&self, offsets: Offsets) -> Self {
        let mut segment = self.clone();
        if self.has_ack() {
            segment.ack = self.ack.wrapping_add(offsets.seq);
            segment.sack = self
                .sack
                .iter()
                .map(|edge| edge.wrapping_add(offsets.seq))
                .collect();
            segment.timestamps = self
                .timestamps
                .map(|(value, echo)| (value, echo.wrapping_add(offsets.timestamp)));
        }
        segment
    }

    /// The segment of the SVM in the PVM's numbers.
    fn for_client(&self, offsets: Offsets) -> Self {
        let mut segment = self.clone();
        if !self.keeps_number() {
            segment.seq = self.seq.wrapping_sub(offsets.seq);
        }
        segment
    }
}

/// From whom and to whom.
fn ends<T>(from_client: bool, guest: T, client: T) -> [T; 2] {
    if from_client {
        [client, guest]
    } else {
        [guest, client]
    }
}

/// Numbers near the wrap, whose sums carry, as often as others.
fn number(random: &mut Rng) -> u32 {
    match random.below(3) {
        0 => random.of(&[0, 1, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, u32::MAX]),
        _ => random.next() as u32,
    }
}

#[derive(Clone, Copy, Debug)]
struct Offsets {
    seq: u32,
    timestamp: u32,
}

enum Way {
    ToGuest,
    FromGuest,
}

fn pass(rewriter: &mut Rewriter, way: &Way, frame: &mut HeapFrame, now: Ticks) -> Outcome {
    let packet = Packet::parse(frame.head(), frame.len());
    match way {
        Way::ToGuest => rewriter.to_guest(frame, &packet, now),
        Way::FromGuest => rewriter.from_guest(frame, &packet, now),
    }
}

fn way(segment: &Segment) -> Way {
    if segment.from_client {
        Way::ToGuest
    } else {
        Way::FromGuest
    }
}
