//! What a frame says beside the fields that every frame of its kind has and its payload: IPv4 options,
//! IPv6 extension headers, TCP options, and the bytes between a UDP datagram and the end of its IP
//! datagram (RFC 9868).
//!
//! What an end system could act on is compared. What each stack makes anew from its own clock or from
//! what it has received is not: padding, TCP's time stamps (RFC 7323) and SACK blocks (RFC 2018), the
//! signatures of TCP-MD5 (RFC 2385) and TCP-AO (RFC 5925), which cover such fields, the data-level
//! acknowledgment of MPTCP (RFC 8684, 3.3.2), and the identification in an IPv6 fragment header.

use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;

use super::parse::{ETHERNET_HEADER, IPV4_HEADER, IPV6_HEADER, Kind, Packet, u16_at};
use super::{TcpFlags, is_signed};
use crate::proto::ip;
use crate::proto::tcp_option::{
    AUTHENTICATION, END, MD5_SIGNATURE, MPTCP, NO_OPERATION, SACK, TIMESTAMPS,
};

/// Options in one header at most, for loops over pairs of them.
const MAX_OPTIONS: usize = 20;

/// MPTCP's data sequence signal, as the upper four bits of an option's third byte, and its flags.
const DSS: u8 = 2;
const DATA_ACK: u8 = 0x01;
const LONG_DATA_ACK: u8 = 0x02;
const MAPPING: u8 = 0x04;
const LONG_DATA_SEQUENCE: u8 = 0x08;
const DATA_FIN: u8 = 0x10;

/// The options of an IPv4 or TCP header, which have one syntax (RFC 791, 3.1; RFC 9293, 3.2), kind and
/// length included, without padding. Bytes behind a length that cannot be are one option.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            match *self.0.first()? {
                END => self.0 = &[],
                NO_OPERATION => self.0 = &self.0[1..],
                _ => {
                    let length = self.0.get(1).map_or(0, |length| usize::from(*length));
                    let whole = (self.0, &[][..]);
                    let (option, rest) = match length {
                        0 | 1 => whole,
                        _ => self.0.split_at_checked(length).unwrap_or(whole),
                    };
                    self.0 = rest;
                    return Some(option);
                }
            }
        }
    }
}

/// Whether each stack makes a TCP option anew. MPTCP's data sequence signal counts as such, whose
/// mapping is compared by [`mapping`].
fn is_regenerated(option: &[u8]) -> bool {
    match *option {
        [TIMESTAMPS, 10, ..] | [MD5_SIGNATURE, 18, ..] => true,
        [AUTHENTICATION, length, ..] => length >= 4,
        [SACK, length, ..] => length > 2 && length % 8 == 2,
        [MPTCP, _, subtype, ..] => subtype >> 4 == DSS,
        _ => false,
    }
}

/// Bytes of aligned time stamps (RFC 7323, appendix A), and how they begin.
pub(super) const ALIGNED_STAMPS: usize = 12;
const ALIGNED: u32 = u32::from_ne_bytes([NO_OPERATION, NO_OPERATION, TIMESTAMPS, 10]);

/// Whether the options of a segment other than a SYN say nothing that would have to be compared.
pub(super) fn are_ordinary(options: &[u8]) -> bool {
    Options(options).all(is_regenerated) && mapping(options).is_none()
}

/// Whether the options from `at` to `end` of a frame are what nearly every segment has: none, or aligned
/// time stamps. They are ordinary then. The caller has seen that they lie in `head`.
#[inline(always)]
pub(super) fn are_usual(head: &[u8], at: usize, end: usize) -> bool {
    debug_assert!(at <= end && end <= head.len());
    let first = || {
        let word = head.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_ne_bytes(*word))
    };
    end == at || end == at + ALIGNED_STAMPS && first() == Some(ALIGNED)
}

/// Where MPTCP places the segment's data in the stream of all subflows (RFC 8684, 3.3.1).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mapping {
    /// Data sequence number minus the number in the subflow, modulo 2^32: the same for all segments
    /// into which mapped data may be cut.
    distance: u32,
    is_last: bool,
}

fn mapping(options: &[u8]) -> Option<Mapping> {
    let dss = Options(options)
        .find(|o| matches!(**o, [MPTCP, _, subtype, _, ..] if subtype >> 4 == DSS))?;
    let flags = dss[3];
    if flags & MAPPING == 0 {
        return None;
    }
    let acknowledgment = match flags & (DATA_ACK | LONG_DATA_ACK) {
        DATA_ACK => 4,
        3 => 8,
        _ => 0,
    };
    let sequence = if flags & LONG_DATA_SEQUENCE != 0 {
        8
    } else {
        4
    };
    let low = 4 + acknowledgment + sequence - 4;
    let word = |at: usize| {
        let bytes = dss.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
    };
    Some(Mapping {
        distance: word(low).wrapping_sub(word(low + 4)),
        is_last: flags & DATA_FIN != 0,
    })
}

/// A 64-bit sum of what is to be equal, in which the order of parts does not count. Two VMs that differ
/// by accident have equal sums once in 2^64.
#[derive(Clone, Copy, Default)]
struct Digest(u64);

impl Digest {
    fn add(&mut self, part: &[&[u8]]) {
        let mut hasher = DefaultHasher::new();
        for bytes in part {
            hasher.write(bytes);
        }
        self.0 = self.0.wrapping_add(hasher.finish());
    }
}

impl Packet {
    /// The IPv4 options or the IPv6 extension headers, each as far as it must be equal. Their order
    /// counts: headers are processed in it.
    fn network_parts<'a>(&self, head: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (l3, l4) = (usize::from(self.l3), usize::from(self.l4));
        let is_v6 = self.key.is_v6();
        let from = l3 + if is_v6 { IPV6_HEADER } else { IPV4_HEADER };
        let is_ip = self.key.src_ip().is_some();
        let area = head.get(from..l4).filter(|_| is_ip).unwrap_or_default();
        let first = match is_v6 {
            true => head.get(l3 + 6).copied().unwrap_or_default(),
            false => 0,
        };
        let (v4, v6) = if is_v6 {
            (&[][..], area)
        } else {
            (area, &[][..])
        };
        Options(v4).chain(Extensions {
            rest: v6,
            protocol: first,
        })
    }

    /// Whether two frames' IPv4 options or IPv6 extension headers say the same.
    pub(crate) fn has_same_network_options(
        &self,
        head: &[u8],
        other: &Self,
        other_head: &[u8],
    ) -> bool {
        self.network_parts(head).eq(other.network_parts(other_head))
    }

    /// A digest of the IPv4 options or IPv6 extension headers; 0 where there are none.
    pub(crate) fn network_digest(&self, head: &[u8]) -> u64 {
        let mut digest = Digest::default();
        for (i, part) in self.network_parts(head).enumerate() {
            digest.add(&[&[i as u8], part]);
        }
        digest.0
    }

    /// A digest of what a SYN says apart from its numbers, window and data: control bits, reserved bits,
    /// and each option, of which neither the time stamps nor a signature count.
    pub(crate) fn syn_digest(&self, head: &[u8]) -> u64 {
        let l4 = usize::from(self.l4);
        let flags = self.tcp.flags.0 & !(TcpFlags::PSH | TcpFlags::FIN | TcpFlags::URG).0;
        let reserved = head.get(l4 + 12).map_or(0, |byte| byte & 0x0f);
        let mut digest = Digest(self.network_digest(head));
        digest.add(&[&[flags, reserved]]);
        for option in Options(self.tcp_options(head)) {
            let counts = match *option {
                [TIMESTAMPS, 10, ..] | [MD5_SIGNATURE, 18, ..] => 2,
                // Both keys' numbers.
                [AUTHENTICATION, ..] => 4,
                _ => option.len(),
            };
            digest.add(&[&option[..counts.min(option.len())]]);
        }
        digest.0
    }

    /// Whether the segment is signed.
    pub(crate) fn is_signed(&self, head: &[u8]) -> bool {
        is_signed(self.tcp_options(head))
    }

    /// Options of a segment that is no SYN, which its sender sends to the peer once.
    fn signals<'a>(&self, head: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        Options(self.tcp_options(head)).filter(|option| !is_regenerated(option))
    }

    /// Whether there are such options.
    pub(crate) fn has_signals(&self, head: &[u8]) -> bool {
        self.signals(head).next().is_some()
    }

    /// Whether two segments, none of them a SYN, have the same such options, in any order.
    pub(crate) fn has_same_signals(&self, head: &[u8], other: &Self, other_head: &[u8]) -> bool {
        let count = |option: &[u8]| {
            let times = |packet: &Self, head| {
                packet
                    .signals(head)
                    .take(MAX_OPTIONS)
                    .filter(|o| *o == option)
                    .count()
            };
            (times(self, head), times(other, other_head))
        };
        let agree = |option: &[u8]| {
            let (own, others) = count(option);
            own == others
        };
        self.signals(head).take(MAX_OPTIONS).all(agree)
            && other.signals(other_head).take(MAX_OPTIONS).all(agree)
    }

    /// Whether MPTCP places two segments' data alike. Only of `same` segments, with equal positions and
    /// lengths, is it known that both have to say so themselves.
    pub(crate) fn has_same_mapping(
        &self,
        head: &[u8],
        other: &Self,
        other_head: &[u8],
        same: bool,
    ) -> bool {
        match (
            mapping(self.tcp_options(head)),
            mapping(other.tcp_options(other_head)),
        ) {
            (Some(own), Some(others)) if same => own == others,
            (Some(own), Some(others)) => own.distance == others.distance,
            (None, None) => true,
            _ => !same,
        }
    }

    /// Where the bytes lie in the frame that follow a UDP datagram within its IP datagram. Empty for any
    /// other kind, whose payload ends with the IP datagram.
    pub(crate) fn surplus(&self, head: &[u8]) -> Range<usize> {
        let l3 = usize::from(self.l3);
        let length = |at: usize| match head.get(at..at + 2) {
            Some(field) => usize::from(u16_at(field, 0)),
            None => 0,
        };
        let end = match (self.kind, self.key.is_v6()) {
            (Kind::Udp, false) => l3 + length(l3 + 2),
            (Kind::Udp, true) => l3 + IPV6_HEADER + length(l3 + 4),
            _ => 0,
        };
        self.end()..end.max(self.end())
    }

    /// The identification of the datagram that a fragment belongs to (RFC 791, 3.1; RFC 8200, 4.5); 0 for
    /// any other kind.
    pub(crate) fn identification(&self, head: &[u8]) -> u32 {
        if self.kind != Kind::Fragment {
            return 0;
        }
        if self.key.is_v6() {
            let end = usize::from(self.l4);
            let field = head
                .get(end.saturating_sub(4)..end)
                .and_then(<[u8]>::first_chunk);
            field.map_or(0, |field| u32::from_be_bytes(*field))
        } else {
            let at = usize::from(self.l3) + 4;
            head.get(at..at + 2)
                .map_or(0, |field| u32::from(u16_at(field, 0)))
        }
    }

    /// Whether the options or extension headers between the start of an IP header at `l3` and the
    /// transport header at `l4` have to be compared.
    pub(super) fn has_network_options(&self, head: &[u8]) -> bool {
        debug_assert!(usize::from(self.l3) >= ETHERNET_HEADER);
        let own = self.network_parts(head);
        match self.kind {
            // The fragment header itself; where the fragment lies is compared in any case.
            Kind::Fragment if self.key.is_v6() => own.count() > 1,
            _ => own.count() > 0,
        }
    }
}

/// IPv6 extension headers, of a fragment header all but the identification. The parser has seen that
/// they are whole.
struct Extensions<'a> {
    rest: &'a [u8],
    protocol: u8,
}

impl<'a> Iterator for Extensions<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let &[next, length, ..] = self.rest else {
            return None;
        };
        let units = match self.protocol {
            ip::FRAGMENT => 0,
            ip::AUTHENTICATION => usize::from(length) * 4,
            _ => usize::from(length) * 8,
        };
        let (header, rest) = self
            .rest
            .split_at_checked(8 + units)
            .unwrap_or((self.rest, &[]));
        let counts = match self.protocol {
            ip::FRAGMENT => &header[..header.len().min(4)],
            _ => header,
        };
        (self.rest, self.protocol) = (rest, next);
        Some(counts)
    }
}
