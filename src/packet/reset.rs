//! Which frames are TCP RSTs, found out by a few bytes of those that are not.

use super::parse::{ETHERNET_HEADER, IPV4_HEADER, IPV6_HEADER};
use super::{Kind, Packet, TcpFlags};
use crate::proto::ether;
use crate::proto::ip::{ICMPV6, TCP, UDP};

/// Offset of the control bits in the TCP header (RFC 9293, 3.1).
const CONTROL_BITS: usize = 13;
/// Version 4 and a header without options.
const PLAIN_V4: u8 = 0x45;

/// What [`Packet::parse`] reads of a frame, if it is a TCP segment with RST.
#[inline]
pub fn reset_of(head: &[u8], frame_len: usize) -> Option<Packet> {
    if may_be_reset(head) {
        parsed(head, frame_len)
    } else {
        None
    }
}

/// False for a frame that is certainly no RST.
#[inline]
fn may_be_reset(head: &[u8]) -> bool {
    const V4: usize = ETHERNET_HEADER + IPV4_HEADER;
    const V6: usize = ETHERNET_HEADER + IPV6_HEADER;
    let has_bit = |at: usize| {
        let bits = head.get(at + CONTROL_BITS).copied().unwrap_or(0);
        TcpFlags(bits).contains(TcpFlags::RST)
    };
    let Some(h) = head.first_chunk::<V4>() else {
        return false;
    };
    match u16::from_be_bytes([h[12], h[13]]) {
        ether::IPV4 if h[ETHERNET_HEADER] == PLAIN_V4 => h[23] == TCP && has_bit(V4),
        ether::IPV4 => true,
        ether::IPV6 => match h[20] {
            TCP => has_bit(V6),
            UDP | ICMPV6 => false,
            _ => true,
        },
        other => matches!(other, ether::TAG | ether::SERVICE_TAG),
    }
}

#[inline(never)]
fn parsed(head: &[u8], frame_len: usize) -> Option<Packet> {
    let packet = Packet::parse(head, frame_len);
    let is_reset = packet.kind == Kind::Tcp && packet.tcp.flags.contains(TcpFlags::RST);
    is_reset.then_some(packet)
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    /// Frames of every kind that the parser distinguishes, with every value of the control bits.
    #[test]
    fn a_reset_is_found_wherever_the_parser_finds_it() {
        let mut frames = Vec::new();
        for tags in 0..3u16 {
            for v6 in [false, true] {
                for tcp in [false, true] {
                    let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
                    let vlan = |id: u16| id.try_into().expect("an id");
                    let mut frame = Vec::new();
                    macro_rules! write {
                        ($link:expr) => {{
                            let ip = if v6 {
                                $link.ipv6([0x20; 16], [0x3f; 16], 64)
                            } else {
                                $link.ipv4([192, 0, 2, 1], [198, 51, 100, 7], 64)
                            };
                            if tcp {
                                let tcp = ip.tcp(80, 40_001, 7, 1024);
                                tcp.write(&mut frame, b"abc").expect("a frame");
                            } else {
                                let udp = ip.udp(53, 40_002);
                                udp.write(&mut frame, b"abc").expect("a frame");
                            }
                        }};
                    }
                    match tags {
                        0 => write!(link),
                        1 => write!(link.single_vlan(vlan(7))),
                        _ => write!(link.double_vlan(vlan(7), vlan(8))),
                    }
                    frames.push(frame);
                }
            }
        }
        let (mut found, mut other) = (0, 0);
        for mut frame in frames {
            let l4 = usize::from(Packet::parse(&frame, frame.len()).l4);
            for at in [14, 20, 23, l4 + CONTROL_BITS] {
                if at >= frame.len() {
                    continue;
                }
                let was = frame[at];
                for value in 0..=255 {
                    frame[at] = value;
                    let expected = parsed(&frame, frame.len());
                    assert_eq!(reset_of(&frame, frame.len()), expected, "{frame:02x?}");
                    match expected {
                        Some(_) => found += 1,
                        None => other += 1,
                    }
                }
                frame[at] = was;
            }
            for head in 0..frame.len() {
                assert_eq!(
                    reset_of(&frame[..head], frame.len()),
                    parsed(&frame[..head], frame.len())
                );
            }
        }
        assert!(found > 500 && other > 500, "{found} and {other}");
    }
}
