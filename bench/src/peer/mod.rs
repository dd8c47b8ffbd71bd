//! QEMU's own colo-compare in a QEMU without a machine, fed over its sockets with the streams that
//! the `engine` part feeds the comparator with.
//!
//! What counts is CPU time: all threads of that QEMU, which does nothing else meanwhile.

mod feed;
mod qemu;

use std::time::Duration;

use crate::bed::{Bed, say};
use crate::engine::{Case, case};
use crate::error::BenchError;
use crate::figure::Figure;
use crate::samples::Samples;
pub use qemu::PROGRAM;
use qemu::Qemu;

/// Pairs per second and CPU time of each.
pub fn run(bed: &Bed) -> Result<Vec<Figure>, BenchError> {
    let mut samples = Samples::default();
    for case in case::for_peer() {
        measure(bed, &case, &mut samples)?;
    }
    Ok(samples.into_figures())
}

fn measure(bed: &Bed, case: &Case, samples: &mut Samples) -> Result<(), BenchError> {
    let folder = bed.folder()?;
    let (qemu, sockets) = Qemu::start(folder.path())?;
    let mut feed = feed::Feed::new(case, sockets);
    let short = Duration::from_millis(200);
    feed.run(short)?;
    let before = qemu.cpu_time()?;
    let passed = feed.run(bed.effort.pick(Duration::from_millis(1500), 2 * short))?;
    let cpu = qemu.cpu_time()? - before;
    let pairs = passed.pairs as f64;
    let name = case.to_string().replace("engine/", "peer/");
    let (cpu_ns, rate) = (
        cpu.as_nanos() as f64 / pairs,
        pairs / passed.time.as_secs_f64() / 1e6,
    );
    say(format_args!(
        "{name}: {cpu_ns:.0} ns of CPU per pair, {rate:.3} Mpps"
    ));
    samples.add(format!("{name}/cpu"), "ns/pair", cpu_ns);
    samples.add(format!("{name}/mpps"), "Mpps", rate);
    qemu.end();
    Ok(())
}
