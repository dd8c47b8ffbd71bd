//! Checks that a frame left as the VM sent it.
//!
//! A node may lower a segment's window to the smaller of both VMs', and leaves checksums to the port. So these fields
//! are not compared. It may also raise a TSval and lower the sequence number of a bare acknowledgment; [`crate::tcp`]
//! judges whether it had to. Every other byte is compared.

use dpdk_colo::packet::{Kind, Packet, TcpFlags};

/// Option kinds: TSval and TSecr (RFC 7323), TCP-MD5 (RFC 2385), TCP-AO (RFC 5925).
const TIMESTAMPS: u8 = 8;
const SIGNATURES: [u8; 2] = [19, 29];

/// The TCP options of a frame with their offsets in it.
fn options<'a>(packet: &Packet, bytes: &'a [u8]) -> impl Iterator<Item = (usize, &'a [u8])> {
    let mut at = usize::from(packet.l4) + 20;
    let end = usize::from(packet.payload).min(bytes.len());
    std::iter::from_fn(move || {
        while at < end {
            let len = match bytes[at] {
                0 => return None,
                1 => {
                    at += 1;
                    continue;
                }
                _ => usize::from(*bytes.get(at + 1)?),
            };
            let begin = at;
            at += len;
            return (len >= 2 && at <= end).then(|| (begin, &bytes[begin..at]));
        }
        None
    })
}

/// Offset of a segment's TSval.
fn stamp_at(packet: &Packet, bytes: &[u8]) -> Option<usize> {
    options(packet, bytes)
        .find(|(_, option)| option[0] == TIMESTAMPS && option.len() == 10)
        .map(|(at, _)| at + 2)
}

/// A segment's TSval.
pub fn stamp(packet: &Packet, bytes: &[u8]) -> Option<u32> {
    let at = stamp_at(packet, bytes)?;
    let field = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(field.try_into().ok()?))
}

/// Whether a segment bears a signature over its header.
pub fn is_signed(packet: &Packet, bytes: &[u8]) -> bool {
    options(packet, bytes).any(|(_, option)| SIGNATURES.contains(&option[0]))
}

/// Whether a segment is a bare acknowledgment.
pub fn is_bare_ack(packet: &Packet) -> bool {
    let silent = TcpFlags::PSH | TcpFlags::ECE | TcpFlags::CWR;
    packet.payload_len == 0 && packet.tcp.flags.0 & !silent.0 == TcpFlags::ACK.0
}

/// Offsets in a frame of the fields that may change on the way.
fn changeable(packet: &Packet, bytes: &[u8]) -> [Option<(usize, usize)>; 5] {
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    let v4 = l4 > l3 && bytes.get(l3).is_some_and(|first| first >> 4 == 4);
    let ip = v4.then_some((l3 + 10, l3 + 12));
    match packet.kind {
        Kind::Tcp => [
            ip,
            Some((l4 + 14, l4 + 16)),
            Some((l4 + 16, l4 + 18)),
            stamp_at(packet, bytes).map(|at| (at, at + 4)),
            is_bare_ack(packet).then_some((l4 + 4, l4 + 8)),
        ],
        Kind::Udp => [ip, Some((l4 + 6, l4 + 8)), None, None, None],
        _ => [ip, None, None, None, None],
    }
}

/// Offset of the first byte in which two frames must not differ and do; `None` if there is none.
pub fn first_difference(p: &[u8], packet: &Packet, out: &[u8]) -> Option<usize> {
    if p == out {
        return None;
    }
    let changeable = changeable(packet, p);
    let may = |at: usize| {
        let within = |(from, to): &(usize, usize)| (*from..*to).contains(&at);
        changeable.iter().flatten().any(within)
    };
    let common = p.len().min(out.len());
    (0..common)
        .find(|&at| p[at] != out[at] && !may(at))
        .or((p.len() != out.len()).then_some(common))
}
