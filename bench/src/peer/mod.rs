//! QEMU's own colo-compare in a QEMU without a machine, fed over its sockets with the streams that
//! the `engine` part feeds the comparator with.
//!
//! What counts is CPU time: all threads of that QEMU, which does nothing else meanwhile.

mod feed;
mod qemu;

use std::time::Duration;

use crate::engine::{Case, case};
use crate::error::BenchError;
use crate::figure::Figure;
use crate::fixture::{Fixture, say};
use crate::samples::Samples;
pub use qemu::PROGRAM;
use qemu::Qemu;

/// What passes before anything is measured.
const WARM_UP: Duration = Duration::from_millis(200);
/// Turns of each case in a round.
const TURNS: usize = 3;

/// Pairs per second and CPU time of each: the best of a few turns, since what else runs on the
/// machine costs CPU time, too.
pub fn run(fixture: &Fixture) -> Result<Vec<Figure>, BenchError> {
    let mut samples = Samples::default();
    let cases = case::for_peer();
    let mut best = vec![(f64::INFINITY, 0.0f64); cases.len()];
    for _ in 0..TURNS {
        for (case, (cpu_ns, mpps)) in cases.iter().zip(&mut best) {
            let turn = measure(fixture, case)?;
            (*cpu_ns, *mpps) = (cpu_ns.min(turn.0), mpps.max(turn.1));
        }
    }
    for (case, (cpu_ns, mpps)) in cases.iter().zip(best) {
        let name = case.to_string().replace("engine/", "peer/");
        say(format_args!(
            "{name}: {cpu_ns:.0} ns of CPU per pair, {mpps:.3} Mpps"
        ));
        samples.add(format!("{name}/cpu"), "ns/pair", cpu_ns);
        samples.add(format!("{name}/mpps"), "Mpps", mpps);
    }
    Ok(samples.figures())
}

/// Nanoseconds of CPU time per pair, and millions of pairs per second.
fn measure(fixture: &Fixture, case: &Case) -> Result<(f64, f64), BenchError> {
    let folder = fixture.folder()?;
    let (qemu, sockets) = Qemu::start(folder.path())?;
    let mut feed = feed::Feed::new(case, sockets);
    feed.run(WARM_UP)?;
    let before = qemu.cpu_time()?;
    let passed = feed.run(fixture.effort.pick(4 * WARM_UP, 2 * WARM_UP))?;
    let cpu = qemu.cpu_time()? - before;
    qemu.end();
    let pairs = passed.pairs as f64;
    Ok((
        cpu.as_nanos() as f64 / pairs,
        pairs / passed.time.as_secs_f64() / 1e6,
    ))
}
