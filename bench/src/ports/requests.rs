//! How long it takes from a difference to the checkpoint request, seen from outside: from the
//! moment when the port took the later frame until the monitor has read the request.
//!
//! Once for a byte that differs, once for a frame of the primary's whose counterpart never comes,
//! while a hundred thousand other flows are open. Each request is answered by a checkpoint.

use std::thread;
use std::time::Duration;

use etherparse::PacketBuilder;

use super::comparator;
use super::monitor::Monitor;
use super::script::Script;
use crate::bed::{Bed, say};
use crate::error::BenchError;
use crate::samples::{Samples, quantile};

/// Flows that are open while a counterpart is missing.
const OPEN: u32 = 100_000;
/// The comparator's timeout.
const TIMEOUT: Duration = Duration::from_millis(50);
/// Frames that are handed to the generator at a time.
const PART: u32 = 1000;
/// From a checkpoint to the next difference: everybody is idle again.
const PAUSE: Duration = Duration::from_millis(5);

const PRIMARY: usize = 0;
const SECONDARY: usize = 1;

/// Measures both, some times over.
pub fn run(bed: &Bed, samples: &mut Samples) -> Result<(), BenchError> {
    let folder = bed.folder()?;
    let dir = folder.path();
    let qmp = dir.join("monitor.sock");
    let monitor = Monitor::listen(&qmp)?;
    let timeout = TIMEOUT.as_millis().to_string();
    let middle = comparator(
        bed,
        dir,
        &[
            "--qmp",
            &qmp.display().to_string(),
            "--compare-timeout",
            &timeout,
            "--flows",
            "131072",
        ],
    )?;
    let mut script = Script::start(bed, dir)?;
    let open = bed.effort.pick(OPEN, OPEN / 10);
    say(format_args!("requests: opens {open} flows"));
    for first in (0..open).step_by(PART as usize) {
        let frames: Vec<_> = (first..first + PART).map(|flow| frame(flow, 0)).collect();
        script.send(PRIMARY, &frames)?;
        script.send(SECONDARY, &frames)?;
    }
    let mut flow = open;
    let mut differing = Vec::new();
    for _ in 0..bed.effort.pick(100, 30) {
        flow += 1;
        script.send(PRIMARY, &[frame(flow, 1)])?;
        let seen = script.send(SECONDARY, &[frame(flow, 2)])?;
        differing.push(span(seen, monitor.request()?));
        monitor.checkpoint();
        thread::sleep(PAUSE);
    }
    let mut missing = Vec::new();
    for _ in 0..bed.effort.pick(20, 5) {
        flow += 1;
        let seen = script.send(PRIMARY, &[frame(flow, 1)])?;
        let late = span(seen, monitor.request()?) - TIMEOUT.as_secs_f64() * 1e6;
        missing.push(late);
        monitor.checkpoint();
        thread::sleep(PAUSE);
    }
    for (what, mut values) in [("differing", differing), ("missing", missing)] {
        values.sort_by(f64::total_cmp);
        let (p50, p99) = (quantile(&values, 0.5), quantile(&values, 0.99));
        say(format_args!(
            "requests/{what}: p50 {p50:.0} µs, p99 {p99:.0} µs"
        ));
        samples.add(format!("requests/{what}/p50"), "µs", p50);
        samples.add(format!("requests/{what}/p99"), "µs", p99);
        samples.add(format!("requests/{what}/max"), "µs", quantile(&values, 1.0));
    }
    script.end()?;
    middle.end()
}

/// Microseconds; the generator's stamp may be a little late.
fn span(from: u128, to: u128) -> f64 {
    (to as f64 - from as f64) / 1e3
}

/// A segment of a flow, whose payload says `content`.
fn frame(flow: u32, content: u8) -> Vec<u8> {
    let [_, a, b, c] = flow.to_be_bytes();
    let mut bytes = Vec::new();
    let written = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([192, 0, 2, 1], [10, a, b, c], 64)
        .tcp(80, 40_000, 1000, 64_240)
        .ack(5000)
        .psh()
        .write(&mut bytes, &[content; 10]);
    written.expect("a vector takes all");
    bytes
}
