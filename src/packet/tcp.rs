//! TCP control bits and options (RFC 9293, 3.1 and 3.2; RFC 7323; RFC 2018).

use std::fmt;
use std::ops::BitOr;

use crate::proto::tcp_option::{
    AUTHENTICATION, END, MD5_SIGNATURE, MSS, NO_OPERATION, SACK, SACK_PERMITTED, TIMESTAMPS,
    WINDOW_SCALE,
};

/// TCP control bits (RFC 9293, 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push function.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment field is significant.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is significant.
    pub const URG: Self = Self(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// Whether all bits of `other` are set.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for TcpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The set bits as in `SYN+ACK`, or `none`.
impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        let mut separator = "";
        for (bit, name) in NAMES.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                write!(f, "{separator}{name}")?;
                separator = "+";
            }
        }
        if self.0 == 0 {
            f.write_str("none")
        } else {
            Ok(())
        }
    }
}

/// What the options of a segment say; those of a SYN fix the rules of the connection.
///
/// Unknown options are skipped. Of an option that comes twice the last one counts, as it does in
/// the stacks of Linux and the BSDs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Maximum segment size, in bytes.
    pub mss: Option<u16>,
    /// Window scale, as a shift count; values above 14 stand as sent (RFC 7323, 2.3).
    pub window_scale: Option<u8>,
    /// Selective acknowledgments may be sent.
    pub sack_permitted: bool,
    /// TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
    /// A length contradicts its option or the header; what follows it was not read.
    pub malformed: bool,
}

impl TcpOptions {
    /// Reads the options area of a TCP header: [`super::Packet::tcp_options`].
    pub fn parse(options: &[u8]) -> Self {
        let mut read = Self::default();
        let mut walk = Walk::new(options);
        for (_, option) in &mut walk {
            match *option {
                [MSS, _, a, b] => read.mss = Some(u16::from_be_bytes([a, b])),
                [WINDOW_SCALE, _, shift] => read.window_scale = Some(shift),
                [SACK_PERMITTED, _] => read.sack_permitted = true,
                [TIMESTAMPS, _, a, b, c, d, e, f, g, h] => {
                    let value = u32::from_be_bytes([a, b, c, d]);
                    let echo = u32::from_be_bytes([e, f, g, h]);
                    read.timestamps = Some((value, echo));
                }
                _ => {}
            }
        }
        read.malformed = walk.malformed;
        read
    }
}

/// Offsets in an options area of the 32-bit edges of all SACK blocks, left and right in turn.
///
/// Nothing aligns an option, so an edge may begin at any offset, odd ones included.
pub fn sack_edges(options: &[u8]) -> impl Iterator<Item = usize> {
    Walk::new(options)
        .filter(|(_, option)| option[0] == SACK)
        .flat_map(|(at, option)| (at + 2..at + option.len()).step_by(4))
}

/// Offset in an options area of the echoed time stamp (TSecr; RFC 7323, 3.2).
pub fn timestamp_echo(options: &[u8]) -> Option<usize> {
    Walk::new(options)
        .filter(|(_, option)| option[0] == TIMESTAMPS)
        .last()
        .map(|(at, _)| at + 6)
}

/// Whether an options area carries a signature of the segment: TCP-MD5 (RFC 2385, kind 19) or TCP-AO
/// (RFC 5925, kind 29).
///
/// Both cover the header and the data, and only the end systems know the key. A node that modifies such a
/// segment makes the peer drop it.
#[inline]
pub fn is_signed(options: &[u8]) -> bool {
    // What nearly every segment has: nothing, or time stamps as RFC 7323, appendix A, aligns them.
    let usual = match options.first_chunk::<4>() {
        Some(first) => {
            options.len() == 12 && *first == [NO_OPERATION, NO_OPERATION, TIMESTAMPS, 10]
        }
        None => true,
    };
    !usual && carries_signature(options)
}

#[inline(never)]
fn carries_signature(options: &[u8]) -> bool {
    Walk::new(options).any(|(_, option)| matches!(option[0], MD5_SIGNATURE | AUTHENTICATION))
}

/// Walks the options that have a length; yields the offset and the bytes, kind and length
/// included. An option of a known kind has the length that its kind asks for.
struct Walk<'a> {
    options: &'a [u8],
    at: usize,
    malformed: bool,
}

impl<'a> Walk<'a> {
    fn new(options: &'a [u8]) -> Self {
        Self {
            options,
            at: 0,
            malformed: false,
        }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match *self.options.get(self.at)? {
                END => break,
                NO_OPERATION => self.at += 1,
                kind => {
                    let at = self.at;
                    let length = self
                        .options
                        .get(at + 1)
                        .map_or(0, |&length| usize::from(length));
                    let fits = match kind {
                        MSS => length == 4,
                        WINDOW_SCALE => length == 3,
                        SACK_PERMITTED => length == 2,
                        SACK => length > 2 && length % 8 == 2,
                        TIMESTAMPS => length == 10,
                        _ => length >= 2,
                    };
                    match self.options.get(at..at + length) {
                        Some(option) if fits => {
                            self.at += length;
                            return Some((at, option));
                        }
                        _ => {
                            self.malformed = true;
                            break;
                        }
                    }
                }
            }
        }
        self.at = self.options.len();
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn flags_name_themselves() {
        assert_eq!((TcpFlags::SYN | TcpFlags::ACK).to_string(), "SYN+ACK");
        assert_eq!(TcpFlags(0).to_string(), "none");
        let all = TcpFlags(0xff);
        assert!(all.contains(TcpFlags::CWR | TcpFlags::FIN));
        assert!(!TcpFlags::SYN.contains(TcpFlags::SYN | TcpFlags::ACK));
        assert!(TcpFlags::SYN.intersects(TcpFlags::SYN | TcpFlags::ACK));
    }

    #[test]
    fn options_of_a_linux_syn() {
        let options = [
            2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 1, 3, 3, 7,
        ];
        let expected = TcpOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some((7, 9)),
            malformed: false,
        };
        assert_eq!(TcpOptions::parse(&options), expected);
    }

    #[test]
    fn an_end_of_list_hides_the_rest() {
        let read = TcpOptions::parse(&[0, 4, 2]);
        assert_eq!(read, TcpOptions::default());
    }

    #[test]
    fn a_lying_length_ends_the_reading() {
        for lie in [
            &[99u8][..],
            &[99, 0],
            &[99, 1],
            &[99, 9],
            &[2, 3, 0],
            &[5, 2],
            &[5, 11],
            &[3],
        ] {
            let mut options = vec![4, 2];
            options.extend_from_slice(lie);
            let read = TcpOptions::parse(&options);
            assert!(read.malformed, "{lie:?}");
            assert!(read.sack_permitted, "{lie:?}");
        }
    }

    #[test]
    fn sack_edges_at_any_alignment() {
        for shift in 0..4 {
            let mut options = vec![1; shift];
            options.extend([5, 18]);
            options.extend([0; 16]);
            let edges: Vec<usize> = sack_edges(&options).collect();
            assert_eq!(edges, [2, 6, 10, 14].map(|at| at + shift));
        }
    }

    #[test]
    fn signatures_are_found_wherever_they_are() {
        let md5 = [&[19, 18][..], &[7; 16]].concat();
        let authentication = [&[29, 16, 1, 2][..], &[7; 12]].concat();
        let stamps = [1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9];
        for signature in [&md5, &authentication] {
            for before in [&[][..], &[1, 1], &stamps, &[253, 5, 19, 29, 0]] {
                assert!(is_signed(&[before, signature].concat()), "{before:?}");
            }
            assert!(!is_signed(&[&[0][..], signature].concat()), "hidden");
        }
        for unsigned in [&[][..], &[1], &stamps, &[253, 6, 19, 18, 29, 4], &[19]] {
            assert!(!is_signed(unsigned), "{unsigned:?}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_read_within_its_bounds(options in prop::collection::vec(0..20u8, 0..44)) {
            TcpOptions::parse(&options);
            for edge in sack_edges(&options) {
                prop_assert!(edge + 4 <= options.len());
            }
        }
    }
}
