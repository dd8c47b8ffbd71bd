//! The parser against `etherparse`, on frames built at random, damaged and cut.
//!
//! Every failure names the seed of its case (`DPDK_COLO_SEED`).

use std::net::IpAddr;

use colo_testkit::rng::{Rng, for_seeds};
use etherparse::{LinkExtSlice, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

use super::*;
use crate::flow::{FlowClass, FlowKey, Vlans};

/// A frame without contradictions, but perhaps with too many headers.
pub(crate) fn frame(random: &mut Rng) -> Vec<u8> {
    let mut frame = random.bytes(12);
    for _ in 0..random.of(&[0, 0, 0, 1, 1, 2, 3]) {
        frame.extend(random.of(&[[0x81, 0], [0x88, 0xa8], [0x91, 0]]));
        frame.extend(random.bytes(2));
    }
    match random.below(12) {
        0 => frame.extend(random.of(&[[0x08, 0x06], [0x88, 0xcc], [0, 0], [0, 46], [0x88, 0x47]])),
        1..=5 => {
            frame.extend([0x86, 0xdd]);
            let datagram = ipv6(random);
            frame.extend(datagram);
        }
        _ => {
            frame.extend([0x08, 0x00]);
            let datagram = ipv4(random);
            frame.extend(datagram);
        }
    }
    let padding = random.of(&[0, 0, 1, 6, 46]);
    frame.extend(random.bytes(padding));
    frame
}

fn ipv4(random: &mut Rng) -> Vec<u8> {
    let options = random.of(&[0, 0, 0, 1, 4, 10]);
    let protocol = random.of(&[6, 6, 6, 17, 17, 1, 47, 58, 0]);
    let flags: u16 = match random.below(8) {
        0 => random.next() as u16,
        1..=3 => 0x4000,
        _ => 0,
    };
    let data = transport(random, protocol);
    let header = 20 + 4 * options;
    let mut ip = vec![0x40 | (header / 4) as u8, 0];
    ip.extend(((header + data.len()) as u16).to_be_bytes());
    ip.extend(random.bytes(2));
    ip.extend(flags.to_be_bytes());
    ip.extend([64, protocol, 0, 0]);
    ip.extend(random.bytes(8 + 4 * options));
    ip.extend(data);
    ip
}

fn ipv6(random: &mut Rng) -> Vec<u8> {
    let count = random.of(&[0, 0, 0, 1, 2, 3, 8, 9]);
    let kinds: Vec<u8> = (0..count)
        .map(|i| {
            random.of(if i == 0 {
                &[0, 60, 43, 44, 51]
            } else {
                &[60, 43, 44, 51]
            })
        })
        .collect();
    let protocol = random.of(&[6, 6, 6, 17, 17, 58, 58, 47, 59, 1]);
    let mut data = Vec::new();
    for (i, kind) in kinds.iter().enumerate() {
        let next = kinds.get(i + 1).copied().unwrap_or(protocol);
        let (length, bytes) = match kind {
            44 => (random.next() as u8, 8),
            51 => random.of(&[(1, 12), (4, 24)]),
            _ => random.of(&[(0, 8), (1, 16), (5, 48)]),
        };
        let mut header = random.bytes(bytes);
        header[..2].copy_from_slice(&[next, length]);
        if *kind == 44 && !random.one_in(4) {
            header[2..4].fill(0);
        }
        data.extend(header);
    }
    data.extend(transport(random, protocol));
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend((data.len() as u16).to_be_bytes());
    ip.extend([kinds.first().copied().unwrap_or(protocol), 64]);
    ip.extend(random.bytes(32));
    ip.extend(data);
    ip
}

fn transport(random: &mut Rng, protocol: u8) -> Vec<u8> {
    let payload = random.of(&[0, 1, 5, 64]);
    match protocol {
        6 => {
            let options = random.of(&[0, 0, 1, 3, 10]);
            let mut tcp = random.bytes(20 + 4 * options + payload);
            tcp[12] = ((5 + options) << 4) as u8 | tcp[12] & 0xf;
            tcp
        }
        17 => {
            let mut udp = random.bytes(8 + payload);
            let length = (udp.len() as u16).to_be_bytes();
            udp[4..6].copy_from_slice(&length);
            let surplus = random.of(&[0, 0, 0, 4]);
            udp.extend(random.bytes(surplus));
            udp
        }
        1 | 58 => {
            let mut icmp = random.bytes(8 + payload);
            icmp[0] = random.of(&[0, 8, 3, 11, 1, 2, 128, 129, 133, 135, 136, 137, 138]);
            icmp
        }
        _ => random.bytes(payload),
    }
}

/// Changes some bytes of the headers, and perhaps cuts the frame.
pub(crate) fn damage(random: &mut Rng, frame: &mut Vec<u8>) {
    for _ in 0..1 + random.below(3) {
        let at = random.below(frame.len().min(80));
        frame[at] = match random.below(3) {
            0 => random.next() as u8,
            1 => frame[at] ^ 1 << random.below(8),
            _ => random.of(&[0, 1, 0x45, 0x4f, 0x60, 0xff]),
        };
    }
    if random.one_in(3) {
        frame.truncate(14 + random.below(frame.len()));
    }
}

/// What `etherparse` has to say about a frame, checked against the packet. False where it has
/// nothing to say that is comparable.
fn agrees(frame: &[u8], packet: &Packet) -> bool {
    let Ok(sliced) = SlicedPacket::from_ethernet(frame) else {
        return false;
    };
    let offset = |part: &[u8]| part.as_ptr() as usize - frame.as_ptr() as usize;
    let mut tags = Vec::new();
    for tag in &sliced.link_exts {
        match tag {
            LinkExtSlice::Vlan(tag) => tags.push(tag.vlan_identifier().value()),
            LinkExtSlice::Macsec(_) => return false,
        }
    }
    if tags.len() > 2 {
        assert_eq!(packet.kind, Kind::Unreadable(Unreadable::TooManyHeaders));
        return true;
    }
    let tag = |i: usize| tags.get(i).copied().unwrap_or(0);
    let (src, dst, ip, is_v6) = match &sliced.net {
        Some(NetSlice::Ipv4(v4)) => {
            let header = v4.header();
            // Authentication headers are passed over only in IPv6.
            if header.protocol().0 == 51 {
                assert!(matches!(packet.kind, Kind::OtherIp | Kind::Fragment));
                return true;
            }
            (
                IpAddr::V4(header.source_addr()),
                IpAddr::V4(header.destination_addr()),
                v4.payload(),
                false,
            )
        }
        Some(NetSlice::Ipv6(v6)) => {
            let header = v6.header();
            // etherparse takes a length of 0 as a jumbogram's.
            if header.payload_length() == 0
                || packet.kind == Kind::Unreadable(Unreadable::TooManyHeaders)
            {
                return false;
            }
            (
                IpAddr::V6(header.source_addr()),
                IpAddr::V6(header.destination_addr()),
                v6.payload(),
                true,
            )
        }
        Some(NetSlice::Arp(_)) => {
            assert_eq!(packet.kind, Kind::Arp);
            return true;
        }
        None => {
            assert!(
                matches!(packet.kind, Kind::Opaque | Kind::Lldp),
                "{:?}",
                packet.kind
            );
            return true;
        }
    };
    if ip.ip_number.0 == 17 && !ip.fragmented && ip.payload.get(4..6) == Some(&[0, 0]) {
        assert_eq!(packet.kind, Kind::Unreadable(Unreadable::Length));
        return true;
    }
    let is_icmp = ip.ip_number.0 == if is_v6 { 58 } else { 1 };
    if let Kind::Unreadable(why) = packet.kind {
        // etherparse leaves ICMP over the other family and so forth alone; nothing else may differ.
        panic!("etherparse reads it, the parser does not: {why:?}");
    }
    assert_eq!(
        (packet.key.src_ip(), packet.key.dst_ip()),
        (Some(src), Some(dst))
    );
    assert_eq!(
        packet.key.vlans(),
        Vlans {
            outer: tag(0),
            inner: tag(1)
        }
    );
    if packet.kind != Kind::Udp {
        assert_eq!(packet.end(), offset(ip.payload) + ip.payload.len());
    }
    if ip.fragmented {
        assert_eq!(
            (packet.kind, packet.key.class()),
            (Kind::Fragment, FlowClass::Fragment)
        );
        // etherparse looks for extension headers in a fragment's data, too.
        assert!(is_v6 || usize::from(packet.payload) == offset(ip.payload));
        return true;
    }
    assert_eq!(usize::from(packet.l4), offset(ip.payload));
    assert_eq!(packet.key.protocol(), Some(ip.ip_number.0));
    match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let flags = [
                tcp.fin(),
                tcp.syn(),
                tcp.rst(),
                tcp.psh(),
                tcp.ack(),
                tcp.urg(),
                tcp.ece(),
                tcp.cwr(),
            ];
            let flags = flags
                .iter()
                .enumerate()
                .map(|(bit, &set)| u8::from(set) << bit)
                .sum();
            let fields = Tcp {
                seq: tcp.sequence_number(),
                ack: tcp.acknowledgment_number(),
                flags: TcpFlags(flags),
                window: tcp.window_size(),
            };
            assert_eq!((packet.kind, packet.tcp), (Kind::Tcp, fields));
            assert_eq!(usize::from(packet.payload), offset(tcp.payload()));
            assert_eq!(packet.payload_len as usize, tcp.payload().len());
            assert_eq!(packet.key.src_port(), Some(tcp.source_port()));
            assert_eq!(packet.key.dst_port(), Some(tcp.destination_port()));
            assert_eq!(packet.tcp_options(frame), tcp.options());
        }
        Some(TransportSlice::Udp(udp)) => {
            assert_eq!(packet.kind, Kind::Udp);
            assert_eq!(usize::from(packet.payload), offset(udp.payload()));
            assert_eq!(packet.payload_len as usize, udp.payload().len());
            assert_eq!(packet.key.src_port(), Some(udp.source_port()));
            assert_eq!(packet.key.dst_port(), Some(udp.destination_port()));
        }
        _ if is_icmp => {
            let icmp_type = ip.payload[0];
            assert_eq!(
                packet.key.icmp().map(|(icmp_type, _)| icmp_type),
                Some(icmp_type)
            );
            match packet.kind {
                Kind::NeighbourDiscovery => assert!(is_v6 && (133..=137).contains(&icmp_type)),
                Kind::Mld => assert!(is_v6 && [131, 132, 143].contains(&icmp_type)),
                kind => assert_eq!(kind, Kind::Icmp),
            }
        }
        _ => {
            assert_eq!(packet.key.class(), FlowClass::OtherIp);
            match packet.kind {
                Kind::Igmp => assert_eq!(packet.key.protocol(), Some(2)),
                kind => assert_eq!(kind, Kind::OtherIp),
            }
        }
    }
    true
}

/// Bytes that must lie in the first segment.
fn headers_end(frame: &[u8], packet: &Packet) -> usize {
    match packet.kind {
        Kind::Icmp | Kind::NeighbourDiscovery | Kind::Mld
            if matches!(packet.key.icmp(), Some((_, Some(_)))) =>
        {
            usize::from(packet.l4) + 8
        }
        Kind::Icmp | Kind::NeighbourDiscovery | Kind::Mld => usize::from(packet.l4) + 4,
        Kind::Igmp => usize::from(packet.l4),
        Kind::Unreadable(_) => frame.len(),
        _ => usize::from(packet.payload),
    }
}

fn check(random: &mut Rng, frame: &[u8]) -> bool {
    let packet = Packet::parse(frame, frame.len());
    assert!(packet.end() <= frame.len(), "{packet:?}");
    let mut plain = Packet::EMPTY;
    if plain.read_plain(frame, frame.len()) {
        assert_eq!(plain, Packet::parse_any(frame, frame.len()));
    }
    assert_eq!(packet.fragment != 0, packet.kind == Kind::Fragment);
    if !matches!(packet.kind, Kind::Unreadable(_)) {
        let cut = random.below(frame.len() + 1);
        let chain = Packet::parse(&frame[..cut], frame.len());
        if cut < headers_end(frame, &packet) {
            assert_eq!(
                chain.kind,
                Kind::Unreadable(Unreadable::Truncated),
                "cut at {cut}: {packet:?}"
            );
        } else if packet.kind == Kind::Igmp && cut < usize::from(packet.l4) + 8 {
            // What cannot be read is no report, so it is compared.
            assert_eq!(chain.kind, Kind::OtherIp, "cut at {cut}: {packet:?}");
        } else {
            assert_eq!(chain, packet, "cut at {cut}");
        }
    }
    agrees(frame, &packet)
}

#[test]
fn syn_and_fin_take_a_sequence_number_each() {
    let takes = |payload: &[u8], change: fn(&mut etherparse::TcpHeader)| {
        let mut header = etherparse::TcpHeader::new(1, 2, 3, 4);
        header.ack = true;
        change(&mut header);
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp_header(header)
            .write(&mut frame, payload)
            .unwrap();
        Packet::parse(&frame, frame.len()).sequence_len()
    };
    assert_eq!(takes(b"", |_| {}), 0);
    assert_eq!(takes(b"four", |_| {}), 4);
    assert_eq!(takes(b"", |header| header.syn = true), 1);
    assert_eq!(takes(b"four", |header| header.fin = true), 5);
}

#[test]
fn sound_frames_are_read_as_etherparse_reads_them() {
    let (mut compared, mut total) = (0, 0);
    for_seeds(100_000, |random| {
        let frame = frame(random);
        compared += u32::from(check(random, &frame));
        total += 1;
    });
    assert!(total == 1 || compared > total / 2, "{compared} of {total}");
}

#[test]
fn damaged_frames_are_read_as_etherparse_reads_them_or_not_at_all() {
    let (mut compared, mut total) = (0, 0);
    for_seeds(200_000, |random| {
        let mut frame = frame(random);
        damage(random, &mut frame);
        compared += u32::from(check(random, &frame));
        total += 1;
    });
    assert!(total == 1 || compared > total / 4, "{compared} of {total}");
}

#[test]
fn garbage_stays_within_its_bounds() {
    let mut bytes = [0; 128];
    for_seeds(1_000_000, |random| {
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&random.next().to_ne_bytes());
        }
        let length = random.below(bytes.len());
        if length > 40 {
            let start = random.of(&[[0x08, 0x00, 0x45], [0x08, 0x00, 0x46], [0x86, 0xdd, 0x60]]);
            bytes[12..15].copy_from_slice(&start);
            bytes[16] = 0;
            bytes[18..20].fill(0);
            bytes[20] = random.of(&[0, 6, 17, 43, 44, 51, 58, 60]);
        }
        let head = &bytes[..length];
        let lie = random.of(&[length, length, 0, length + 100, usize::MAX]);
        let packet = Packet::parse(head, lie);
        TcpOptions::parse(packet.tcp_options(head));
        if lie <= length {
            assert!(packet.end() <= length);
        }
        assert!(packet.l3 <= packet.l4 && packet.l4 <= packet.payload);
        assert!(usize::from(packet.payload) <= length || packet.kind == Kind::Fragment);
    });
}

#[test]
fn a_frame_of_zeros_is_opaque_and_all_padding() {
    for length in [14, 60, 1514] {
        let packet = Packet::parse(&vec![0; length], length);
        assert_eq!((packet.kind, packet.payload_len), (Kind::Opaque, 0));
    }
    assert_eq!(
        Packet::parse(&[], 0).kind,
        Kind::Unreadable(Unreadable::Truncated)
    );
}

#[test]
fn padding_is_no_payload() {
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(1, 2, 3, 4);
    let mut frame = Vec::new();
    builder.write(&mut frame, &[]).unwrap();
    frame.resize(60, 0xee);
    let packet = Packet::parse(&frame, frame.len());
    assert_eq!(
        (packet.kind, packet.payload, packet.payload_len),
        (Kind::Tcp, 54, 0)
    );
}

#[test]
fn a_large_segment_may_lie_in_a_chain() {
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(1, 2, 3, 4);
    let mut frame = Vec::new();
    builder.write(&mut frame, &[7; 65_495]).unwrap();
    let packet = Packet::parse(&frame[..54], frame.len());
    assert_eq!(
        (packet.kind, packet.payload_len, packet.end()),
        (Kind::Tcp, 65_495, frame.len())
    );
    assert_eq!(
        Packet::parse(&frame[..53], frame.len()).kind,
        Kind::Unreadable(Unreadable::Truncated)
    );
    assert_eq!(
        Packet::parse(&frame[..54], frame.len() - 1).kind,
        Kind::Unreadable(Unreadable::Length)
    );
    assert_eq!(
        checksum::verify(&packet, [&frame[..57], &frame[57..]]),
        Some(true)
    );
    frame[60_000] ^= 1;
    assert_eq!(
        checksum::verify(&packet, [&frame[..57], &frame[57..]]),
        Some(false)
    );
}

/// IPv6 with these extension headers, each of 8 bytes, before the transport header.
fn behind(extensions: &[u8], protocol: u8, transport: &[u8]) -> Packet {
    let mut frame = vec![2; 12];
    frame.extend([
        0x86,
        0xdd,
        0x60,
        0,
        0,
        0,
        0,
        (8 * extensions.len() + transport.len()) as u8,
    ]);
    frame.push(*extensions.first().unwrap_or(&protocol));
    frame.extend([64; 33]);
    for i in 0..extensions.len() {
        frame.push(*extensions.get(i + 1).unwrap_or(&protocol));
        frame.extend([0; 7]);
    }
    frame.extend(transport);
    Packet::parse(&frame, frame.len())
}

#[test]
fn a_chain_of_extension_headers_has_an_end() {
    let mut tcp = [0; 20];
    tcp[12] = 5 << 4;
    assert_eq!(behind(&[60; 8], 6, &tcp).kind, Kind::Tcp);
    let too_many = Kind::Unreadable(Unreadable::TooManyHeaders);
    assert_eq!(behind(&[60; 9], 6, &tcp).kind, too_many);
}

#[test]
fn an_802_3_length_ends_the_payload() {
    for (field, frame, payload) in [
        (3, 60, 3),
        (46, 60, 46),
        (1500, 1514, 1500),
        (47, 60, 46),
        (1501, 60, 46),
        (0x88b5, 60, 46),
    ] {
        for tagged in [false, true] {
            let mut bytes = vec![2; 12];
            if tagged {
                bytes.extend([0x81, 0, 0, 7]);
            }
            let header = bytes.len() + 2;
            bytes.extend(u16::to_be_bytes(field));
            bytes.resize(frame + header - 14, 9);
            let packet = Packet::parse(&bytes, bytes.len());
            assert_eq!(packet.kind, Kind::Opaque, "{field}");
            assert_eq!(packet.payload_len, payload, "{field} in {frame} bytes");
        }
    }
}

#[test]
fn neighbour_discovery_has_no_fragment_header() {
    let solicitation = [135, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(
        behind(&[0], 58, &solicitation).kind,
        Kind::NeighbourDiscovery
    );
    assert_eq!(behind(&[44], 58, &solicitation).kind, Kind::Icmp);
}

#[test]
fn membership_reports_are_neither_queries_nor_fragments() {
    let report = |kind| [kind, 0, 0, 0, 0, 0, 0, 0];
    for kind in 0..=255 {
        let expected = match kind {
            131 | 132 | 143 => Kind::Mld,
            133..=137 => Kind::NeighbourDiscovery,
            _ => Kind::Icmp,
        };
        // Behind the hop-by-hop option that says router alert.
        assert_eq!(behind(&[0], 58, &report(kind)).kind, expected, "{kind}");
        assert_eq!(behind(&[0, 44], 58, &report(kind)).kind, Kind::Icmp);
        for router_alert in [false, true] {
            for length in [7, 8, 16] {
                let mut frame = vec![0; 12];
                let header = if router_alert { 24 } else { 20 };
                frame.extend([
                    8,
                    0,
                    0x40 | (header / 4),
                    0,
                    0,
                    header + length,
                    0,
                    0,
                    0,
                    0,
                    1,
                    2,
                ]);
                frame.extend([0, 0, 10, 0, 0, 1, 224, 0, 0, 22]);
                frame.extend(&[0x94, 4, 0, 0][..usize::from(header) - 20]);
                frame.push(kind);
                frame.resize(frame.len() + usize::from(length) - 1, 0);
                let parsed = Packet::parse(&frame, frame.len());
                let reports = matches!(kind, 0x12 | 0x16 | 0x17 | 0x22) && length >= 8;
                let expected = if reports { Kind::Igmp } else { Kind::OtherIp };
                assert_eq!((parsed.kind, parsed.payload_len), (expected, length.into()));
                assert_eq!(parsed.key.protocol(), Some(2));
                // More fragments.
                frame[20] = 0x20;
                assert_eq!(Packet::parse(&frame, frame.len()).kind, Kind::Fragment);
            }
        }
    }
}

#[test]
fn an_icmp_error_quotes_a_segment() {
    let ends = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let mut quoted = Vec::new();
    let segment = etherparse::PacketBuilder::ipv4(ends.0, ends.1, 64).tcp(80, 4242, 77, 9);
    segment.write(&mut quoted, &[7; 100]).unwrap();
    for length in [0, 19, 20, 27, 28, 40, quoted.len()] {
        let mut frame = Vec::new();
        let error = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 9], ends.0, 64)
            .icmpv4_raw(3, 4, [0; 4]);
        error.write(&mut frame, &quoted[..length]).unwrap();
        frame.extend([0xee; 20]);
        let packet = Packet::parse(&frame, frame.len());
        let quote = packet.embedded_tcp(&frame);
        let expected = EmbeddedTcp {
            key: FlowKey::tcp((ends.0, 80).into(), (ends.1, 4242).into()),
            tcp: 14 + 20 + 8 + 20,
            end: 14 + 20 + 8 + length,
        };
        assert_eq!(
            quote,
            (length >= 28).then_some(expected),
            "{length} bytes quoted"
        );
    }
}

#[test]
fn counterparts_are_read_alike_but_for_their_tcp_fields() {
    let (mut equal, mut total) = (0, 0);
    for_seeds(200_000, |random| {
        let frame = frame(random);
        let packet = Packet::parse(&frame, frame.len());
        let mut other = frame.clone();
        for _ in 0..random.below(4) {
            let at = random.below(other.len().min(80));
            other[at] ^= 1 << random.below(8);
        }
        if random.one_in(8) {
            other.truncate(random.below(other.len() + 1));
        }
        let head = if random.one_in(8) {
            random.below(other.len() + 1)
        } else {
            other.len()
        };
        total += 1;
        if packet.has_counterpart(&frame, &other[..head], other.len(), Common::PORTS) {
            equal += 1;
            let read = Packet::parse(&other[..head], other.len());
            let tcp = match packet.kind {
                Kind::Tcp => packet.counterpart_fields(&other[..head]),
                _ => Tcp::default(),
            };
            assert_eq!(read, Packet { tcp, ..packet });
            let common = Common::PORTS_AND_SEQUENCE;
            let aligned = packet.has_counterpart(&frame, &other[..head], other.len(), common);
            assert_eq!(aligned, tcp.seq == packet.tcp.seq);
        }
    });
    assert!(total == 1 || equal > total / 100, "{equal} of {total}");
}

#[test]
fn what_two_vms_may_choose_alike_or_not_makes_no_difference_to_counterparts() {
    let ends4 = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let ends6 = ([1; 16], [2; 16]);
    let ethernet = || etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]);
    for v6 in [false, true] {
        let segment = |hop, ack, window| {
            let mut bytes = Vec::new();
            let tcp = if v6 {
                ethernet().ipv6(ends6.0, ends6.1, hop).tcp(1, 2, 3, window)
            } else {
                ethernet().ipv4(ends4.0, ends4.1, hop).tcp(1, 2, 3, window)
            };
            tcp.ack(ack).write(&mut bytes, &[7; 9]).unwrap();
            bytes
        };
        let (a, mut b) = (segment(64, 5, 100), segment(63, 6, 200));
        if v6 {
            // The flow label.
            b[16] ^= 0xff;
        } else {
            // The identification, which the header's checksum covers.
            b[18] ^= 0xff;
        }
        let packet = Packet::parse(&a, a.len());
        assert!(packet.has_counterpart(&a, &b, b.len(), Common::PORTS_AND_SEQUENCE));
        let tcp = packet.counterpart_fields(&b);
        assert_eq!(tcp, Packet::parse(&b, b.len()).tcp, "IPv6: {v6}");
        assert_eq!((tcp.ack, tcp.window), (6, 200));
    }
}
