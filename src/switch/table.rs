//! The addresses of the pairs that share an uplink, in a hash table of fixed size.

use super::addresses::Station;

/// Whose an address is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// The pair's number.
    pub member: u8,
    /// Configured, so that it stays the pair's.
    pub fixed: bool,
    /// The network has shown the address as a sender since the pair's VM was last heard.
    pub away: bool,
}

/// Addresses with their entries: open addressing with linear probes.
pub(super) struct Table {
    /// The key 0 marks a free slot: address 0 is nobody's.
    slots: Box<[(u64, Entry)]>,
    seed: u64,
    shift: u32,
    len: usize,
}

impl Table {
    /// Room for this number of addresses. Who does not know the seed cannot choose addresses that share a slot.
    pub(super) fn new(most: usize, seed: u64) -> Self {
        let size = (2 * most).next_power_of_two().max(2);
        Self {
            slots: vec![(0, Entry::default()); size].into_boxed_slice(),
            // Odd, so that a multiplication loses nothing.
            seed: seed | 1,
            shift: u64::BITS - size.trailing_zeros(),
            len: 0,
        }
    }

    #[inline]
    fn home(&self, key: u64) -> usize {
        (key.wrapping_mul(self.seed) >> self.shift) as usize
    }

    #[inline]
    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }

    #[inline]
    fn slot(&self, key: u64) -> Option<usize> {
        let mut slot = self.home(key);
        // Half of the slots are free. Who looks for address 0 finds a free one, and nothing.
        while self.slots[slot].0 != 0 {
            if self.slots[slot].0 == key {
                return Some(slot);
            }
            slot = self.after(slot);
        }
        None
    }

    /// The entry of an address.
    #[inline]
    pub(super) fn get(&self, station: Station) -> Option<Entry> {
        self.slot(station.0).map(|slot| self.slots[slot].1)
    }

    /// The same, to be changed.
    #[inline]
    pub(super) fn get_mut(&mut self, station: Station) -> Option<&mut Entry> {
        self.slot(station.0).map(|slot| &mut self.slots[slot].1)
    }

    /// Adds an address that is not there.
    pub(super) fn add(&mut self, station: Station, entry: Entry) {
        debug_assert!(station.0 != 0 && self.slot(station.0).is_none());
        debug_assert!(self.len < self.slots.len() / 2, "each pair has a quota");
        let mut slot = self.home(station.0);
        while self.slots[slot].0 != 0 {
            slot = self.after(slot);
        }
        self.slots[slot] = (station.0, entry);
        self.len += 1;
    }

    /// Removes an address, if it is there.
    pub(super) fn remove(&mut self, station: Station) {
        let Some(mut free) = self.slot(station.0) else {
            return;
        };
        self.len -= 1;
        let mut slot = self.after(free);
        // Those behind move up, unless they stand between their home and the free slot.
        while self.slots[slot].0 != 0 {
            let mask = self.slots.len() - 1;
            let from_home = slot.wrapping_sub(self.home(self.slots[slot].0)) & mask;
            let from_free = slot.wrapping_sub(free) & mask;
            if from_home >= from_free {
                self.slots[free] = self.slots[slot];
                free = slot;
            }
            slot = self.after(slot);
        }
        self.slots[free] = (0, Entry::default());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use colo_testkit::rng::{Rng, for_cases};

    use super::*;

    fn case(rng: &mut Rng) {
        let most = rng.between(1, 40);
        let mut table = Table::new(most, rng.next());
        let mut model: HashMap<u64, Entry> = HashMap::new();
        for _ in 0..rng.between(1, 400) {
            let station = Station(rng.between(1, 3 * most) as u64);
            match model.contains_key(&station.0) {
                true => {
                    model.remove(&station.0);
                    table.remove(station);
                }
                false if model.len() < most => {
                    let member = rng.below(64) as u8;
                    let entry = Entry {
                        member,
                        ..Entry::default()
                    };
                    model.insert(station.0, entry);
                    table.add(station, entry);
                }
                false => table.remove(station),
            }
            for key in 0..=3 * most as u64 {
                assert_eq!(table.get(Station(key)), model.get(&key).copied());
            }
        }
    }

    #[test]
    fn it_has_what_was_added_and_not_removed() {
        for_cases("switch_table", 300, case);
    }
}
