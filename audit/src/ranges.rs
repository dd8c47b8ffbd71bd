//! Which sequence numbers of a stream have left.
//!
//! Numbers are 32 bits and wrap; those that lie far behind the furthest one are forgotten, as in
//! [`ByteMap`](crate::bytes::ByteMap).

use dpdk_colo::packet::serial::{at_or_before, before, max, min};

use crate::bytes::KEPT;

/// Ranges from a number to before another, in order and apart from each other.
#[derive(Default)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// Notes the numbers from one to before another.
    pub fn insert(&mut self, mut from: u32, mut to: u32) {
        if from == to {
            return;
        }
        self.0.retain(|&(first, end)| {
            let apart = before(end, from) || before(to, first);
            if !apart {
                (from, to) = (min(from, first), max(to, end));
            }
            apart
        });
        let place = self.0.partition_point(|&(_, end)| before(end, from));
        self.0.insert(place, (from, to));
        let Some(&(_, top)) = self.0.last() else {
            return;
        };
        let floor = top.wrapping_sub(KEPT as u32);
        self.0.retain(|&(_, end)| before(floor, end));
        if let Some((first, _)) = self.0.first_mut() {
            *first = max(*first, floor);
        }
    }

    /// Whether no number is in here.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first of these numbers that is not in here.
    pub fn first_missing(&self, from: u32, to: u32) -> Option<u32> {
        let around = |&&(first, end): &&(u32, u32)| at_or_before(first, from) && before(from, end);
        let missing = self.0.iter().find(around).map_or(from, |&(_, end)| end);
        before(missing, to).then_some(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_found_over_gaps_and_the_wrap() {
        let at = u32::MAX - 9;
        let mut ranges = Ranges::default();
        assert_eq!(ranges.first_missing(at, at), None);
        assert_eq!(ranges.first_missing(at, at.wrapping_add(1)), Some(at));
        for (from, to) in [(20, 30), (0, 10), (5, 12)] {
            ranges.insert(at.wrapping_add(from), at.wrapping_add(to));
        }
        let missing = |ranges: &Ranges, from: u32, to: u32| {
            let found = ranges.first_missing(at.wrapping_add(from), at.wrapping_add(to));
            found.map(|found| found.wrapping_sub(at))
        };
        assert_eq!(missing(&ranges, 0, 12), None);
        assert_eq!(missing(&ranges, 3, 25), Some(12));
        assert_eq!(missing(&ranges, 15, 25), Some(15));
        assert_eq!(missing(&ranges, 21, 31), Some(30));
        ranges.insert(at.wrapping_add(12), at.wrapping_add(20));
        assert_eq!(missing(&ranges, 0, 30), None);
    }

    #[test]
    fn what_is_far_behind_is_forgotten() {
        let mut ranges = Ranges::default();
        ranges.insert(0, 10);
        ranges.insert(20, KEPT as u32 + 5);
        assert_eq!(ranges.first_missing(0, 5), Some(0));
        assert_eq!(ranges.first_missing(30, 40), None);
    }
}
