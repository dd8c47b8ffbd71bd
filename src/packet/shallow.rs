//! Shallow parse: the flow of a plain frame, as a NIC's receive-side scaling reads it.
//!
//! [`Packet::parse`](super::Packet::parse) decides what a frame is, and the comparator uses it. To choose a frame's
//! core, its flow is enough. A shallow parse reads the same flow as `parse`, or none.

use super::counterpart::{PORTS, PORTS_AND_LENGTH, double, network_differs};
use super::parse::{ETHERNET_HEADER, TCP_HEADER, UDP_HEADER, V4, V6};
use crate::flow::{Endpoints, FlowClass, FlowKey, Vlans};
use crate::proto::ip::{TCP, UDP};

/// What `then` makes of the flow of an untagged frame that carries TCP or UDP right behind an IPv4
/// header without options or an IPv6 header, and contradicts itself nowhere. Of any other frame
/// nothing is said.
///
/// A function goes in and not the flow comes out because each kind of frame then has code of its own
/// all the way.
#[inline(always)]
pub(crate) fn shallow_parse<T>(
    head: &[u8],
    frame_len: usize,
    then: impl Fn(FlowKey) -> T,
) -> Option<T> {
    // The shortest frame that an Ethernet carries has as much of IPv4, so no shorter ones are tried.
    let h = head.first_chunk::<{ V4 + TCP_HEADER }>()?;
    // EtherType, version and, of IPv4, the header's length.
    let word = u32::from_le_bytes([h[12], h[13], h[14], 0]);
    if word == u32::from_le_bytes([0x08, 0x00, 0x45, 0]) {
        let end = ETHERNET_HEADER + u16_at(h, 16);
        let fragment = u16_at(h, 20) & 0x3fff;
        if end > frame_len || fragment != 0 {
            return None;
        }
        let ends = Endpoints::v4([h[26], h[27], h[28], h[29]], [h[30], h[31], h[32], h[33]]);
        transport::<V4, T>(&h[V4..], head.len(), ends, h[23], end, then)
    } else if word & 0xf0_ffff == u32::from_le_bytes([0x86, 0xdd, 0x60, 0]) {
        let h = head.first_chunk::<{ V6 + TCP_HEADER }>()?;
        let end = V6 + u16_at(h, 18);
        if end > frame_len {
            return None;
        }
        let ends = Endpoints::v6(*h[22..].first_chunk()?, *h[38..].first_chunk()?);
        transport::<V6, T>(&h[V6..], head.len(), ends, h[20], end, then)
    } else {
        None
    }
}

/// The flow by a transport header `h` at offset `L4` of a datagram that ends at `end`.
#[inline(always)]
fn transport<const L4: usize, T>(
    h: &[u8],
    head_len: usize,
    ends: Endpoints,
    protocol: u8,
    end: usize,
    then: impl Fn(FlowKey) -> T,
) -> Option<T> {
    let (source, destination) = (u16_at(h, 0) as u16, u16_at(h, 2) as u16);
    let key = |class| FlowKey::new(ends, class, source, destination, Vlans::default());
    if protocol == TCP {
        let header = usize::from(h[12] >> 4) * 4;
        let fits = header >= TCP_HEADER && L4 + header <= end.min(head_len);
        fits.then(|| then(key(FlowClass::Tcp)))
    } else if protocol == UDP {
        let length = u16_at(h, 4);
        let fits = length >= UDP_HEADER && L4 + length <= end;
        fits.then(|| then(key(FlowClass::Udp)))
    } else {
        None
    }
}

/// Whether another frame is of the flow of a frame that [`shallow_parse`] has read, and would be read the
/// same way. Each frame is given by its first segment and the bytes in all its segments. False says
/// nothing.
#[inline(always)]
pub(crate) fn is_of_the_same_flow(
    (plain, plain_len): (&[u8], usize),
    (other, other_len): (&[u8], usize),
) -> bool {
    if other.len() < plain.len() || other_len < plain_len {
        return false;
    }
    if plain.get(12) == Some(&0x08) {
        is_same::<V4, { V4 + TCP_HEADER }>(plain, other, 23)
    } else {
        is_same::<V6, { V6 + TCP_HEADER }>(plain, other, 20)
    }
}

/// With the protocol's place in the header.
#[inline(always)]
fn is_same<const L4: usize, const END: usize>(plain: &[u8], other: &[u8], protocol: usize) -> bool {
    let (Some(a), Some(b)) = (plain.first_chunk::<END>(), other.first_chunk::<END>()) else {
        return false;
    };
    let differ = double(a, L4) ^ double(b, L4);
    let transport = if a[protocol] == TCP {
        differ & PORTS | u64::from((a[L4 + 12] ^ b[L4 + 12]) >> 4)
    } else {
        differ & PORTS_AND_LENGTH
    };
    network_differs::<L4, END>(a, b) | transport == 0
}

#[inline(always)]
fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;
    use crate::packet::{Kind, Packet};

    fn plain() -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for payload in [&b""[..], b"0123456789abcdef"] {
            let mut write = |v6: bool, tcp: bool| {
                let mut frame = Vec::new();
                let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
                let ip = if v6 {
                    link.ipv6([0x20; 16], [0x3f; 16], 64)
                } else {
                    link.ipv4([192, 0, 2, 1], [198, 51, 100, 7], 64)
                };
                if tcp {
                    let tcp = ip.tcp(80, 40_001, 7, 1024);
                    tcp.write(&mut frame, payload).expect("a frame");
                } else {
                    let udp = ip.udp(53, 40_002);
                    udp.write(&mut frame, payload).expect("a frame");
                }
                frame.resize(frame.len().max(60), 0);
                frames.push(frame);
            };
            for (v6, tcp) in [(false, true), (false, false), (true, true), (true, false)] {
                write(v6, tcp);
            }
        }
        frames
    }

    fn flow_of(head: &[u8], len: usize) -> Option<FlowKey> {
        shallow_parse(head, len, |flow| flow)
    }

    fn as_parsed(head: &[u8], len: usize) -> Option<FlowKey> {
        let packet = Packet::parse(head, len);
        matches!(packet.kind, Kind::Tcp | Kind::Udp).then_some(packet.key)
    }

    #[test]
    fn plain_frames_are_read() {
        for frame in plain() {
            let key = flow_of(&frame, frame.len());
            // IPv6 with UDP may be too short to be tried.
            if key.is_some() || frame.len() >= V6 + TCP_HEADER || frame[12] == 8 {
                assert_eq!(key, as_parsed(&frame, frame.len()));
                assert!(key.is_some());
            }
        }
    }

    /// Every value of every byte of one frame's headers beside another of the same flow and of others.
    #[test]
    fn what_is_of_the_same_flow_reads_the_same() {
        let frames = plain();
        let (mut same, mut left) = (0, 0);
        let mut check = |plain: &[u8], other: &[u8], len: usize| {
            let Some(flow) = flow_of(plain, plain.len()) else {
                return;
            };
            if is_of_the_same_flow((plain, plain.len()), (other, len)) {
                assert_eq!(flow_of(other, len), Some(flow), "{plain:02x?} {other:02x?}");
                same += 1;
            } else {
                left += 1;
            }
        };
        for plain in &frames {
            for mut other in frames.clone() {
                for at in 12..other.len().min(V6 + TCP_HEADER) {
                    let was = other[at];
                    for value in 0..=255 {
                        other[at] = value;
                        check(plain, &other, other.len());
                    }
                    other[at] = was;
                }
                for head in 0..other.len() {
                    check(plain, &other[..head], other.len());
                    check(plain, &other[..head], head);
                }
            }
        }
        assert!(same > 10_000 && left > 10_000, "{same} same, {left} left");
    }

    /// Every value of every byte of the headers, every length of the frame and of its first segment.
    #[test]
    fn whatever_is_read_is_what_the_parser_reads() {
        let check = |head: &[u8], len: usize| {
            let key = flow_of(head, len);
            if key.is_some() {
                assert_eq!(key, as_parsed(head, len), "{head:02x?}, {len} bytes");
            }
            key.is_some()
        };
        let (mut read, mut left) = (0, 0);
        for mut frame in plain() {
            let all = frame.len();
            for at in 12..all.min(V6 + TCP_HEADER) {
                let was = frame[at];
                for value in 0..=255 {
                    frame[at] = value;
                    match check(&frame, all) {
                        true => read += 1,
                        false => left += 1,
                    }
                }
                frame[at] = was;
            }
            for head in 0..all {
                for len in head..=all {
                    check(&frame[..head], len);
                }
            }
        }
        assert!(read > 10_000 && left > 1000, "{read} read, {left} left");
    }
}
