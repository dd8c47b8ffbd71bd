//! How long it takes from a difference to the checkpoint request.
//!
//! | figure | from | until |
//! | --- | --- | --- |
//! | `requests/differing/written` | the round in which the comparator saw a differing byte | the request's bytes were written to the monitor's socket, by its own summary |
//! | `requests/differing/read` | the generator's port took the frame | the monitor has read the request |
//! | `requests/missing/read` | the same for a frame whose counterpart never comes, less the timeout | the same, while a hundred thousand other flows are open |
//!
//! Each request is answered by a checkpoint.

use std::fs;
use std::thread;
use std::time::Duration;

use etherparse::PacketBuilder;
use serde_json::Value;
use tempfile::TempDir;

use super::monitor::Monitor;
use super::sched_policy::SchedPolicy;
use super::script::Script;
use super::{AWAKE, comparator, number};
use crate::error::BenchError;
use crate::figure::Figure;
use crate::fixture::{Fixture, say};
use crate::interrupt;
use crate::process::Process;
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
const OUT: usize = 2;

/// Measures both, some times over.
pub fn run(fixture: &Fixture) -> Result<Vec<Figure>, BenchError> {
    let mut samples = Samples::default();
    let mut stage = Stage::set(fixture, SchedPolicy::Idle)?;
    let mut read = Vec::new();
    for flow in 0..fixture.effort.pick(200, 50) {
        interrupt::check()?;
        let p = frame(flow, 1);
        stage.script.send(PRIMARY, std::slice::from_ref(&p))?;
        let seen = stage.script.send(SECONDARY, &[frame(flow, 2)])?;
        read.push(stage.request(seen, &p)?);
    }
    let summary = stage.end()?;
    note("requests/differing/read", read, &mut samples);
    for key in ["p50", "p99"] {
        let pointer = format!("/request_ns/{key}");
        let written = number(&summary, &pointer)? / 1e3;
        say(format_args!(
            "requests/differing/written/{key}: {written:.1} µs"
        ));
        samples.add(format!("requests/differing/written/{key}"), "µs", written);
    }

    let mut stage = Stage::set(fixture, SchedPolicy::Normal)?;
    let open = fixture.effort.pick(OPEN, OPEN / 10);
    say(format_args!("requests: opens {open} flows"));
    for first in (0..open).step_by(PART as usize) {
        interrupt::check()?;
        let frames: Vec<_> = (first..first + PART).map(|flow| frame(flow, 0)).collect();
        stage.script.send(PRIMARY, &frames)?;
        stage.script.send(SECONDARY, &frames)?;
    }
    let mut late = Vec::new();
    for flow in open..open + fixture.effort.pick(20, 5) {
        interrupt::check()?;
        let p = frame(flow, 1);
        let seen = stage.script.send(PRIMARY, std::slice::from_ref(&p))?;
        late.push(stage.request(seen, &p)? - TIMEOUT.as_secs_f64() * 1e6);
    }
    stage.end()?;
    note("requests/missing/read", late, &mut samples);
    Ok(samples.figures())
}

/// A comparator with a monitor, and the frames' source.
struct Stage {
    folder: TempDir,
    monitor: Monitor,
    middle: Process,
    script: Script,
}

impl Stage {
    fn set(fixture: &Fixture, policy: SchedPolicy) -> Result<Self, BenchError> {
        let folder = fixture.folder()?;
        let dir = folder.path();
        let path = |name: &str| dir.join(name).display().to_string();
        let monitor = Monitor::listen(&dir.join("monitor.sock"), policy)?;
        let options = [
            ["--qmp", &path("monitor.sock")],
            ["--summary", &path("summary.json")],
            ["--compare-timeout", &TIMEOUT.as_millis().to_string()],
            ["--flows", "131072"],
        ];
        Ok(Self {
            monitor,
            middle: comparator(fixture, dir, AWAKE, &options.concat())?,
            script: Script::start(fixture, dir, policy)?,
            folder,
        })
    }

    /// Waits for the request and answers it, and until the held frame has left by the commit: what
    /// is sent next belongs to the next epoch. Returns microseconds since a moment.
    fn request(&mut self, since: u128, held: &[u8]) -> Result<f64, BenchError> {
        let read = self.monitor.request()?;
        self.monitor.checkpoint();
        self.script.received(OUT, held)?;
        thread::sleep(PAUSE);
        Ok(span(since, read))
    }

    /// Ends all of it; the comparator's summary.
    fn end(self) -> Result<Value, BenchError> {
        self.script.end()?;
        self.middle.end()?;
        let path = self.folder.path().join("summary.json");
        let text = fs::read_to_string(&path).map_err(BenchError::file(&path))?;
        let read = serde_json::from_str(&text).map_err(std::io::Error::from);
        read.map_err(BenchError::file(&path))
    }
}

fn note(name: &str, mut values: Vec<f64>, samples: &mut Samples) {
    values.sort_by(f64::total_cmp);
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| quantile(&values, share));
    say(format_args!("{name}: p50 {p50:.0} µs, p99 {p99:.0} µs"));
    for (key, value) in [("p50", p50), ("p99", p99), ("max", max)] {
        samples.add(format!("{name}/{key}"), "µs", value);
    }
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
