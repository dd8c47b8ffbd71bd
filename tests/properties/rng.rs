//! Random choices that a seed replays, and the loop that runs a property over many cases.
//!
//! `DPDK_COLO_CASES` sets the number of cases of each property, `DPDK_COLO_SEED` the seed of the
//! first one. A failing case prints its own seed; with that seed and one case it comes again.

use std::hash::{BuildHasher, RandomState};

/// The distance between the seeds of two cases.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// A splitmix64 generator: fast, and any seed will do. A fuzzer may choose the first draws.
#[derive(Clone)]
pub struct Rng {
    state: u64,
    /// Bytes that are drawn before any other, the next one last.
    chosen: Vec<u8>,
}

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed,
            chosen: Vec::new(),
        }
    }

    /// The draws that a fuzzer chose: the first bytes are the seed, each further one is a draw from a few. Behind them
    /// the seed decides, so that what waits for a certain draw ends.
    #[allow(dead_code, reason = "the targets of `fuzz` alone draw so")]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let (seed, chosen) = bytes.split_at(bytes.len().min(4));
        let seed = seed
            .iter()
            .fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        Self {
            state: seed,
            chosen: chosen.iter().rev().copied().collect(),
        }
    }

    /// Whether a fuzzer has chosen a further draw.
    #[allow(dead_code, reason = "the targets of `fuzz` alone draw so")]
    pub fn is_chosen(&self) -> bool {
        !self.chosen.is_empty()
    }

    pub fn next(&mut self) -> u64 {
        if self.chosen.len() >= 8 {
            return self.take(8);
        }
        self.of_seed()
    }

    fn of_seed(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STRIDE);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of so many chosen bytes.
    fn take(&mut self, n: usize) -> u64 {
        let rest = self.chosen.split_off(self.chosen.len() - n);
        rest.iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte))
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        match n {
            2..=0x100 if !self.chosen.is_empty() => self.take(1) as usize % n,
            0x101..=0x1_0000 if self.chosen.len() >= 2 => self.take(2) as usize % n,
            // One in so many means hardly ever, and nobody chooses it.
            _ => ((u128::from(self.of_seed()) * n as u128) >> 64) as usize,
        }
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
        match self.chosen.pop() {
            Some(byte) => byte,
            None => (self.next() >> 56) as u8,
        }
    }

    pub fn word(&mut self) -> u32 {
        match self.chosen.len() {
            4.. => self.take(4) as u32,
            _ => (self.next() >> 32) as u32,
        }
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
        let seed = first.wrapping_add(i.wrapping_mul(STRIDE.rotate_left(17)));
        let _replay = Replay { property, seed };
        case(&mut Rng::new(seed));
    }
    first
}
