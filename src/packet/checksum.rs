//! The Internet checksum: in full (RFC 1071) and by the difference (RFC 1624).
//!
//! Code that changes a field of a frame updates its checksum by the difference, which also keeps a
//! wrong checksum wrong. The full sum is for slow paths and for tests, as the oracle.

use std::net::IpAddr;

use super::{Kind, Packet};
use crate::flow::FlowKey;

/// Offset of the checksum in a TCP header.
pub const TCP_CHECKSUM: usize = 16;

/// Offset of the checksum in a UDP header.
pub const UDP_CHECKSUM: usize = 6;

/// Offset of the checksum in an ICMP or ICMPv6 header.
pub const ICMP_CHECKSUM: usize = 2;

/// A running one's complement sum over bytes that may come in pieces of any length.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    total: u64,
    odd: bool,
}

impl Sum {
    /// Adds the next bytes.
    pub fn add(&mut self, mut bytes: &[u8]) {
        if self.odd
            && let Some((&low, rest)) = bytes.split_first()
        {
            self.total += u64::from(low);
            self.odd = false;
            bytes = rest;
        }
        let (words, last) = bytes.as_chunks::<2>();
        for &word in words {
            self.total += u64::from(u16::from_be_bytes(word));
        }
        if let &[high] = last {
            self.total += u64::from(high) << 8;
            self.odd = true;
        }
    }

    /// Adds a number of 32 bits, as two words; the sum must stand at an even byte.
    pub(super) fn add_u32(&mut self, number: u32) {
        self.total += u64::from(number >> 16) + u64::from(number & 0xffff);
    }

    /// The sum folded to 16 bits: 0xffff over data with a correct checksum.
    pub const fn folded(self) -> u16 {
        fold(self.total)
    }

    /// The checksum: the complement of the folded sum.
    pub const fn checksum(self) -> u16 {
        !self.folded()
    }
}

const fn fold(mut total: u64) -> u16 {
    total = (total & 0xffff_ffff) + (total >> 32);
    total = (total & 0xffff_ffff) + (total >> 32);
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    total as u16
}

/// The sum of the pseudo-header for `length` bytes from the transport header on (RFC 9293, 3.1;
/// RFC 8200, 8.1), or `None` when `key` has no IP addresses.
///
/// Behind an IPv6 routing header with segments left the destination would be the last segment, not
/// the address in the IP header that `key` has; only a full sum cares.
pub fn pseudo_header(key: &FlowKey, length: u32) -> Option<Sum> {
    let mut sum = Sum::default();
    for address in [key.src_ip()?, key.dst_ip()?] {
        match address {
            IpAddr::V4(address) => sum.add(&address.octets()),
            IpAddr::V6(address) => sum.add(&address.octets()),
        }
    }
    sum.add_u32(u32::from(key.protocol()?));
    sum.add_u32(length);
    Some(sum)
}

/// The folded sum of what lies behind the first `skip` bytes of a frame with these segments.
pub fn behind<'a>(segments: impl IntoIterator<Item = &'a [u8]>, mut skip: usize) -> u16 {
    let mut sum = Sum::default();
    for segment in segments {
        let rest = segment.get(skip..).unwrap_or_default();
        skip = skip.saturating_sub(segment.len());
        sum.add(rest);
    }
    sum.folded()
}

/// Whether the TCP, UDP, ICMP or ICMPv6 checksum of a frame is correct; `None` when the frame has
/// none (another kind, a fragment, a UDP checksum of zero).
///
/// `segments` are all segments of the frame that `packet` was parsed from.
pub fn verify<'a>(packet: &Packet, segments: impl IntoIterator<Item = &'a [u8]>) -> Option<bool> {
    let length = packet.end() - usize::from(packet.l4);
    let ipv4 = matches!(packet.key.src_ip()?, IpAddr::V4(_));
    let mut sum = match packet.kind {
        Kind::Icmp if ipv4 => Sum::default(),
        Kind::Tcp | Kind::Udp | Kind::Icmp | Kind::NeighbourDiscovery | Kind::Mld => {
            pseudo_header(&packet.key, length as u32)?
        }
        _ => return None,
    };
    let mut skip = usize::from(packet.l4);
    let mut left = length;
    for (i, segment) in segments.into_iter().enumerate() {
        if i == 0 && packet.kind == Kind::Udp {
            let at = skip + UDP_CHECKSUM;
            if segment.get(at..at + 2) == Some(&[0, 0]) {
                return None;
            }
        }
        let part = segment.get(skip.min(segment.len())..)?;
        skip -= segment.len() - part.len();
        let part = &part[..left.min(part.len())];
        left -= part.len();
        sum.add(part);
    }
    Some(sum.folded() == 0xffff)
}

/// The checksum after a word of the data changed from `old` to `new` (RFC 1624, equation 3).
#[inline]
pub const fn update_u16(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

/// The checksum after 32 bits of the data, beginning at an even byte, changed from `old` to `new`.
#[inline]
pub const fn update_u32(checksum: u16, old: u32, new: u32) -> u16 {
    let old = !old;
    let sum = !checksum as u64
        + (old >> 16) as u64
        + (old & 0xffff) as u64
        + (new >> 16) as u64
        + (new & 0xffff) as u64;
    !fold(sum)
}

/// [`update_u32`] for 32 bits that begin at byte `offset` of the summed data, odd or even.
///
/// At an odd offset each byte counts with the other's weight, which in one's complement arithmetic
/// is the same number rotated by a byte (RFC 1071, 2 B).
#[inline]
pub const fn update_u32_at(checksum: u16, offset: usize, old: u32, new: u32) -> u16 {
    if offset & 1 == 0 {
        update_u32(checksum, old, new)
    } else {
        update_u32(checksum, old.rotate_right(8), new.rotate_right(8))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(bytes: &[u8]) -> Sum {
        let mut sum = Sum::default();
        sum.add(bytes);
        sum
    }

    #[test]
    fn the_sum_behind_headers_does_not_depend_on_the_segments() {
        let bytes: Vec<u8> = (1..=41).collect();
        for skip in 0..=bytes.len() {
            let whole = sum(&bytes[skip..]).folded();
            for cut in 0..=bytes.len() {
                let (a, b) = bytes.split_at(cut);
                assert_eq!(behind([a, b], skip), whole, "{skip} {cut}");
            }
        }
    }

    #[test]
    fn example_of_rfc_1071() {
        assert_eq!(
            sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).folded(),
            0xddf2
        );
    }

    #[test]
    fn example_of_rfc_1624() {
        assert_eq!(update_u16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn pieces_sum_as_the_whole(bytes: Vec<u8>, a: usize, b: usize) {
            let (a, b) = (a % (bytes.len() + 1), b % (bytes.len() + 1));
            let (a, b) = (a.min(b), a.max(b));
            let mut pieces = sum(&bytes[..a]);
            pieces.add(&bytes[a..b]);
            pieces.add(&bytes[b..]);
            prop_assert_eq!(pieces.folded(), sum(&bytes).folded());
        }

        #[test]
        fn a_change_of_32_bits_updates_as_a_full_sum(
            mut bytes in prop::collection::vec(any::<u8>(), 8..64), at: usize, new: u32, mode in 0..3
        ) {
            let at = 2 + at % (bytes.len() - 5);
            let new = match mode { 0 => new, 1 => 0, _ => u32::MAX };
            bytes[..2].fill(0);
            let check = sum(&bytes).checksum();
            bytes[..2].copy_from_slice(&check.to_be_bytes());
            prop_assert_eq!(sum(&bytes).folded(), 0xffff);
            let old = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            bytes[at..at + 4].copy_from_slice(&new.to_be_bytes());
            let check = update_u32_at(check, at, old, new);
            bytes[..2].copy_from_slice(&check.to_be_bytes());
            prop_assert_eq!(sum(&bytes).folded(), 0xffff);
        }
    }
}
