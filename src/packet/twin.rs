//! Two frames that are the same segment or datagram, told by a few words of their headers.
//!
//! What both VMs may choose alike or not is left out: the IP identification, hop limit, traffic
//! class and flow label, and all checksums. TCP's own fields are read from the other frame.

use super::extras::ALIGNED_STAMPS;
use super::parse::{
    ETHERNET_HEADER, IPV4_HEADER, IPV6_HEADER, Kind, Packet, TCP_HEADER, Tcp, UDP_HEADER,
    tcp_fields, u16_at,
};

pub(super) const V4: usize = ETHERNET_HEADER + IPV4_HEADER;
pub(super) const V6: usize = ETHERNET_HEADER + IPV6_HEADER;

/// From the EtherType on: that, version and header length, total length.
const V4_LENGTHS: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0, 0xff, 0xff, 0, 0]);
/// From the fragment word on: more-fragments and the offset, the protocol.
const V4_PROTOCOL: u64 = u64::from_ne_bytes([0x3f, 0xff, 0, 0xff, 0, 0, 0, 0]);
/// From the EtherType on: that, the version, the payload's length.
const V6_LENGTHS: u64 = u64::from_ne_bytes([0xff, 0xff, 0xf0, 0, 0, 0, 0xff, 0xff]);

/// From the UDP header on: both ports and the length.
pub(super) const PORTS_AND_LENGTH: u64 =
    u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);

impl Packet {
    /// The TCP fields (of a datagram none) of another frame that [`Packet::parse`] reads like this
    /// packet in all else. `head` is the first segment that this packet was read from, `other` the
    /// other frame's, which has `other_len` bytes in all. `None` says that the other frame is to be
    /// parsed: it is different, or not TCP or UDP right behind an IP header without options or
    /// extension headers.
    #[inline(always)]
    pub(crate) fn twin(&self, head: &[u8], other: &[u8], other_len: usize) -> Option<Tcp> {
        if self.extras || self.end() > other_len || usize::from(self.l3) != ETHERNET_HEADER {
            return None;
        }
        let l4 = usize::from(self.l4);
        if matches!(self.kind, Kind::Tcp) {
            match l4 {
                V4 => self
                    .twin_segment::<V4, { V4 + TCP_HEADER }, { V4 + TCP_HEADER + 4 }>(head, other),
                V6 if self.key.is_v6() => self
                    .twin_segment::<V6, { V6 + TCP_HEADER }, { V6 + TCP_HEADER + 4 }>(head, other),
                _ => None,
            }
        } else if matches!(self.kind, Kind::Udp) {
            match l4 {
                V4 => twin_datagram::<V4, { V4 + UDP_HEADER }>(head, other, other_len),
                V6 if self.key.is_v6() => {
                    twin_datagram::<V6, { V6 + UDP_HEADER }>(head, other, other_len)
                }
                _ => None,
            }
        } else {
            None
        }
    }

    /// Only a segment without options or with aligned time stamps (RFC 7323, appendix A) has a twin here: both
    /// then say nothing that would have to be compared. `WORD` ends with the first four bytes behind the header.
    #[inline(always)]
    fn twin_segment<const L4: usize, const END: usize, const WORD: usize>(
        &self,
        head: &[u8],
        other: &[u8],
    ) -> Option<Tcp> {
        let (a, b) = (head.first_chunk::<WORD>()?, other.first_chunk::<WORD>()?);
        let payload = usize::from(self.payload);
        let offset = (a[L4 + 12] ^ b[L4 + 12]) >> 4;
        let options = match payload - END {
            0 => 0,
            ALIGNED_STAMPS if payload <= other.len() => word(a, END) ^ word(b, END),
            _ => return None,
        };
        let differs = network_differs::<L4, WORD>(a, b)
            | u64::from(word(a, L4) ^ word(b, L4))
            | u64::from(options)
            | u64::from(offset);
        (differs == 0).then(|| tcp_fields(&b[L4..]))
    }
}

#[inline(always)]
fn twin_datagram<const L4: usize, const END: usize>(
    head: &[u8],
    other: &[u8],
    other_len: usize,
) -> Option<Tcp> {
    let (a, b) = (head.first_chunk::<END>()?, other.first_chunk::<END>()?);
    // The IP datagram may be longer than the UDP one.
    let end = if L4 == V4 {
        ETHERNET_HEADER + usize::from(u16_at(a, 16))
    } else {
        V6 + usize::from(u16_at(a, 18))
    };
    // Ports and length; the checksum behind them is left out.
    let own = (double(a, L4) ^ double(b, L4)) & PORTS_AND_LENGTH;
    let differs = network_differs::<L4, END>(a, b) | own;
    (differs == 0 && end <= other_len).then(Tcp::default)
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
