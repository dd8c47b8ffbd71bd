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
        debug_assert_eq!(headers.len(), self.payload);
        let Some((ip, tcp)) = headers
            .get_mut(self.l3..self.payload)
            .and_then(|h| h.split_at_mut_checked(self.l4 - self.l3))
        else {
            return;
        };
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
        let mut sum = pseudo_header(&self.key, transport as u32).unwrap_or_default();
        sum.add(tcp);
        sum.add(&payload.to_be_bytes());
        tcp[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&sum.checksum().to_be_bytes());
    }
}
