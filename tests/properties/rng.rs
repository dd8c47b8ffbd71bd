//! Random choices that a seed replays, and the loop that runs a property over many cases.
//!
//! `DPDK_COLO_CASES` sets the number of cases of each property, `DPDK_COLO_SEED` the seed of the
//! first one. A failing case prints its own seed; with that seed and one case it comes again.

use std::hash::{BuildHasher, RandomState};

/// The distance between the seeds of two cases.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A splitmix64 generator: fast, and any seed will do.
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True in one of `n` draws.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn byte(&mut self) -> u8 {
        (self.next() >> 56) as u8
    }

    pub fn word(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }

    /// A sequence number, often one that soon wraps.
    pub fn sequence(&mut self) -> u32 {
        match self.below(4) {
            0 | 1 => 0u32.wrapping_sub(self.below(300) as u32),
            2 => 0x8000_0000u32.wrapping_sub(self.below(300) as u32),
            _ => self.word(),
        }
    }

    /// Moves elements by about `window` places.
    pub fn shuffle<T>(&mut self, items: &mut [T], window: usize) {
        if window == 0 {
            return;
        }
        for i in 1..items.len() {
            let back = self.below(window.min(i) + 1);
            items.swap(i, i - back);
        }
    }
}

/// Names the failing case while a panic unwinds through it.
struct Replay<'a> {
    property: &'a str,
    seed: u64,
}

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "{}: replay with DPDK_COLO_SEED={:#x} DPDK_COLO_CASES=1",
                self.property, self.seed
            );
        }
    }
}

/// Runs a property over the cases that the environment asks for, else over `usual` of them; returns the first
/// case's seed, which replays them all.
pub fn for_cases(property: &str, usual: usize, mut case: impl FnMut(&mut Rng)) -> u64 {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        let parsed = match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => text.parse(),
        };
        Some(parsed.unwrap_or_else(|_| panic!("{name}={text} is no number")))
    };
    let first = number("DPDK_COLO_SEED").unwrap_or_else(|| RandomState::new().hash_one(property));
    let cases = number("DPDK_COLO_CASES").unwrap_or(usual as u64);
    for i in 0..cases {
        let seed = first.wrapping_add(i.wrapping_mul(GAMMA.rotate_left(17)));
        let _replay = Replay { property, seed };
        case(&mut Rng::new(seed));
    }
    first
}
