//! Whether what left is what the VM sent.
//!
//! A node may lower a segment's window (the smaller of both VMs' wins) and leaves checksums to the
//! port, so these fields are not looked at; every other byte is.

use dpdk_colo::packet::{Kind, Packet};

/// Offsets in a frame of the fields that may change on the way.
fn changeable(packet: &Packet, bytes: &[u8]) -> [Option<(usize, usize)>; 3] {
    let (l3, l4) = (usize::from(packet.l3), usize::from(packet.l4));
    let v4 = l4 > l3 && bytes.get(l3).is_some_and(|first| first >> 4 == 4);
    let ip = v4.then_some((l3 + 10, l3 + 12));
    match packet.kind {
        Kind::Tcp => [ip, Some((l4 + 14, l4 + 16)), Some((l4 + 16, l4 + 18))],
        Kind::Udp => [ip, Some((l4 + 6, l4 + 8)), None],
        _ => [ip, None, None],
    }
}

/// Offset of the first byte in which two frames differ that may not; `None` where they agree.
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
