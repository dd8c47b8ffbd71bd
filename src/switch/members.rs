//! A set of the pairs that share a port.

/// Pairs that can share a port.
pub const MEMBERS: usize = u64::BITS as usize;

/// Some of the pairs that share a port, each by its number there. The iterator takes them out, the lowest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Members(u64);

impl Members {
    /// No pair.
    pub const NONE: Self = Self(0);

    /// This pair.
    pub fn one(member: usize) -> Self {
        debug_assert!(member < MEMBERS, "a member's number");
        Self(1 << (member % MEMBERS))
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this pair is one of them.
    pub fn has(self, member: usize) -> bool {
        self.0 & Self::one(member).0 != 0
    }

    /// These, and this pair.
    pub fn with(self, member: usize) -> Self {
        Self(self.0 | Self::one(member).0)
    }

    /// These, but for this pair.
    pub fn without(self, member: usize) -> Self {
        Self(self.0 & !Self::one(member).0)
    }

    /// These, but for the others.
    pub(super) fn except(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }
}

impl Iterator for Members {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let member = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(member)
    }
}
