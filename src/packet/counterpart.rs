//! Whether two frames are the same segment or datagram, by a few words of their headers.
//!
//! What both VMs may choose alike or not is left out: the IP identification, hop limit, traffic
//! class and flow label, and all checksums. TCP's own fields are read from the other frame.

use super::extras::ALIGNED_STAMPS;
use super::parse::{
    ETHERNET_HEADER, Form, Packet, TCP_HEADER, Tcp, UDP_HEADER, V4, V6, tcp_fields, u16_at,
};

/// From the EtherType on: that, version and header length, total length.
const V4_LENGTHS: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0, 0xff, 0xff, 0, 0]);
/// From the fragment word on: more-fragments and the offset, the protocol.
const V4_PROTOCOL: u64 = u64::from_ne_bytes([0x3f, 0xff, 0, 0xff, 0, 0, 0, 0]);
/// From the EtherType on: that, the version, the payload's length.
const V6_LENGTHS: u64 = u64::from_ne_bytes([0xff, 0xff, 0xf0, 0, 0, 0, 0xff, 0xff]);

/// From the UDP header on: both ports and the length.
pub(super) const PORTS_AND_LENGTH: u64 =
    u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);

/// From the 13th byte of the TCP header on: the data offset, and SYN. Options of a SYN are no extras, so a SYN and
/// another segment with the same options are not read alike.
const OFFSET_AND_SYN: u16 = 0xf002;
/// From the TCP header on: both ports.
pub(super) const PORTS: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);

/// What two segments that are the same must have in common of the first 8 bytes of their TCP headers.
#[derive(Clone, Copy)]
pub(crate) struct Common(u64);

impl Common {
    /// Both ports.
    pub(crate) const PORTS: Self = Self(PORTS);
    /// Both ports and the sequence number.
    pub(crate) const PORTS_AND_SEQUENCE: Self = Self(u64::MAX);
}

impl Packet {
    /// Whether [`Packet::parse`] reads another frame like this one in all but the TCP fields, of which those
    /// in `common` are equal. `head` is the first segment that this packet was read from, `other` the other
    /// frame's, which has `other_len` bytes in all. False says that the other frame is to be parsed: it is
    /// different, or not TCP or UDP right behind an IP header without options or extension headers.
    #[inline(always)]
    pub(crate) fn has_counterpart(
        &self,
        head: &[u8],
        other: &[u8],
        other_len: usize,
        common: Common,
    ) -> bool {
        if self.end() > other_len {
            return false;
        }
        match self.form {
            Form::Segment4 => self.is_segment::<V4, { V4 + TCP_HEADER }, { V4 + TCP_HEADER + 4 }>(
                head, other, common,
            ),
            Form::Segment6 => self.is_segment::<V6, { V6 + TCP_HEADER }, { V6 + TCP_HEADER + 4 }>(
                head, other, common,
            ),
            Form::Datagram4 => is_datagram::<V4, { V4 + UDP_HEADER }>(head, other, other_len),
            Form::Datagram6 => is_datagram::<V6, { V6 + UDP_HEADER }>(head, other, other_len),
            Form::Other | Form::Extras => false,
        }
    }

    /// The TCP fields of a counterpart that is a segment; `head` is its first segment. Of a datagram they mean
    /// nothing.
    #[inline(always)]
    pub(crate) fn counterpart_fields(&self, head: &[u8]) -> Tcp {
        let header = head.get(usize::from(self.l4)..);
        let fields = header.and_then(<[u8]>::first_chunk::<TCP_HEADER>);
        fields.map_or_else(Tcp::default, |h| tcp_fields(h))
    }

    /// Only a segment without options or with aligned time stamps (RFC 7323, appendix A) has a counterpart here: both
    /// then say nothing that would have to be compared. `WORD` ends with the first four bytes behind the header.
    #[inline(always)]
    fn is_segment<const L4: usize, const END: usize, const WORD: usize>(
        &self,
        head: &[u8],
        other: &[u8],
        common: Common,
    ) -> bool {
        let (Some(a), Some(b)) = (head.first_chunk::<WORD>(), other.first_chunk::<WORD>()) else {
            return false;
        };
        let payload = usize::from(self.payload);
        let offset_and_syn = (u16_at(a, L4 + 12) ^ u16_at(b, L4 + 12)) & OFFSET_AND_SYN;
        let options = match payload - END {
            0 => 0,
            ALIGNED_STAMPS if payload <= other.len() => word(a, END) ^ word(b, END),
            _ => return false,
        };
        let differs = network_differs::<L4, WORD>(a, b)
            | (double(a, L4) ^ double(b, L4)) & common.0
            | u64::from(options)
            | u64::from(offset_and_syn);
        differs == 0
    }
}

#[inline(always)]
fn is_datagram<const L4: usize, const END: usize>(
    head: &[u8],
    other: &[u8],
    other_len: usize,
) -> bool {
    let (Some(a), Some(b)) = (head.first_chunk::<END>(), other.first_chunk::<END>()) else {
        return false;
    };
    // The IP datagram may be longer than the UDP one.
    let end = if L4 == V4 {
        ETHERNET_HEADER + usize::from(u16_at(a, 16))
    } else {
        V6 + usize::from(u16_at(a, 18))
    };
    // Ports and length; the checksum behind them is left out.
    let own = (double(a, L4) ^ double(b, L4)) & PORTS_AND_LENGTH;
    let differs = network_differs::<L4, END>(a, b) | own;
    differs == 0 && end <= other_len
}

/// Not 0 where EtherTypes, lengths, fragment words, protocols or addresses of two IP datagrams differ.
#[inline(always)]
pub(super) fn network_differs<const L4: usize, const END: usize>(
    a: &[u8; END],
    b: &[u8; END],
) -> u64 {
    let differ = |at: usize| double(a, at) ^ double(b, at);
    if L4 == V4 {
        let addresses = differ(26);
        differ(12) & V4_LENGTHS | differ(20) & V4_PROTOCOL | addresses
    } else {
        let addresses = differ(22) | differ(30) | differ(38) | differ(46);
        differ(12) & V6_LENGTHS | u64::from(a[20] ^ b[20]) | addresses
    }
}

#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(word)
}

#[inline(always)]
pub(super) fn double(bytes: &[u8], at: usize) -> u64 {
    let mut double = [0; 8];
    double.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(double)
}
