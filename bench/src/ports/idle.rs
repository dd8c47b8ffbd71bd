//! What the sleep of an idle poll core adds to the delay, at rates that leave a core idle between two segments.
//!
//! The comparator runs with `--idle-sleep 0` and with the default, in turns. A rate of 50 a second lets the sleep reach
//! its longest length, and at 20,000 a second the pauses are too short for one.

use super::{AWAKE, comparator, load, number};
use crate::error::BenchError;
use crate::figure::Figure;
use crate::fixture::{Fixture, say};
use crate::samples::Samples;

/// The longest sleeps, in microseconds: none, and the default.
const SLEEPS: [&str; 2] = [AWAKE, "250"];
/// Segments a second.
const RATES: [u64; 3] = [50, 1_000, 20_000];
/// Bytes of the frames, without FCS.
const FRAME: usize = 64;

/// Delays with and without sleeps.
pub fn run(fixture: &Fixture) -> Result<Vec<Figure>, BenchError> {
    let mut samples = Samples::default();
    let ms = fixture.effort.pick(4_000, 1_000);
    for rate in RATES {
        for sleep in SLEEPS {
            let folder = fixture.folder()?;
            let middle = comparator(fixture, folder.path(), sleep, &[])?;
            let report = load(
                fixture,
                folder.path(),
                FRAME,
                ms,
                &["--pps", &rate.to_string()],
            )?;
            middle.end()?;
            let delay = |quantile: &str| number(&report, &format!("/paced/delay_ns/{quantile}"));
            let (p50, p99) = (delay("p50")? / 1e3, delay("p99")? / 1e3);
            let name = format!("idle/{rate}/sleep-{sleep}");
            say(format_args!(
                "{name}: delay p50 {p50:.1} µs, p99 {p99:.1} µs"
            ));
            samples.add(format!("{name}/delay-p50"), "µs", p50);
            samples.add(format!("{name}/delay-p99"), "µs", p99);
        }
    }
    Ok(samples.figures())
}
