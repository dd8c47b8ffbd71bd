//! Frames of any bytes: what is read lies in the frame, does not depend on how much of it is in the first segment, and
//! can be cut into segments that hold the same stream.

use std::num::NonZeroU16;

use dpdk_colo::flow::FlowKey;
use dpdk_colo::packet::checksum::{behind, verify};
use dpdk_colo::packet::segmentation::Segmentation;
use dpdk_colo::packet::{
    Kind, Packet, TcpFlags, TcpOptions, is_signed, reset_of, sack_edges, timestamp_echo,
};

/// The first two bytes say how much lies in the first segment and how long a segment is, the rest is the frame.
pub fn run(data: &[u8]) {
    let [cut, size, frame @ ..] = data else {
        return;
    };
    let packet = Packet::parse(frame, frame.len());
    check(&packet, frame, frame.len());
    let head = &frame[..usize::from(*cut).min(frame.len())];
    let partial = Packet::parse(head, frame.len());
    check(&partial, head, frame.len());
    if !matches!(partial.kind, Kind::Unreadable(_)) {
        let mut expected = packet;
        // An IGMP message that cannot be read is no report.
        if packet.kind == Kind::Igmp && head.len() < usize::from(packet.l4) + 8 {
            expected.kind = Kind::OtherIp;
        }
        assert_eq!(partial, expected, "more of the frame says something else");
    }
    if let Some(size) = NonZeroU16::new(48 + u16::from(*size)) {
        segments(&packet, frame, size);
    }
}

fn check(packet: &Packet, head: &[u8], frame_len: usize) {
    let (l3, l4, payload) = (packet.l3, packet.l4, packet.payload);
    assert!(l3 <= l4 && l4 <= payload, "{packet:?}");
    assert!(packet.end() <= frame_len, "{packet:?}");
    let key = packet.key;
    assert_eq!(FlowKey::from_bytes(&key.to_bytes()), Some(key));
    assert_eq!(key.reversed().reversed(), key);
    assert!(!key.to_string().contains('\n'));
    let options = packet.tcp_options(head);
    if packet.kind == Kind::Tcp {
        assert!(usize::from(payload) <= head.len(), "{packet:?}");
        assert_eq!(options.len(), usize::from(payload - l4) - 20);
    }
    let _ = TcpOptions::parse(options);
    assert!(sack_edges(options).all(|at| at + 4 <= options.len()));
    assert!(timestamp_echo(options).is_none_or(|at| at >= 6 && at + 4 <= options.len()));
    let _ = is_signed(options);
    if let Some(quoted) = packet.embedded_tcp(head) {
        assert!(usize::from(l4) + 8 <= quoted.tcp && quoted.tcp + 8 <= quoted.end);
        assert!(quoted.end <= head.len() && quoted.end <= packet.end());
    }
    if !matches!(packet.kind, Kind::Unreadable(_)) && head.len() == frame_len {
        let _ = verify(packet, [head]);
    }
    let reset = reset_of(head, frame_len);
    let is_reset = packet.kind == Kind::Tcp && packet.tcp.flags.contains(TcpFlags::RST);
    assert!(reset.is_none() || is_reset, "{packet:?}");
}

/// Cuts a segment: each part is one by itself, with a right checksum, and together they have the stream.
fn segments(packet: &Packet, frame: &[u8], size: NonZeroU16) {
    let Some(mut cutting) = Segmentation::new(packet, size) else {
        return;
    };
    let mut at = usize::from(packet.payload);
    while let Some(piece) = cutting.peek() {
        assert_eq!(piece.start, at, "each byte once, in order");
        let payload = &frame[piece.start..piece.start + piece.len];
        let mut headers = frame[..cutting.headers()].to_vec();
        cutting.write(&piece, &mut headers, behind([payload], 0));
        let bytes = [&headers[..], payload].concat();
        let part = Packet::parse(&bytes, bytes.len());
        assert_eq!((part.kind, part.key), (Kind::Tcp, packet.key));
        assert_eq!(part.payload_len as usize, piece.len);
        let before = (at - usize::from(packet.payload)) as u32;
        assert_eq!(part.tcp.seq, packet.tcp.seq.wrapping_add(before));
        assert_eq!(verify(&part, [&bytes[..]]), Some(true), "a checksum");
        at += piece.len;
        cutting.advance();
    }
    assert_eq!(at, packet.end(), "all of it");
}
