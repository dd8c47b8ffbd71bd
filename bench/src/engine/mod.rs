//! The comparator alone, on frames in memory and one core: nanoseconds and cycles per pair of P and S.
//!
//! Bursts of 32 go in as the poll loop brings them; every P must come out. The frames lie in the
//! second-level cache, where a port has just written them.

pub mod case;
#[allow(unsafe_code, reason = "reads the time stamp counter")]
pub mod clock;
mod drive;
pub mod pool;
mod shuffle;
pub mod template;

pub use case::{Case, LARGE, SMALL, for_instructions};
pub use clock::{Span, ticks};
pub use drive::Drive;
pub use shuffle::shuffled;
pub use template::Template;

use crate::error::BenchError;
use crate::figure::Figure;
use crate::interrupt;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pairs of a run, at least; every flow gets its turn.
    pub pairs: usize,
    /// Only cases whose name has this in it.
    pub only: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pairs: 200_000,
            only: String::new(),
        }
    }
}

/// Each case once. Two figures for it: `/ns` nanoseconds and `/cycles` ticks of the time stamp
/// counter, per pair.
///
/// # Errors
/// A signal.
pub fn run(options: &Options) -> Result<Vec<Figure>, BenchError> {
    let cases: Vec<Case> = case::all()
        .into_iter()
        .filter(|case| case.to_string().contains(&options.only))
        .collect();
    let span = clock::Span::begin();
    let mut cycles = Vec::new();
    for case in &cases {
        interrupt::check()?;
        cycles.push(Drive::new(case).run(options.pairs.max(case.flows)));
    }
    let ns_per_tick = span.ns_per_tick();
    let figures = cases.iter().zip(cycles).flat_map(|(case, cycles)| {
        let ns = cycles * ns_per_tick;
        [
            Figure::of(format!("{case}/ns"), "ns/pair", vec![ns]),
            Figure::of(format!("{case}/cycles"), "cycles/pair", vec![cycles]),
        ]
    });
    Ok(figures.collect())
}
