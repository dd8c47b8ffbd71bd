//! Segments in another place of their stream.

use dpdk_colo::packet::serial::{at_or_before, before, distance};
use dpdk_colo::packet::{Packet, TcpFlags};

use super::connections::Mapped;
use super::traffic::Sent;

/// What of a segment's sequence numbers is left behind a number, from its first one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// All of it.
    Whole,
    /// What is behind this number of bytes of payload. A SYN in front of them is not.
    Part(u32),
    /// Nothing but its acknowledgment.
    Nothing,
}

impl Rest {
    /// What is left of a segment that begins at `seq` behind `horizon`.
    pub fn behind(horizon: Option<u32>, seq: u32, packet: &Packet) -> Self {
        let Some(horizon) = horizon else {
            return Self::Whole;
        };
        let end = seq.wrapping_add(packet.sequence_len());
        if packet.sequence_len() == 0 || at_or_before(horizon, seq) {
            return Self::Whole;
        }
        if at_or_before(end, horizon) {
            return Self::Nothing;
        }
        let syn = u32::from(packet.tcp.flags.contains(TcpFlags::SYN));
        let first = seq.wrapping_add(syn);
        Self::Part(distance(first, horizon).max(0).cast_unsigned())
    }
}

/// A segment with its numbers moved, and cut in front. `horizon` is its number if nothing is left of it.
pub fn moved(sent: &Sent, by: Mapped, rest: Rest, horizon: u32) -> Vec<u8> {
    let packet = &sent.packet;
    let mut bytes = sent.bytes.clone();
    // The frame has no more than its own bytes: a padding would count as payload of a longer one.
    bytes.truncate(packet.end());
    let tcp = usize::from(packet.l4);
    let syn = packet.tcp.flags.contains(TcpFlags::SYN);
    let seq = packet.tcp.seq.wrapping_add(match (syn, rest) {
        // A SYN keeps its number: the comparator counts from it.
        (true, Rest::Whole) => 0,
        _ => by.seq,
    });
    let (seq, cut, cleared) = match rest {
        Rest::Whole => (seq, 0, 0),
        Rest::Part(cut) => {
            let first = seq.wrapping_add(u32::from(syn));
            (first.wrapping_add(cut), cut as usize, TcpFlags::SYN.0)
        }
        Rest::Nothing => {
            let controls = TcpFlags::SYN.0 | TcpFlags::FIN.0 | TcpFlags::PSH.0;
            (horizon, packet.payload_len as usize, controls)
        }
    };
    write(&mut bytes, tcp + 4, seq.to_be_bytes());
    let ack = packet.tcp.ack.wrapping_add(by.ack);
    if packet.tcp.flags.contains(TcpFlags::ACK) {
        write(&mut bytes, tcp + 8, ack.to_be_bytes());
    }
    bytes[tcp + 13] &= !cleared;
    if syn && cleared != 0 {
        // Only a SYN has its options; No-Operation (1) says nothing.
        bytes[tcp + 20..usize::from(packet.payload)].fill(1);
    }
    if cut > 0 {
        let payload = usize::from(packet.payload);
        bytes.drain(payload..payload + cut);
        shorten(&mut bytes, packet, cut);
    }
    bytes
}

fn write(bytes: &mut [u8], at: usize, value: [u8; 4]) {
    bytes[at..at + 4].copy_from_slice(&value);
}

/// Makes the IP header's length fit.
fn shorten(bytes: &mut [u8], packet: &Packet, by: usize) {
    let ip = usize::from(packet.l3);
    let at = match bytes[ip] >> 4 {
        4 => ip + 2,
        _ => ip + 4,
    };
    let length = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let length = length.saturating_sub(u16::try_from(by).unwrap_or(u16::MAX));
    bytes[at..at + 2].copy_from_slice(&length.to_be_bytes());
}

/// Whether two ranges of sequence numbers have one in common.
pub fn meet((a, a_end): (u32, u32), (b, b_end): (u32, u32)) -> bool {
    before(a, b_end) && before(b, a_end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use colo_testkit::packets::{self, Ends, Segment};

    fn sent(seq: u32, syn: bool, fin: bool, payload: &[u8]) -> Sent {
        let ends = Ends {
            peer: 2,
            port: 80,
            peer_port: 4000,
            ..Ends::default()
        };
        let segment = Segment {
            seq,
            ack: Some(7),
            syn,
            fin,
            payload: payload.to_vec(),
            ..Segment::default()
        };
        let mut bytes = packets::tcp(&ends, &segment, 0);
        bytes.resize(bytes.len().max(60), 0);
        Sent {
            at: 1,
            packet: Packet::parse(&bytes, bytes.len()),
            bytes,
        }
    }

    #[test]
    fn a_segment_is_cut_at_the_horizon() {
        let by = Mapped {
            connection: 0,
            seq: 1000,
            ack: 3,
        };
        for (syn, fin, horizon, seq, payload, flags) in [
            (false, false, None, 1100, &b"abcdef"[..], 0x10),
            (false, false, Some(1100), 1100, b"abcdef", 0x10),
            (false, false, Some(1102), 1102, b"cdef", 0x10),
            (false, true, Some(1106), 1106, b"", 0x11),
            (false, true, Some(1107), 1107, b"", 0x10),
            (false, false, Some(1106), 1106, b"", 0x10),
            (true, false, Some(1101), 1101, b"abcdef", 0x10),
            (true, false, Some(1103), 1103, b"cdef", 0x10),
        ] {
            let sent = sent(100, syn, fin, b"abcdef");
            let rest = Rest::behind(horizon, 1100, &sent.packet);
            let bytes = moved(&sent, by, rest, horizon.unwrap_or(0));
            let packet = Packet::parse(&bytes, bytes.len());
            let left = &bytes[usize::from(packet.payload)..packet.end()];
            assert_eq!(
                (packet.tcp.seq, left, packet.tcp.flags.0, packet.tcp.ack),
                (seq, payload, flags, 10),
                "{horizon:?}"
            );
        }
    }

    #[test]
    fn a_bare_acknowledgment_and_a_whole_syn_stay() {
        let by = Mapped {
            connection: 0,
            seq: 1000,
            ack: 0,
        };
        let bare = sent(100, false, false, b"");
        let rest = Rest::behind(Some(9000), 1100, &bare.packet);
        assert_eq!(rest, Rest::Whole);
        let syn = sent(100, true, false, b"");
        let bytes = moved(&syn, by, Rest::Whole, 0);
        assert_eq!(Packet::parse(&bytes, bytes.len()).tcp.seq, 100);
    }
}
