//! Cutting one long TCP frame into segments that fit a wire, by its headers.
//!
//! In: the frame's [`Packet`] and the payload that a segment may have. Out: which part of the
//! payload each segment has, and its headers (RFC 9293, 3.1 and 3.7). The payload itself is not
//! touched. IPv4 and IPv6, tags, options and extension headers are taken over as they are.

use std::num::NonZeroU16;

use super::checksum::{Sum, TCP_CHECKSUM, pseudo_header};
use super::{Kind, Packet, TcpFlags};
use crate::flow::FlowKey;

/// Less payload in a segment than this is not believed: Linux's TCP sends no smaller ones
/// (`TCP_MIN_SND_MSS`), and 64 KB in segments of a byte would cost 65,536 frames.
const LEAST: u16 = 48;
/// Longer headers are not taken over.
pub const HEADERS_MAX: usize = 256;

const IPV6_HEADER: usize = 40;

/// A frame being cut.
#[derive(Clone, Copy, Debug)]
pub struct Segmentation {
    key: FlowKey,
    ipv6: bool,
    l3: usize,
    l4: usize,
    payload: usize,
    end: usize,
    size: usize,
    seq: u32,
    flags: u8,
    next: usize,
    index: u16,
}

/// One segment's part of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Offset of its payload in the frame.
    pub start: usize,
    /// Bytes of payload.
    pub len: usize,
    index: u16,
    last: bool,
}

impl Segmentation {
    /// Cuts into segments of at most `size` bytes of payload; `None` for what is not TCP, opens a
    /// connection, or has more than [`HEADERS_MAX`] bytes of headers.
    pub fn new(packet: &Packet, size: NonZeroU16) -> Option<Self> {
        let payload = usize::from(packet.payload);
        if packet.kind != Kind::Tcp
            || packet.tcp.flags.contains(TcpFlags::SYN)
            || payload > HEADERS_MAX
        {
            return None;
        }
        Some(Self {
            key: packet.key,
            ipv6: packet.key.src_ip()?.is_ipv6(),
            l3: usize::from(packet.l3),
            l4: usize::from(packet.l4),
            payload,
            end: packet.end(),
            size: usize::from(size.get().max(LEAST)),
            seq: packet.tcp.seq,
            flags: packet.tcp.flags.0,
            next: payload,
            index: 0,
        })
    }

    /// Bytes of headers that each segment has, in front of its payload.
    pub fn headers(&self) -> usize {
        self.payload
    }

    /// The next segment's part. A frame without payload has one segment.
    pub fn peek(&self) -> Option<Piece> {
        let left = self.end - self.next;
        if left == 0 && self.index > 0 {
            return None;
        }
        Some(Piece {
            start: self.next,
            len: left.min(self.size),
            index: self.index,
            last: left <= self.size,
        })
    }

    /// The frame as two, of which the first has this many bytes of payload; `None` where one of them
    /// would have none.
    pub fn divide(&self, first: usize) -> Option<[Piece; 2]> {
        let (start, rest) = (self.payload, (self.end - self.payload).checked_sub(first)?);
        if first == 0 || rest == 0 {
            return None;
        }
        let front = Piece {
            start,
            len: first,
            index: 0,
            last: false,
        };
        let tail = Piece {
            start: start + first,
            len: rest,
            index: first.div_ceil(self.size) as u16,
            last: true,
        };
        Some([front, tail])
    }

    /// Moves on behind that segment.
    pub fn advance(&mut self) {
        if let Some(piece) = self.peek() {
            self.next += piece.len;
            self.index = self.index.wrapping_add(1);
        }
    }

    /// Makes the headers of a segment from those of the frame, of which `headers` is a copy;
    /// `payload` is the folded sum of the segment's payload.
    ///
    /// The sequence number counts on, FIN and PSH stay with the last segment and CWR with the
    /// first (RFC 3168, 6.1.2), each has an IPv4 identification of its own, and all lengths and
    /// checksums are right.
    pub fn write(&self, piece: &Piece, headers: &mut [u8], payload: u16) {
        if let Some((tcp, mut sum)) = self.write_headers(piece, headers) {
            sum.add(tcp);
            sum.add(&payload.to_be_bytes());
            tcp[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&sum.checksum().to_be_bytes());
        }
    }

    /// The same for a part that is to be cut and summed up further on: its checksum is partial.
    pub fn write_partial(&self, piece: &Piece, headers: &mut [u8]) {
        if let Some((tcp, sum)) = self.write_headers(piece, headers) {
            tcp[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&sum.folded().to_be_bytes());
        }
    }

    /// Everything but the TCP checksum, which becomes 0: the TCP header, and the sum of what its
    /// checksum covers besides.
    fn write_headers<'h>(
        &self,
        piece: &Piece,
        headers: &'h mut [u8],
    ) -> Option<(&'h mut [u8], Sum)> {
        debug_assert_eq!(headers.len(), self.payload);
        let (ip, tcp) = headers
            .get_mut(self.l3..self.payload)?
            .split_at_mut_checked(self.l4 - self.l3)?;
        let mut flags = TcpFlags(self.flags).0;
        if !piece.last {
            flags &= !(TcpFlags::FIN.0 | TcpFlags::PSH.0);
        }
        if piece.index > 0 {
            flags &= !TcpFlags::CWR.0;
        }
        let seq = self.seq.wrapping_add((piece.start - self.payload) as u32);
        tcp[4..8].copy_from_slice(&seq.to_be_bytes());
        tcp[13] = flags;

        let transport = tcp.len() + piece.len;
        let datagram = ip.len() + transport;
        if self.ipv6 {
            ip[4..6].copy_from_slice(&((datagram - IPV6_HEADER) as u16).to_be_bytes());
        } else {
            ip[2..4].copy_from_slice(&(datagram as u16).to_be_bytes());
            let id = u16::from_be_bytes([ip[4], ip[5]]).wrapping_add(piece.index);
            ip[4..6].copy_from_slice(&id.to_be_bytes());
            ip[10..12].fill(0);
            let mut sum = Sum::default();
            sum.add(ip);
            ip[10..12].copy_from_slice(&sum.checksum().to_be_bytes());
        }

        tcp[TCP_CHECKSUM..TCP_CHECKSUM + 2].fill(0);
        let sum = pseudo_header(&self.key, transport as u32).unwrap_or_default();
        Some((tcp, sum))
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, SlicedPacket, TransportSlice, VlanId};
    use proptest::prelude::*;

    use super::*;
    use crate::packet::checksum::verify;

    /// A long segment as a guest sends it, with tags and options.
    fn long(ipv6: bool, tags: usize, payload: &[u8], seq: u32, fin: bool) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let tag = |id| VlanId::try_new(id).expect("12 bits");
        let builder = match tags {
            0 => match ipv6 {
                true => builder.ipv6([1; 16], [2; 16], 64),
                false => builder.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64),
            },
            1 => match ipv6 {
                true => builder.single_vlan(tag(7)).ipv6([1; 16], [2; 16], 64),
                false => builder
                    .single_vlan(tag(7))
                    .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64),
            },
            _ => match ipv6 {
                true => builder
                    .double_vlan(tag(7), tag(9))
                    .ipv6([1; 16], [2; 16], 64),
                false => builder
                    .double_vlan(tag(7), tag(9))
                    .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64),
            },
        };
        let builder = builder.tcp(80, 4000, seq, 500).ack(77).psh();
        let builder = if fin { builder.fin() } else { builder };
        let builder = builder
            .options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2])
            .expect("short options");
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).expect("a packet");
        frame
    }

    /// All segments, whole.
    fn cut(frame: &[u8], size: u16) -> Option<Vec<Vec<u8>>> {
        let packet = Packet::parse(frame, frame.len());
        let mut plan = Segmentation::new(&packet, NonZeroU16::new(size)?)?;
        let mut out = Vec::new();
        while let Some(piece) = plan.peek() {
            let payload = &frame[piece.start..piece.start + piece.len];
            let mut sum = Sum::default();
            sum.add(payload);
            let mut segment = frame[..plan.headers()].to_vec();
            plan.write(&piece, &mut segment, sum.folded());
            segment.extend_from_slice(payload);
            out.push(segment);
            plan.advance();
        }
        Some(out)
    }

    proptest! {
        #[test]
        fn segments_are_the_frame_and_right_by_themselves(
            ipv6: bool, tags in 0..3usize, len in 0..65_000usize, seq: u32, fin: bool,
            size in 1..9000u16,
        ) {
            let payload: Vec<u8> = (0..len).map(|n| (n * 7 + n / 251) as u8).collect();
            let frame = long(ipv6, tags, &payload, seq, fin);
            let segments = cut(&frame, size).expect("it can be cut");
            let whole = usize::from(size.max(LEAST));
            prop_assert_eq!(segments.len(), len.div_ceil(whole).max(1));
            let (mut joined, mut ids) = (Vec::new(), Vec::new());
            for (n, segment) in segments.iter().enumerate() {
                let packet = Packet::parse(segment, segment.len());
                prop_assert_eq!(verify(&packet, [&segment[..]]), Some(true));
                prop_assert_eq!(packet.end(), segment.len());
                let sliced = SlicedPacket::from_ethernet(segment).expect("a packet");
                if let Some(ipv4) = sliced.net.as_ref().and_then(|net| net.ipv4_ref()) {
                    let header = ipv4.header().to_header();
                    prop_assert_eq!(header.calc_header_checksum(), header.header_checksum);
                    ids.push(header.identification);
                }
                let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
                    panic!("no TCP");
                };
                let last = n + 1 == segments.len();
                prop_assert_eq!(tcp.sequence_number(), seq.wrapping_add(joined.len() as u32));
                prop_assert_eq!((tcp.psh(), tcp.fin()), (last, last && fin));
                prop_assert_eq!(tcp.acknowledgment_number(), 77);
                prop_assert_eq!(tcp.options().len(), 12);
                prop_assert!(last || tcp.payload().len() == whole);
                joined.extend_from_slice(tcp.payload());
            }
            prop_assert_eq!(joined, payload);
            ids.dedup();
            prop_assert!(ipv6 || ids.len() == segments.len());
        }
    }

    #[test]
    fn the_parts_of_a_divided_frame_are_cut_like_the_whole() {
        let payload: Vec<u8> = (0..10_000u32).map(|n| (n * 7) as u8).collect();
        for (ipv6, first) in [(false, 2_896), (true, 2_896), (false, 9_999), (true, 1)] {
            let frame = long(ipv6, 1, &payload, u32::MAX - 5, true);
            let packet = Packet::parse(&frame, frame.len());
            let size = NonZeroU16::new(1448).expect("not zero");
            let plan = Segmentation::new(&packet, size).expect("it can be cut");
            let whole = cut(&frame, 1448).expect("it can be cut");
            let mut segments = Vec::new();
            for piece in plan.divide(first).expect("both have payload") {
                let mut part = frame[..plan.headers()].to_vec();
                plan.write_partial(&piece, &mut part);
                let sum = u16::from_be_bytes([
                    part[usize::from(packet.l4) + TCP_CHECKSUM],
                    part[usize::from(packet.l4) + TCP_CHECKSUM + 1],
                ]);
                let transport = (part.len() - usize::from(packet.l4) + piece.len) as u32;
                let pseudo = pseudo_header(&packet.key, transport).expect("an IP packet");
                assert_eq!(sum, pseudo.folded());
                part.extend_from_slice(&frame[piece.start..piece.start + piece.len]);
                segments.extend(cut(&part, 1448).expect("it can be cut"));
            }
            let joined = |segments: &[Vec<u8>]| -> Vec<u8> {
                let payload = segments.iter().map(|s| &s[plan.headers()..]);
                payload.flatten().copied().collect()
            };
            assert_eq!(joined(&segments), payload);
            if first % 1448 == 0 {
                // PSH is the last's alone, so nothing shows the difference.
                assert_eq!(segments, whole);
            }
        }
    }

    #[test]
    fn what_is_no_plain_segment_is_not_cut() {
        let mut frame = long(false, 0, &[1; 3000], 9, false);
        assert!(cut(&frame, 1000).is_some());
        frame[14 + 20 + 13] |= TcpFlags::SYN.0;
        assert!(cut(&frame, 1000).is_none());
        frame[23] = 17;
        assert!(cut(&frame, 1000).is_none());
        assert!(cut(&frame[..30], 1000).is_none());
    }
}
