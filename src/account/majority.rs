//! The origin that has more than half of the time (Boyer and Moore 1981, with weights).

use super::checkpoint::Origin;

/// The candidate and its lead over all others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Majority {
    origin: Origin,
    lead: u64,
}

impl Majority {
    /// One origin has this time.
    pub(super) fn new(origin: Origin, time: u64) -> Self {
        Self { origin, lead: time }
    }

    /// More time of an origin.
    pub(super) fn add(&mut self, origin: Origin, time: u64) {
        if origin == self.origin {
            self.lead = self.lead.saturating_add(time);
        } else if time > self.lead {
            *self = Self::new(origin, time - self.lead);
        } else {
            self.lead -= time;
        }
    }

    /// The origin with more than half of the time, if there is one; otherwise any.
    pub(super) fn origin(self) -> Origin {
        self.origin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_wins_in_any_order() {
        let [a, b, c] = [Origin::Ordered, Origin::Begin, Origin::Qemu];
        let parts = [(a, 3), (b, 2), (a, 4), (c, 4), (b, 0)];
        for first in 0..parts.len() {
            let mut order = parts.iter().cycle().skip(first).take(parts.len());
            let (origin, time) = order.next().expect("one");
            let mut majority = Majority::new(*origin, *time);
            order.for_each(|(origin, time)| majority.add(*origin, *time));
            assert_eq!(majority.origin(), a, "from {first} on");
        }
    }
}
