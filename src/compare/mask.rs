//! What a mask rule lets differ: the value behind a literal in a stream (docs/mask.md).
//!
//! Only letters and digits are masked, and only where both VMs have sent the literal and neither has ended the value
//! before. So what a client splits a message by never differs, nor does its length.

use crate::frame::Ticks;

/// Fewest bytes of a literal: a shorter one is found by chance.
pub const MIN_LITERAL: usize = 4;
/// Most bytes of a literal.
pub const MAX_LITERAL: usize = 64;
/// Most bytes of a value.
pub const MAX_VALUE: usize = 128;
/// How far back from a byte the rules look, that byte included.
pub(super) const REACH: usize = MAX_LITERAL + MAX_VALUE;

/// How far a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// It has this many bytes.
    Length(usize),
    /// It ends before the first byte of this value, and has no more bytes than `most`.
    Until {
        /// The byte behind the value.
        end: u8,
        /// Most bytes of the value that are masked.
        most: usize,
    },
}

/// The bytes of a stream that may differ between the VMs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// What both VMs send in front of the value.
    pub literal: Vec<u8>,
    /// How far the value goes.
    pub extent: Extent,
    /// Whether the rule is only tried: nothing is masked, and what it would mask is counted.
    pub tried: bool,
    /// When it ends.
    pub expires: Option<Ticks>,
}

impl Mask {
    /// Whether it has not ended yet.
    pub(super) fn is_valid(&self, now: Ticks) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    /// Whether the last byte of what the two VMs have sent up to it lies in a value. Both are of the same length, and
    /// the longer the better, up to [`REACH`].
    pub(super) fn covers(&self, p: &[u8], s: &[u8]) -> bool {
        debug_assert_eq!(p.len(), s.len());
        let literal = &self.literal[..];
        let (most, end) = match self.extent {
            Extent::Length(most) => (most, None),
            Extent::Until { end, most } => (most, Some(end)),
        };
        for first in (literal.len()..p.len()).rev().take(most) {
            if end.is_some_and(|end| p[first] == end || s[first] == end) {
                return false;
            }
            let front = first - literal.len()..first;
            if p[front.clone()] == *literal && s[front] == *literal {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(literal: &str, extent: Extent) -> Mask {
        Mask {
            literal: literal.as_bytes().to_vec(),
            extent,
            tried: false,
            expires: None,
        }
    }

    /// Places of the bytes that a mask covers.
    fn covered(mask: &Mask, p: &str, s: &str) -> Vec<usize> {
        let (p, s) = (p.as_bytes(), s.as_bytes());
        let is_covered = |at: &usize| mask.covers(&p[..=*at], &s[..=*at]);
        (0..p.len()).filter(is_covered).collect()
    }

    #[test]
    fn a_value_of_fixed_length_is_covered_and_nothing_beside_it() {
        let mask = mask("time=", Extent::Length(3));
        assert_eq!(covered(&mask, "xtime=12345", "xtime=12345"), [6, 7, 8]);
        assert_eq!(covered(&mask, "xtime=12345", "xtime=99999"), [6, 7, 8]);
        assert_eq!(covered(&mask, "xtimE=12345", "xtime=12345"), [0; 0]);
        assert_eq!(covered(&mask, "xtime=12345", "xtimE=12345"), [0; 0]);
        assert_eq!(
            covered(&mask, "time=time=12", "time=time=12"),
            [5, 6, 7, 10, 11]
        );
    }

    #[test]
    fn a_value_ends_where_either_vm_ends_it_or_at_its_longest() {
        let mask = mask("time=", Extent::Until { end: b';', most: 4 });
        assert_eq!(covered(&mask, "time=12;45", "time=34;45"), [5, 6]);
        assert_eq!(covered(&mask, "time=1234;", "time=12;4;"), [5, 6]);
        assert_eq!(covered(&mask, "time=12;4;", "time=1234;"), [5, 6]);
        assert_eq!(covered(&mask, "time=123456;", "time=123457;"), [5, 6, 7, 8]);
        assert_eq!(covered(&mask, "time=;23", "time=;23"), [0; 0]);
    }

    #[test]
    fn a_rule_ends() {
        let mut mask = mask("time=", Extent::Length(3));
        assert!(mask.is_valid(Ticks::MAX));
        mask.expires = Some(100);
        assert!(mask.is_valid(99));
        assert!(!mask.is_valid(100));
    }
}
