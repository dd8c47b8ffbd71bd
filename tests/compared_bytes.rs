//! Which bytes of the SVM's frame may differ from the PVM's while the PVM's still leaves, for each kind of
//! frame. The table lies in `tests/golden/compared_bytes.txt`; with `UPDATE_GOLDEN=1` in the environment it
//! is written anew. `docs/compared-bytes.md` says why it is as it is.

use std::fmt::Write;
use std::path::Path;

use dpdk_colo::compare::{Comparator, Limits, Numbers, Policy};
use dpdk_colo::frame::HeapFrame;

/// Bytes of a frame with the name of the field.
type Field = (&'static str, Vec<u8>);

/// A kind of frame.
struct Kind {
    name: &'static str,
    frame: Vec<Field>,
    /// What both VMs have sent before.
    context: Vec<Vec<Field>>,
}

fn bytes(fields: &[Field]) -> Vec<u8> {
    fields
        .iter()
        .flat_map(|(_, bytes)| bytes)
        .copied()
        .collect()
}

fn field(name: &'static str, bytes: impl AsRef<[u8]>) -> Field {
    (name, bytes.as_ref().to_vec())
}

const DATA: &str = "payload";

fn ethernet(ether_type: u16, rest: Vec<Field>) -> Vec<Field> {
    let mut frame = vec![
        field("destination MAC address", [2, 0, 0, 0, 0, 2]),
        field("source MAC address", [2, 0, 0, 0, 0, 1]),
        field("EtherType or length", ether_type.to_be_bytes()),
    ];
    frame.extend(rest);
    frame
}

fn tag(identifier: u16, ether_type: u16, rest: Vec<Field>) -> Vec<Field> {
    let mut fields = vec![
        field(
            "priority, DEI and VLAN identifier",
            identifier.to_be_bytes(),
        ),
        field("EtherType behind the tag", ether_type.to_be_bytes()),
    ];
    fields.extend(rest);
    fields
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

fn ipv4_with(protocol: u8, options: &[u8], fragment: u16, rest: Vec<Field>) -> Vec<Field> {
    let header = 20 + options.len();
    let total = (header + bytes(&rest).len()) as u16;
    let mut fields = vec![
        field(
            "IPv4 version and header length",
            [0x40 | (header / 4) as u8],
        ),
        field("IPv4 TOS", [0]),
        field("IPv4 total length", total.to_be_bytes()),
        field("IPv4 identification", [0x12, 0x34]),
        field("IPv4 flags and fragment offset", fragment.to_be_bytes()),
        field("IPv4 TTL", [64]),
        field("IPv4 protocol", [protocol]),
        field("IPv4 header checksum", [0, 0]),
        field("IPv4 source address", [10, 0, 0, 1]),
        field("IPv4 destination address", [10, 0, 0, 2]),
    ];
    if !options.is_empty() {
        fields.push(field("IPv4 options", options));
    }
    fields.extend(rest);
    fields
}

fn ipv4(protocol: u8, rest: Vec<Field>) -> Vec<Field> {
    ethernet(IPV4, ipv4_with(protocol, &[], 0, rest))
}

fn ipv6_with(next: u8, extensions: Vec<Field>, rest: Vec<Field>) -> Vec<Field> {
    let length = bytes(&extensions).len() + bytes(&rest).len();
    let mut source = [0; 16];
    (source[0], source[15]) = (0xfd, 1);
    let mut destination = source;
    destination[15] = 2;
    let mut fields = vec![
        field(
            "IPv6 version, traffic class and flow label",
            [0x60, 0, 0, 0],
        ),
        field("IPv6 payload length", (length as u16).to_be_bytes()),
        field("IPv6 next header", [next]),
        field("IPv6 hop limit", [64]),
        field("IPv6 source address", source),
        field("IPv6 destination address", destination),
    ];
    fields.extend(extensions);
    fields.extend(rest);
    ethernet(IPV6, fields)
}

fn ipv6(next: u8, rest: Vec<Field>) -> Vec<Field> {
    ipv6_with(next, Vec::new(), rest)
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// Numbers in whose bits both a rise and a fall are to be seen.
const ISN: u32 = 0x0102_0304;
const ACKNOWLEDGED: u32 = 0x0506_0708;

fn tcp(flags: u8, seq: u32, options: &[u8], payload: &[u8]) -> Vec<Field> {
    // Behind the handshake more is acknowledged than in it.
    let ack = ACKNOWLEDGED + u32::from(flags & SYN == 0);
    let mut fields = vec![
        field("TCP source port", [0, 80]),
        field("TCP destination port", [0x9c, 0x40]),
        field("TCP sequence number", seq.to_be_bytes()),
        field("TCP acknowledgment number", ack.to_be_bytes()),
        field(
            "TCP data offset and reserved bits",
            [((20 + options.len()) / 4) as u8 * 16],
        ),
        field("TCP control bits", [flags]),
        field("TCP window", [4, 0]),
        field("TCP checksum", [0, 0]),
        field(
            "TCP urgent pointer",
            [0, if flags & URG != 0 { 3 } else { 0 }],
        ),
    ];
    if !options.is_empty() {
        fields.push(field("TCP options", options));
    }
    if !payload.is_empty() {
        fields.push(field(DATA, payload));
    }
    fields
}

/// MSS, SACK permitted, time stamps, no-operation, window scale.
const SYN_OPTIONS: [u8; 20] = [
    2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 1, 3, 3, 7,
];
const STAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9];

fn udp(payload: &[u8], surplus: &[u8]) -> Vec<Field> {
    let length = 8 + payload.len() as u16;
    let mut fields = vec![
        field("UDP source port", [0, 53]),
        field("UDP destination port", [0x9c, 0x40]),
        field("UDP length", length.to_be_bytes()),
        field("UDP checksum", [0, 0]),
        field(DATA, payload),
    ];
    if !surplus.is_empty() {
        fields.push(field("bytes behind the UDP datagram", surplus));
    }
    fields
}

fn icmp(kind: u8, code: u8) -> Vec<Field> {
    vec![
        field("ICMP type", [kind]),
        field("ICMP code", [code]),
        field("ICMP checksum", [0, 0]),
        field("ICMP rest of header", [0x12, 0x34, 0, 1]),
        field(DATA, b"echo or quote"),
    ]
}

fn extension(name: &'static str, next: u8, content: [u8; 6]) -> Field {
    field(name, [&[next, 0][..], &content].concat())
}

fn kinds() -> Vec<Kind> {
    let handshake = |wrap: fn(u8, Vec<Field>) -> Vec<Field>| {
        vec![wrap(TCP, tcp(SYN | ACK, ISN, &SYN_OPTIONS, b""))]
    };
    let mut kinds = Vec::new();
    let mut segment =
        |name, wrap: fn(u8, Vec<Field>) -> Vec<Field>, flags, options: &[u8], payload: &[u8]| {
            kinds.push(Kind {
                name,
                frame: wrap(TCP, tcp(flags, ISN + 1, options, payload)),
                context: handshake(wrap),
            });
        };
    let signal = [253, 4, 1, 2];
    let sack = [1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    segment("TCP data over IPv4", ipv4, ACK, &[], b"data");
    segment("TCP data over IPv6", ipv6, ACK, &[], b"data");
    segment("TCP data with time stamps", ipv4, ACK, &STAMPS, b"data");
    segment(
        "TCP data with an unknown option",
        ipv4,
        ACK,
        &signal,
        b"data",
    );
    segment("TCP urgent data", ipv4, ACK | URG, &[], b"data");
    segment("TCP acknowledgment", ipv4, ACK, &[], b"");
    segment("TCP acknowledgment with SACK", ipv4, ACK, &sack, b"");
    segment("TCP segment without control bits", ipv4, 0, &[], b"");
    segment("TCP FIN", ipv4, ACK | FIN, &[], b"");
    segment("TCP RST", ipv4, ACK | RST, &[], b"");
    let mut add = |name, frame| {
        kinds.push(Kind {
            name,
            frame,
            context: Vec::new(),
        });
    };
    add(
        "TCP SYN and ACK over IPv4",
        ipv4(TCP, tcp(SYN | ACK, ISN, &SYN_OPTIONS, b"")),
    );
    add(
        "TCP SYN over IPv6",
        ipv6(TCP, tcp(SYN, ISN, &SYN_OPTIONS, b"")),
    );
    add("UDP over IPv4", ipv4(UDP, udp(b"data", b"")));
    add("UDP over IPv6", ipv6(UDP, udp(b"data", b"")));
    add("UDP with bytes behind it", ipv4(UDP, udp(b"data", b"OPTS")));
    add("ICMP echo reply", ipv4(1, icmp(0, 0)));
    add("ICMP error", ipv4(1, icmp(3, 3)));
    add("ICMPv6 echo reply", ipv6(ICMPV6, icmp(129, 0)));
    let body = || vec![field(DATA, b"fragment")];
    add(
        "IPv4 fragment, the first",
        ethernet(IPV4, ipv4_with(UDP, &[], 0x2000, body())),
    );
    add(
        "IPv4 fragment, the last",
        ethernet(IPV4, ipv4_with(UDP, &[], 3, body())),
    );
    let header = |word: u16| {
        vec![
            field("next header of the fragment header", [UDP, 0]),
            field("IPv6 fragment offset and flag", word.to_be_bytes()),
            field("IPv6 identification", [0, 0, 0x12, 0x34]),
        ]
    };
    add("IPv6 fragment", ipv6_with(44, header(1), body()));
    let options = [148, 4, 0, 0, 1, 131, 7, 4, 10, 0, 0, 9];
    add(
        "UDP over IPv4 with router alert, no-operation, source route",
        ethernet(IPV4, ipv4_with(UDP, &options, 0, udp(b"data", b""))),
    );
    let hop = extension("IPv6 hop-by-hop options", 43, [5, 2, 0, 0, 1, 0]);
    let route = field(
        "IPv6 routing header",
        [&[UDP, 2, 3, 1, 0, 0, 0, 0][..], &[0xfd; 16]].concat(),
    );
    add(
        "UDP over IPv6 with hop-by-hop options and a routing header",
        ipv6_with(0, vec![hop, route], udp(b"data", b"")),
    );
    let plain = || ipv4_with(UDP, &[], 0, udp(b"data", b""));
    add("UDP in a VLAN", ethernet(0x8100, tag(7, IPV4, plain())));
    add(
        "UDP in two VLANs",
        ethernet(0x88a8, tag(7, 0x8100, tag(9, IPV4, plain()))),
    );
    let mut lan = ethernet(3, vec![field("payload by the length", [0x42, 0x42, 3])]);
    lan.push(field("padding", [0; 43]));
    add("IEEE 802.3", lan);
    add(
        "other EtherType",
        ethernet(0x88b5, vec![field(DATA, b"experiment")]),
    );
    let checksum = |name, protocol| {
        let sctp = vec![field(
            "all behind the IP header",
            b"\0\x50\x9c\x40verification, checksum",
        )];
        (name, ipv4(protocol, sctp))
    };
    for (name, frame) in [
        checksum("SCTP", 132),
        checksum("GRE", 47),
        checksum("IGMP", 2),
    ] {
        add(name, frame);
    }
    let mut padded = ipv4(UDP, udp(b"data", b""));
    padded.push(field("padding", [0; 14]));
    add("UDP with padding", padded);
    kinds
}

/// Whether the P leaves when the SVM has sent `s` in its place.
fn leaves(kind: &Kind, p: &[u8], s: &[u8], secondary_first: bool) -> bool {
    let limits = Limits {
        primary: 16,
        secondary: 16,
        history: 8,
        flows: 8,
        timeout: 1000,
        patience: 1,
        idle: 1000,
        half_open: 1000,
    };
    let mut comparator = Comparator::new(limits, Numbers::Translated, Policy::new(Vec::new()));
    let mut now = 0;
    let mut send = |p: &[u8], s: &[u8]| {
        now += 1;
        if secondary_first {
            comparator.secondary(HeapFrame::new(s), now);
        }
        comparator
            .primary(HeapFrame::new(p), now)
            .expect("there is room");
        if !secondary_first {
            comparator.secondary(HeapFrame::new(s), now);
        }
        std::iter::from_fn(|| comparator.next_release()).count() == 1
    };
    for frame in &kind.context {
        let frame = bytes(frame);
        assert!(send(&frame, &frame), "{}: the context leaves", kind.name);
    }
    send(p, s)
}

/// Of one byte the bits whose change in the S the P survives.
fn free_bits(kind: &Kind, at: usize) -> u8 {
    let p = bytes(&kind.frame);
    (0..8)
        .map(|bit| 1 << bit)
        .filter(|bit| {
            let mut s = p.clone();
            s[at] ^= bit;
            let both = [false, true].map(|secondary_first| leaves(kind, &p, &s, secondary_first));
            assert_eq!(
                both[0], both[1],
                "{}, byte {at}, bit {bit:#x}: the order counts",
                kind.name
            );
            both[0]
        })
        .sum()
}

#[test]
fn what_may_differ_is_in_the_table() {
    let mut text = String::from(
        "Generated by tests/compared_bytes.rs; UPDATE_GOLDEN=1 cargo test --no-default-features -p dpdk-colo --test compared_bytes writes it anew.\n\
         Each bit of the SVM's frame was changed alone. \"must be equal\": then the PVM's frame does not leave.\n\
         \"may differ\": it leaves. Of a field with both, the bits of each byte that may differ, in hexadecimal.\n\
         Columns: offset in the frame, length in bytes, field.\n",
    );
    let kinds = kinds();
    assert!(kinds.len() >= 20);
    for kind in &kinds {
        let frame = bytes(&kind.frame);
        assert!(
            leaves(kind, &frame, &frame, false),
            "{}: equal frames",
            kind.name
        );
        write!(text, "\n{}\n", kind.name).expect("a string grows");
        let mut at = 0;
        for (name, bytes) in &kind.frame {
            let free: Vec<u8> = (at..at + bytes.len())
                .map(|at| free_bits(kind, at))
                .collect();
            let verdict = if free.iter().all(|bits| *bits == 0) {
                "must be equal".to_owned()
            } else if free.iter().all(|bits| *bits == 0xff) {
                "may differ".to_owned()
            } else {
                let bits: Vec<String> = free.iter().map(|bits| format!("{bits:02x}")).collect();
                format!("bits that may differ: {}", bits.join(" "))
            };
            let length = bytes.len();
            writeln!(text, "{at:5} {length:3}  {name}: {verdict}").expect("a string grows");
            at += length;
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/compared_bytes.txt");
    colo_testkit::golden::assert_golden(&path, &text, "compared_bytes");
}
