//! How costs grow: with flows, held frames, new flows, and VM pairs of a process.

mod churn;
mod idle;

use std::fs;

use crate::engine::{Case, Drive, case, clock};
use crate::error::BenchError;
use crate::figure::Figure;
use crate::fixture::Fixture;
use crate::interrupt;
use crate::samples::Samples;

/// Flows that take turns.
const FLOWS: [usize; 5] = [1, 100, 10_000, 100_000, 1_000_000];
/// Bytes of frames that wait meanwhile, in MiB.
const HELD: [usize; 4] = [0, 16, 128, 1024];
/// VM pairs of one process, which has 32 ports at most.
const PAIRS: [usize; 4] = [1, 2, 4, 8];
/// Bytes of a frame with the large payload.
const LARGE_FRAME: usize = case::LARGE + 54;

/// One round of all of it.
pub fn run(fixture: &Fixture) -> Result<Vec<Figure>, BenchError> {
    let mut samples = Samples::default();
    let pairs = fixture.effort.pick(200_000, 50_000);
    let span = clock::Span::begin();
    let mut ticks = Vec::new();
    for flows in FLOWS {
        interrupt::check()?;
        let case = Case {
            flows,
            ..case::PLAIN
        };
        ticks.push((format!("scale/flows/{flows}"), cost(&case, pairs)));
    }
    for megabytes in held(fixture) {
        interrupt::check()?;
        let case = Case {
            payload: case::LARGE,
            held: (megabytes << 20) / LARGE_FRAME,
            ..case::PLAIN
        };
        ticks.push((
            format!("scale/held-mib/{megabytes}"),
            cost(&case, pairs / 4),
        ));
    }
    let (flows, cost) = churn::run(5 * pairs);
    ticks.push(("scale/new-flows".to_owned(), cost / flows as f64));
    let ns_per_tick = span.ns_per_tick();
    for (name, ticks) in ticks {
        let unit = if name == "scale/new-flows" {
            "ns/flow"
        } else {
            "ns/pair"
        };
        samples.add(name, unit, ticks * ns_per_tick);
    }
    for pairs in PAIRS {
        let ns = idle::round_ns(fixture, pairs)?;
        samples.add(format!("scale/vm-pairs/{pairs}"), "ns/round", ns);
    }
    Ok(samples.figures())
}

/// Ticks for each pair.
fn cost(case: &Case, pairs: usize) -> f64 {
    Drive::new(case).run(pairs.max(case.flows))
}

/// The amounts for which there is memory, with as much again for the rest of the machine.
fn held(fixture: &Fixture) -> Vec<usize> {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let available = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let megabytes = available.unwrap_or(0usize) / 1024;
    let most = fixture.effort.pick(1024, 128).min(megabytes / 3);
    HELD.into_iter().filter(|held| *held <= most).collect()
}
