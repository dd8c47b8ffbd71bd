//! Options, extension headers, urgent data and other parts of a frame that an end system could act on. The auditor
//! reads them without the comparator's code.

use dpdk_colo::flow::FlowClass;
use dpdk_colo::packet::{Kind, Packet, TcpFlags};

/// A SYN without its numbers: control and reserved bits, and its options, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    bits: u16,
    options: Vec<Vec<u8>>,
}

/// IP protocol numbers of extension headers.
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;

fn is_v6(packet: &Packet, bytes: &[u8]) -> Option<bool> {
    let is_ip = !matches!(packet.key.class(), FlowClass::Link);
    let first = bytes.get(usize::from(packet.l3)).filter(|_| is_ip)?;
    Some(first >> 4 == 6)
}

fn word(bytes: &[u8], at: usize) -> usize {
    let byte = |at: usize| bytes.get(at).map_or(0, |byte| usize::from(*byte));
    byte(at) << 8 | byte(at + 1)
}

/// Options in the syntax of IPv4 and TCP, without padding.
fn options(mut area: &[u8]) -> Vec<Vec<u8>> {
    let mut options = Vec::new();
    while let [kind, rest @ ..] = area {
        match kind {
            0 => break,
            1 => area = rest,
            _ => {
                let length = rest
                    .first()
                    .map_or(area.len(), |length| usize::from(*length));
                let length = if length < 2 {
                    area.len()
                } else {
                    length.min(area.len())
                };
                options.push(area[..length].to_vec());
                area = &area[length..];
            }
        }
    }
    options
}

/// The IPv4 options or IPv6 extension headers.
pub fn network(packet: &Packet, bytes: &[u8]) -> Vec<Vec<u8>> {
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    match is_v6(packet, bytes) {
        Some(false) => options(bytes.get(l3 + 20..l4).unwrap_or_default()),
        Some(true) => {
            let mut headers = Vec::new();
            let mut kind = bytes.get(l3 + 6).copied().unwrap_or_default();
            let mut at = l3 + 40;
            while at + 8 <= l4 {
                let more = usize::from(bytes[at + 1]);
                let (length, counts) = match kind {
                    FRAGMENT => (8, 4),
                    AUTHENTICATION => (8 + 4 * more, 8 + 4 * more),
                    _ => (8 + 8 * more, 8 + 8 * more),
                };
                let end = (at + counts).min(l4);
                headers.push(bytes[at..end].to_vec());
                kind = bytes[at];
                at += length;
            }
            headers
        }
        None => Vec::new(),
    }
}

/// The bytes behind a UDP datagram within its IP datagram.
pub fn surplus<'a>(packet: &Packet, bytes: &'a [u8]) -> &'a [u8] {
    let l3 = usize::from(packet.l3);
    let end = match (packet.kind, is_v6(packet, bytes)) {
        (Kind::Udp, Some(false)) => l3 + word(bytes, l3 + 2),
        (Kind::Udp, Some(true)) => l3 + 40 + word(bytes, l3 + 4),
        _ => return &[],
    };
    bytes.get(packet.end()..end).unwrap_or_default()
}

/// The identification of a fragment's datagram.
pub fn identification(packet: &Packet, bytes: &[u8]) -> u32 {
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    match is_v6(packet, bytes) {
        Some(true) => (word(bytes, l4 - 4) << 16 | word(bytes, l4 - 2)) as u32,
        _ => word(bytes, l3 + 4) as u32,
    }
}

/// The fields of a SYN.
pub fn opening(packet: &Packet, bytes: &[u8]) -> Opening {
    let at = usize::from(packet.l4) + 12;
    let not_said = (TcpFlags::PSH | TcpFlags::FIN | TcpFlags::URG).0;
    let mut options: Vec<Vec<u8>> = options(packet.tcp_options(bytes))
        .into_iter()
        .map(|mut option| {
            match option[0] {
                8 if option.len() == 10 => option.truncate(2),
                19 => option.truncate(2),
                29 => option.truncate(4),
                _ => {}
            }
            option
        })
        .collect();
    options.sort();
    Opening {
        bits: word(bytes, at) as u16 & 0x0fff & !u16::from(not_said),
        options,
    }
}

/// The options of any other segment that an end system acts on, without MPTCP's data sequence signal.
pub fn signals(packet: &Packet, bytes: &[u8]) -> Vec<Vec<u8>> {
    let says = |option: &Vec<u8>| match option[0] {
        5 | 19 | 29 => false,
        8 => option.len() != 10,
        30 => option.get(2).is_some_and(|byte| byte >> 4 != 2),
        _ => true,
    };
    options(packet.tcp_options(bytes))
        .into_iter()
        .filter(says)
        .collect()
}

/// The sequence number that the urgent pointer leads to.
pub fn urgent(packet: &Packet, bytes: &[u8]) -> Option<u32> {
    let pointer = word(bytes, usize::from(packet.l4) + 18) as u32;
    let is_urgent = packet.tcp.flags.contains(TcpFlags::URG);
    is_urgent.then(|| packet.tcp.seq.wrapping_add(pointer))
}
