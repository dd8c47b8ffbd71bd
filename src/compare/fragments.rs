//! Which datagram of the SVM a datagram of the PVM is, where they come in fragments.
//!
//! Fragments belong to the datagram of their identification (RFC 791, 3.2; RFC 8200, 4.5), which the two
//! VMs need not choose alike. The first fragment of a datagram that meets an equal one makes a pair of the
//! two datagrams; from then on their fragments meet each other only. Candidates are tried in order of
//! arrival, so equal fragments pair their datagrams in the order in which they appeared. A pair whose
//! fragments have all met is forgotten, and the identification is free again.
//!
//! Memory is bounded (rule R10). Without room for another pair a fragment waits, which ends in a checkpoint.

use crate::frame::Ticks;

/// Datagrams of one flow whose fragments have met in part.
const PAIRS: usize = 8;
/// Ranges of a datagram that have met and do not touch.
const RANGES: usize = 2;
/// Bytes of a unit in which offsets count (RFC 791, 3.1).
const UNIT: u32 = 8;

/// Where a fragment lies in its datagram, in units of 8 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    from: u16,
    to: u16,
    is_last: bool,
}

impl Extent {
    /// `word` is [`crate::packet::Packet::fragment`], `len` the bytes of data.
    pub(super) fn new(word: u16, len: u32) -> Self {
        let from = word >> 1;
        Self {
            from,
            to: from.saturating_add(len.div_ceil(UNIT) as u16),
            is_last: word & 1 == 0,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Pair {
    primary: u32,
    secondary: u32,
    /// When a fragment met last.
    seen: Ticks,
    /// Ranges that have met; equal ends where there is none.
    met: [(u16, u16); RANGES],
    /// Units in the datagram, once the last fragment has met.
    units: Option<u16>,
    /// There was no room for another range.
    is_scattered: bool,
}

impl Pair {
    fn meet(&mut self, extent: Extent, now: Ticks) {
        self.seen = now;
        if extent.is_last {
            self.units = Some(extent.to);
        }
        let (mut from, mut to) = (extent.from, extent.to);
        for range in &mut self.met {
            if range.0 != range.1 && range.0 <= to && from <= range.1 {
                (from, to) = (from.min(range.0), to.max(range.1));
                *range = (0, 0);
            }
        }
        match self.met.iter_mut().find(|range| range.0 == range.1) {
            Some(free) => *free = (from, to),
            None => self.is_scattered = true,
        }
    }

    fn is_whole(&self) -> bool {
        let whole = |units| self.met.contains(&(0, units));
        !self.is_scattered && self.units.is_some_and(whole)
    }
}

/// The pairs of one flow.
#[derive(Clone, Copy, Default)]
pub(super) struct Fragments {
    pairs: [Pair; PAIRS],
    len: u8,
    epoch: u32,
}

impl Fragments {
    /// Forgets what an earlier epoch has paired, and pairs of which nothing was seen for the timeout.
    pub(super) fn refresh(&mut self, epoch: u32, now: Ticks, timeout: Ticks) {
        if self.epoch != epoch {
            (self.epoch, self.len) = (epoch, 0);
        }
        let mut i = 0;
        while i < usize::from(self.len) {
            if now.saturating_sub(self.pairs[i].seen) > timeout {
                self.remove(i);
            } else {
                i += 1;
            }
        }
    }

    /// Whether fragments of these identifications may meet.
    pub(super) fn may_meet(&self, primary: u32, secondary: u32) -> bool {
        let known = self.known().iter();
        match known.clone().find(|pair| pair.primary == primary) {
            Some(pair) => pair.secondary == secondary,
            None => {
                usize::from(self.len) < PAIRS
                    && known.clone().all(|pair| pair.secondary != secondary)
            }
        }
    }

    /// Two equal fragments meet, as [`Fragments::may_meet`] allows.
    pub(super) fn meet(&mut self, primary: u32, secondary: u32, extent: Extent, now: Ticks) {
        let found = self.known().iter().position(|pair| pair.primary == primary);
        let i = match found {
            Some(i) => i,
            None => {
                let i = usize::from(self.len).min(PAIRS - 1);
                self.pairs[i] = Pair {
                    primary,
                    secondary,
                    ..Pair::default()
                };
                self.len = i as u8 + 1;
                i
            }
        };
        debug_assert_eq!(self.pairs[i].secondary, secondary);
        self.pairs[i].meet(extent, now);
        if self.pairs[i].is_whole() {
            self.remove(i);
        }
    }

    fn known(&self) -> &[Pair] {
        &self.pairs[..usize::from(self.len)]
    }

    fn remove(&mut self, i: usize) {
        self.len -= 1;
        self.pairs.swap(i, usize::from(self.len));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(from: u16, len: u32, more: bool) -> Extent {
        Extent::new(from << 1 | u16::from(more), len)
    }

    #[test]
    fn a_datagram_is_forgotten_when_all_of_it_has_met() {
        let parts = [(0, 16, true), (2, 16, true), (4, 3, false)];
        for order in [[0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 0, 2]] {
            let mut fragments = Fragments::default();
            for (n, part) in order.into_iter().enumerate() {
                let (from, len, more) = parts[part];
                assert!(fragments.may_meet(7, 9));
                fragments.meet(7, 9, extent(from, len, more), 1);
                let whole = n == 2;
                assert_eq!(fragments.may_meet(7, 8), whole, "{order:?}");
                assert_eq!(fragments.may_meet(6, 9), whole, "{order:?}");
            }
        }
    }

    #[test]
    fn overlaps_and_repetitions_make_no_datagram_whole() {
        let mut fragments = Fragments::default();
        for (from, len, more) in [(0, 16, true), (0, 16, true), (1, 16, true), (5, 8, false)] {
            fragments.meet(1, 2, extent(from, len, more), 1);
            assert!(!fragments.may_meet(1, 3));
        }
        fragments.meet(1, 2, extent(3, 16, true), 1);
        assert!(fragments.may_meet(1, 3));
    }

    #[test]
    fn without_room_nothing_meets_until_the_timeout_or_the_next_epoch() {
        let mut fragments = Fragments::default();
        for id in 0..PAIRS as u32 {
            assert!(fragments.may_meet(id, id + 100));
            fragments.meet(id, id + 100, extent(0, 8, true), u64::from(id));
        }
        assert!(fragments.may_meet(3, 103) && !fragments.may_meet(50, 150));
        let mut later = fragments;
        later.refresh(0, 12, 10);
        assert!(later.may_meet(50, 150) && !later.may_meet(3, 104) && later.may_meet(1, 150));
        fragments.refresh(1, 5, 10);
        assert!(fragments.may_meet(3, 104));
    }
}
