//! Random numbers that a seed replays, and the loops that run a test over many cases.
//!
//! `DPDK_COLO_SEED` sets the seed of a test's first case, `DPDK_COLO_CASES` the number of its cases. A failing case
//! prints its own seed; with that seed and one case it comes again.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::thread;

/// The increment of splitmix64, and the base of the distance between the seeds of two cases.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A splitmix64 generator (Steele, Lea, Flood 2014): fast, and any seed will do. A fuzzer may choose the first
/// draws.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
    /// Bytes that are drawn before any other, the next one last.
    chosen: Vec<u8>,
}

impl Rng {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed,
            chosen: Vec::new(),
        }
    }

    /// The draws that a fuzzer chose: the first bytes are the seed, each further one is a draw from a few. Behind them
    /// the seed decides, so that what waits for a certain draw ends.
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
    pub fn is_chosen(&self) -> bool {
        !self.chosen.is_empty()
    }

    /// The same numbers for the same seed and purpose. Each purpose has numbers of its own.
    pub fn for_purpose(seed: u64, purpose: &str) -> Self {
        // FNV-1a.
        let hash = purpose.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self::new(seed ^ hash)
    }

    /// A generator for one run of a test, from `DPDK_COLO_SEED` or a random seed. Prints how to replay the run.
    pub fn for_test(test: &str) -> Self {
        let seed = variable("DPDK_COLO_SEED").unwrap_or_else(|| RandomState::new().hash_one(test));
        println!("{test}: replay with DPDK_COLO_SEED={seed:#x}");
        Self::new(seed)
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "the numbers never end")]
    pub fn next(&mut self) -> u64 {
        match self.chosen.len() {
            8.. => self.take(8),
            _ => self.next_of_seed(),
        }
    }

    fn next_of_seed(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of `n` chosen bytes.
    fn take(&mut self, n: usize) -> u64 {
        let bytes = self.chosen.split_off(self.chosen.len() - n);
        bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        match n {
            2..=0x100 if !self.chosen.is_empty() => self.take(1) as usize % n,
            0x101..=0x1_0000 if self.chosen.len() >= 2 => self.take(2) as usize % n,
            // One in more means hardly ever, and nobody chooses it.
            _ => ((u128::from(self.next_of_seed()) * n as u128) >> 64) as usize,
        }
    }

    /// A number of the range, which must not be empty.
    pub fn within(&mut self, range: Range<usize>) -> usize {
        range.start + self.below(range.end - range.start)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True in one of `n` draws.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of the choices, of which there must be one at least.
    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        match self.chosen.pop() {
            Some(byte) => byte,
            None => (self.next() >> 56) as u8,
        }
    }

    /// `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n.div_ceil(8))
            .flat_map(|_| self.next().to_le_bytes())
            .take(n)
            .collect()
    }

    /// A number of 32 bits.
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

    /// Any order of several sequences that keeps the order within each.
    pub fn interleave<T>(&mut self, sequences: Vec<Vec<T>>) -> Vec<T> {
        let mut rest: Vec<_> = sequences.into_iter().map(Vec::into_iter).collect();
        let mut whole = Vec::new();
        while !rest.is_empty() {
            let at = self.below(rest.len());
            match rest[at].next() {
                Some(item) => whole.push(item),
                None => drop(rest.swap_remove(at)),
            }
        }
        whole
    }
}

/// Names the failing case while a panic unwinds through it.
struct Replay<'a> {
    test: &'a str,
    seed: u64,
}

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "{}: replay with DPDK_COLO_SEED={:#x} DPDK_COLO_CASES=1",
                self.test, self.seed
            );
        }
    }
}

/// Runs a property over the cases that the environment asks for, else over `usual` of them from a random seed on.
/// Returns the first case's seed, which replays them all.
pub fn for_cases(property: &str, usual: usize, case: impl FnMut(&mut Rng)) -> u64 {
    let first = variable("DPDK_COLO_SEED");
    let first = first.unwrap_or_else(|| RandomState::new().hash_one(property));
    run(property, first, usual, case);
    first
}

/// Runs a unit test over the cases that the environment asks for, else over the same `usual` cases each time.
pub fn for_seeds(usual: usize, case: impl FnMut(&mut Rng)) {
    let thread = thread::current();
    let first = variable("DPDK_COLO_SEED").unwrap_or(0);
    run(thread.name().unwrap_or("a test"), first, usual, case);
}

fn run(test: &str, first: u64, usual: usize, mut case: impl FnMut(&mut Rng)) {
    let cases = variable("DPDK_COLO_CASES").unwrap_or(usual as u64);
    for i in 0..cases {
        let seed = first.wrapping_add(i.wrapping_mul(GAMMA.rotate_left(17)));
        let _replay = Replay { test, seed };
        case(&mut Rng::new(seed));
    }
}

/// A number in the environment, decimal or with `0x`.
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    Some(number.unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The seeds in docs and reports replay the same cases only with the same numbers.
#[test]
fn a_seed_gives_the_numbers_of_splitmix64() {
    let mut rng = Rng::new(1);
    let numbers = [rng.next(), rng.next(), rng.next()];
    assert_eq!(
        numbers,
        [
            0x910a_2dec_8902_5cc1,
            0xbeeb_8da1_658e_ec67,
            0xf893_a2ee_fb32_555e
        ]
    );
    assert_eq!(Rng::new(1).below(1000), 566);
}

/// The corpora of the fuzz targets mean the same stories only with the same draws.
#[test]
fn chosen_bytes_are_drawn_first_and_the_seed_goes_on() {
    let mut rng = Rng::of_bytes(&[
        0, 0, 0, 1, 7, 1, 2, 9, 1, 2, 3, 4, 1, 0, 0, 0, 0, 0, 0, 0, 5,
    ]);
    assert_eq!((rng.below(4), rng.below(0x101)), (3, 0x0201 % 0x101));
    assert_eq!((rng.byte(), rng.word(), rng.next()), (9, 0x0403_0201, 1));
    assert!(rng.is_chosen());
    assert_eq!(rng.below(2), 1);
    assert!(!rng.is_chosen());
    let mut seeded = Rng::new(1);
    assert_eq!(
        (rng.next(), rng.byte(), rng.below(1000)),
        (seeded.next(), seeded.byte(), seeded.below(1000))
    );
}
