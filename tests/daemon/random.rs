//! Random numbers that replay: the seed is shown, and `COLO_SEED` sets it.

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

/// xorshift64*.
pub struct Random(u64);

impl Random {
    /// Seeded from the environment or from the clock; says which.
    pub fn new(test: &str) -> Self {
        let seed = match std::env::var("COLO_SEED") {
            Ok(seed) => seed.parse().expect("COLO_SEED is a number"),
            Err(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(1, |since| since.as_nanos() as u64),
        };
        println!("{test}: COLO_SEED={seed} replays this");
        Self::seeded(seed)
    }

    /// From the given seed.
    pub fn seeded(seed: u64) -> Self {
        Self((seed << 1 | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number of the range, which is not empty.
    pub fn within(&mut self, range: Range<usize>) -> usize {
        range.start + (self.bits() >> 32) as usize % (range.end - range.start)
    }

    /// `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.bits() as u8).collect()
    }

    /// Any order of several sequences that keeps the order within each.
    pub fn interleave<T>(&mut self, sequences: Vec<Vec<T>>) -> Vec<T> {
        let mut rest: Vec<_> = sequences.into_iter().map(Vec::into_iter).collect();
        let mut whole = Vec::new();
        while !rest.is_empty() {
            let at = self.within(0..rest.len());
            match rest[at].next() {
                Some(item) => whole.push(item),
                None => drop(rest.swap_remove(at)),
            }
        }
        whole
    }
}
