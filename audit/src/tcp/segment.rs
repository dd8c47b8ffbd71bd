//! One segment's place in the sequence space, and what it says beside its bytes.

use dpdk_colo::packet::serial::before;
use dpdk_colo::packet::{Packet, TcpFlags};

use crate::extras;

/// Sequence number of the first byte of payload.
pub fn payload_at(packet: &Packet) -> u32 {
    let syn = packet.tcp.flags.contains(TcpFlags::SYN);
    packet.tcp.seq.wrapping_add(u32::from(syn))
}

/// The payload, as far as the frame has it.
pub fn payload<'a>(packet: &Packet, bytes: &'a [u8]) -> &'a [u8] {
    let end = packet.end().min(bytes.len());
    bytes
        .get(usize::from(packet.payload)..end)
        .unwrap_or_default()
}

/// The sequence numbers that a segment takes behind its SYN, a FIN's included: the first, and the one behind the last.
pub(super) fn numbers(packet: &Packet, payload: &[u8]) -> (u32, u32) {
    let flags = packet.tcp.flags;
    let at = payload_at(packet);
    let fin = flags.contains(TcpFlags::FIN) && !flags.contains(TcpFlags::RST);
    let length = match flags.contains(TcpFlags::RST) {
        true => 0,
        false => payload.len() as u32,
    };
    (at, at.wrapping_add(length).wrapping_add(fin.into()))
}

/// What it acknowledges, if it has ACK.
pub(super) fn acknowledged(packet: &Packet) -> Option<u32> {
    let tcp = packet.tcp;
    tcp.flags.contains(TcpFlags::ACK).then_some(tcp.ack)
}

/// The later of a known number and another.
pub(super) fn later(known: Option<u32>, number: u32) -> u32 {
    match known {
        Some(known) if before(number, known) => known,
        _ => number,
    }
}

/// Whether an end system drops it for want of an ACK.
pub(super) fn lacks_ack(packet: &Packet) -> bool {
    let needed = TcpFlags::SYN | TcpFlags::RST | TcpFlags::ACK;
    !packet.tcp.flags.intersects(needed)
}

/// Position, length and control bits of a segment that lacks an ACK, where positions count from `base`.
pub(super) fn extent(packet: &Packet, base: u32) -> (u32, u32, u8) {
    let bits = (TcpFlags::FIN | TcpFlags::URG).0;
    let at = payload_at(packet).wrapping_sub(base);
    (at, packet.payload_len, packet.tcp.flags.0 & bits)
}

/// IPv4 options or extension headers, and TCP options that an end system acts on. The first byte of each is the layer.
pub(super) fn options(packet: &Packet, bytes: &[u8]) -> Vec<Vec<u8>> {
    let named = |layer: u8| move |option: Vec<u8>| [&[layer][..], &option].concat();
    let mut all: Vec<Vec<u8>> = extras::network(packet, bytes)
        .into_iter()
        .map(named(3))
        .collect();
    if !packet.tcp.flags.contains(TcpFlags::SYN) {
        all.extend(extras::signals(packet, bytes).into_iter().map(named(4)));
    }
    all
}

#[cfg(test)]
mod tests {
    use colo_testkit::packets::Segment;

    use super::*;
    use crate::tcp::tests::parsed;

    #[test]
    fn a_syn_and_a_fin_take_a_number_and_a_rst_s_payload_none() {
        let with = |change: fn(&mut Segment)| {
            let mut segment = Segment {
                seq: u32::MAX,
                payload: b"abc".to_vec(),
                ..Segment::default()
            };
            change(&mut segment);
            let (packet, bytes) = parsed(&segment);
            assert_eq!(payload(&packet, &bytes), b"abc");
            numbers(&packet, payload(&packet, &bytes))
        };
        assert_eq!(with(|_| {}), (u32::MAX, 2));
        assert_eq!(with(|segment| segment.syn = true), (0, 3));
        assert_eq!(with(|segment| segment.fin = true), (u32::MAX, 3));
        assert_eq!(with(|segment| segment.rst = true), (u32::MAX, u32::MAX));
    }

    #[test]
    fn a_frame_that_is_cut_off_has_the_payload_that_is_there() {
        let (packet, bytes) = parsed(&Segment {
            payload: b"abc".to_vec(),
            ..Segment::default()
        });
        assert_eq!(payload(&packet, &bytes[..bytes.len() - 1]), b"ab");
        assert_eq!(payload(&packet, &bytes[..10]), b"");
    }

    #[test]
    fn the_later_number_is_found_over_the_wrap() {
        assert_eq!(later(None, 7), 7);
        assert_eq!(later(Some(u32::MAX), 1), 1);
        assert_eq!(later(Some(1), u32::MAX), 1);
    }

    #[test]
    fn only_a_syn_or_a_rst_may_lack_an_ack() {
        let lacks = |ack, syn, rst| {
            let (packet, _) = parsed(&Segment {
                ack,
                syn,
                rst,
                ..Segment::default()
            });
            lacks_ack(&packet)
        };
        assert!(lacks(None, false, false));
        assert!(!lacks(Some(1), false, false));
        assert!(!lacks(None, true, false));
        assert!(!lacks(None, false, true));
    }

    #[test]
    fn the_options_of_a_syn_are_judged_elsewhere() {
        let with = |syn| {
            let (packet, bytes) = parsed(&Segment {
                ack: Some(1),
                syn,
                options: vec![253, 4, 1, 2],
                ..Segment::default()
            });
            options(&packet, &bytes)
        };
        assert_eq!(with(false), [[4, 253, 4, 1, 2]]);
        assert!(with(true).is_empty());
    }
}
