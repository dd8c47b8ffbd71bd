//! The comparator alone, on frames in memory and one core: nanoseconds and cycles per pair of P and S.
//!
//! Bursts of 32 go in as the poll loop brings them; every P must come out. The frames lie in the
//! second-level cache, where a port has just written them. The cases take turns in each run, so
//! that a slow moment of the machine hits all of them.

mod case;
mod clock;
mod drive;
mod pool;
mod shuffle;
mod template;

pub use case::{Case, LARGE, SMALL, for_instructions};
pub use clock::{Span, ticks};
pub use drive::Drive;
pub use shuffle::shuffled;
pub use template::Template;

use crate::figure::Figure;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often each case runs.
    pub runs: usize,
    /// Pairs of a run, at least; every flow gets its turn.
    pub pairs: usize,
    /// Only cases whose name has this in it.
    pub only: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            runs: 5,
            pairs: 200_000,
            only: String::new(),
        }
    }
}

/// Two figures for each case: `/ns` nanoseconds and `/cycles` ticks of the time stamp counter, per pair.
pub fn run(options: &Options) -> Vec<Figure> {
    let cases: Vec<Case> = case::all()
        .into_iter()
        .filter(|case| case.to_string().contains(&options.only))
        .collect();
    let span = clock::Span::begin();
    let mut cycles = vec![Vec::new(); cases.len()];
    for _ in 0..options.runs {
        for (case, values) in cases.iter().zip(&mut cycles) {
            values.push(Drive::new(case).run(options.pairs.max(case.flows)));
        }
    }
    let ns_per_tick = span.ns_per_tick();
    let figures = cases.iter().zip(cycles).flat_map(|(case, cycles)| {
        let ns = cycles.iter().map(|c| c * ns_per_tick).collect();
        [
            Figure::of(format!("{case}/ns"), "ns/pair", ns),
            Figure::of(format!("{case}/cycles"), "cycles/pair", cycles),
        ]
    });
    figures.collect()
}
