//! A number counts once, also where the link reorders: RFC 4303, 3.4.3.

/// Numbers behind the highest that may still come.
pub(crate) const BEHIND: u64 = 128;

/// Which numbers have counted. The first number of a session is 1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    highest: u64,
    /// Bit i: `highest - i` has counted.
    seen: u128,
}

impl Window {
    /// Whether a number may count: it has not, and is not too old to know.
    #[inline]
    pub(crate) fn accepts(&self, number: u64) -> bool {
        match self.highest.checked_sub(number) {
            None => true,
            Some(age) => number > 0 && age < BEHIND && self.seen >> age & 1 == 0,
        }
    }

    /// A number counts. Only what is authentic comes here.
    #[inline]
    pub(crate) fn count(&mut self, number: u64) {
        debug_assert!(self.accepts(number));
        match number.checked_sub(self.highest) {
            Some(ahead @ 1..) => {
                self.seen = match ahead < BEHIND {
                    true => self.seen << ahead | 1,
                    false => 1,
                };
                self.highest = number;
            }
            _ => self.seen |= 1 << (self.highest - number),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_older_than_the_window_never_counts() {
        let mut window = Window::default();
        assert!(!window.accepts(0), "numbers begin with 1");
        window.count(1);
        window.count(1 + BEHIND);
        assert!(!window.accepts(1));
        assert!(window.accepts(2));
        window.count(u64::MAX);
        assert!(!window.accepts(u64::MAX) && !window.accepts(1 + BEHIND));
        assert!(window.accepts(u64::MAX - BEHIND + 1) && !window.accepts(u64::MAX - BEHIND));
    }

    proptest! {
        /// Against a set of all that has counted.
        #[test]
        fn no_number_counts_twice_and_none_in_the_window_is_refused(
            numbers in prop::collection::vec(1..400u64, 1..600)
        ) {
            let (mut window, mut counted) = (Window::default(), std::collections::BTreeSet::new());
            for number in numbers {
                let highest = counted.last().copied().unwrap_or(0);
                let expected = !counted.contains(&number) && number + BEHIND > highest;
                prop_assert_eq!(window.accepts(number), expected, "{} behind {}", number, highest);
                if expected {
                    window.count(number);
                    counted.insert(number);
                }
            }
        }
    }
}
