//! What a port can do to frames by itself, and how a frame asks for it.
//!
//! A frame that came with work left to do ([`crate::Frame::offload`]) leaves by a
//! port that can do it once [`Mbuf::request`] has said where its headers lie. Drivers read that
//! from the mbuf's transmit flags and lengths.

use crate::frame::{Frame, Offload};

use super::dpdk_sys as sys;
use super::mbuf::Mbuf;

/// What a port does to the frames that it sends, where they ask for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Completes partial checksums of TCP and UDP.
    pub checksums: bool,
    /// Cuts TCP frames into segments; comes with `checksums`.
    pub segmentation: bool,
}

/// The protocol above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The lengths of a frame's headers, which follow each other from its first byte on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Ethernet header and tags, at most 127 bytes.
    pub link: u8,
    /// IP header, at most 511 bytes.
    pub network: u16,
    /// TCP header with options, or UDP's.
    pub transport: u8,
    /// IPv6, or IPv4.
    pub ipv6: bool,
    /// What the transport header is.
    pub protocol: Transport,
}

impl Mbuf {
    /// Asks the port that sends the frame to do what is left to do. The checksum field holds the
    /// pseudo-header's sum as virtio wants it: with the length. `false`, and nothing done, where
    /// the frame is shared.
    #[inline]
    #[must_use]
    pub fn request(&mut self, headers: Headers, offload: Offload) -> bool {
        let Some(mut first) = self.first_mut() else {
            return false;
        };
        let mut flags = match headers.ipv6 {
            true => sys::SHIM_MBUF_F_TX_IPV6,
            false => sys::SHIM_MBUF_F_TX_IPV4,
        };
        let mut lengths = u64::from(headers.link & 0x7f) << sys::SHIM_MBUF_L2_LEN_OFS
            | u64::from(headers.network & 0x1ff) << sys::SHIM_MBUF_L3_LEN_OFS
            | u64::from(headers.transport) << sys::SHIM_MBUF_L4_LEN_OFS;
        match (offload.segment, headers.protocol) {
            (Some(size), Transport::Tcp) => {
                flags |= sys::SHIM_MBUF_F_TX_TCP_SEG | sys::SHIM_MBUF_F_TX_TCP_CKSUM;
                if !headers.ipv6 {
                    // The segments' lengths differ from the frame's, so their IP checksums do.
                    flags |= sys::SHIM_MBUF_F_TX_IP_CKSUM;
                }
                lengths |= u64::from(size.get()) << sys::SHIM_MBUF_TSO_SEGSZ_OFS;
            }
            (_, protocol) if offload.partial_checksum => {
                flags |= match protocol {
                    Transport::Tcp => sys::SHIM_MBUF_F_TX_TCP_CKSUM,
                    Transport::Udp => sys::SHIM_MBUF_F_TX_UDP_CKSUM,
                };
            }
            _ => (flags, lengths) = (0, 0),
        }
        first.set_offload(flags, lengths);
        true
    }

    /// Says that nothing is left to do. `false`, and nothing done, where the frame is shared.
    #[inline]
    #[must_use]
    pub fn settle(&mut self) -> bool {
        match self.first_mut() {
            Some(mut first) => {
                first.set_offload(0, 0);
                true
            }
            None => false,
        }
    }

    /// The folded one's complement sum (RFC 1071) of `len` bytes from `offset` on, in network byte
    /// order and as if they began at an even byte; `None` beyond the frame's end.
    ///
    /// (`rte_raw_cksum_mbuf` of DPDK 22.11 cuts the sum of a segment that begins at an odd byte.)
    pub fn sum(&self, offset: usize, len: usize) -> Option<u16> {
        if offset.checked_add(len)? > self.len() {
            return None;
        }
        let (mut skip, mut left) = (offset, len);
        let mut total = 0u32;
        for segment in self.segments() {
            let part = segment.get(skip..).unwrap_or_default();
            skip -= segment.len() - part.len();
            let part = &part[..part.len().min(left)];
            // SAFETY: reads the part, a borrowed slice; a segment has at most 65,535 bytes.
            let sum = unsafe { sys::shim_raw_cksum(part.as_ptr().cast(), part.len()) };
            // At an odd place each byte counts with the other's weight (RFC 1071, 2 B).
            let odd = (len - left) % 2 == 1;
            total += u32::from(if odd { sum.swap_bytes() } else { sum });
            left -= part.len();
            if left == 0 {
                break;
            }
        }
        total = (total & 0xffff) + (total >> 16);
        total = (total & 0xffff) + (total >> 16);
        Some(u16::from_be(total as u16))
    }
}
