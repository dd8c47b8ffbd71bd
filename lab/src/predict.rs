//! Whether `coloctl compare` predicts from plain frames the checkpoints that a pair made: `colo-lab predict`.
//!
//! Each load meets a pair of its own that captures. Of the captures only the frames of both guests' ports count, the
//! SVM's in its own numbers (docs/compare.md).

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::LabError;
use crate::interrupt;
use crate::node::CAPTURE;
use crate::pair::{Host, Mode, Pair};
use crate::progress::say;
use crate::workload::dated::{self, Page};
use crate::workload::{Family, TrafficError, differ, http};

/// Between two pages: 50 in a second.
const PAGES: Duration = Duration::from_millis(20);
/// Between two answers of the differing service.
const ANSWERS: Duration = Duration::from_millis(400);
/// Until a request that is due has led to its checkpoint.
const SETTLE: Duration = Duration::from_secs(4);
/// From a request for a checkpoint to STOP, in milliseconds, where nothing measures it.
const REQUEST_MS: u64 = 5;
/// How far a prediction may be off.
const GOAL: f64 = 0.2;

#[derive(Debug, Clone, Copy)]
enum Load {
    /// Pages with a date.
    Dated,
    /// The differing service beside pages of 300 kB.
    Differing,
    /// Pages that all differ, one behind the other.
    Odd,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dated => "pages with a date, 50 a second",
            Self::Differing => "the differing service every 400 ms, beside pages of 300 kB",
            Self::Odd => "pages that all differ, one behind the other",
        })
    }
}

impl Load {
    const ALL: [Self; 3] = [Self::Dated, Self::Differing, Self::Odd];

    fn run(self, time: Duration) -> Result<(), TrafficError> {
        let start = Instant::now();
        match self {
            Self::Dated => dated::run(PAGES, time).map(|_| ()),
            Self::Differing => {
                while start.elapsed() < time && !interrupt::came() {
                    let next = Instant::now() + ANSWERS;
                    differ::ask(Family::V4)?;
                    http::fetch(Family::V4, http::Page::Usual, 1, None)?;
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                Ok(())
            }
            Self::Odd => {
                while start.elapsed() < time && !interrupt::came() {
                    dated::fetch(Family::V4, Page::Odd)?;
                }
                Ok(())
            }
        }
    }
}

/// What came of one load.
struct Row {
    load: Load,
    made: usize,
    checkpoint_ms: u64,
    predicted: u64,
    seconds: f64,
    report: Value,
}

impl Row {
    /// How far the prediction is off, as a share of what was made.
    fn error(&self) -> f64 {
        (self.predicted as f64 - self.made as f64) / (self.made as f64).max(1.0)
    }
}

/// The capture of a role in a run folder.
fn capture(dir: &Path, role: &str) -> Result<PathBuf, LabError> {
    let dir = dir.join(CAPTURE);
    let files = fs::read_dir(&dir).map_err(LabError::file(&dir))?;
    let found = files.flatten().map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".pcapng") && name.contains(role)
    });
    found.ok_or_else(|| LabError::Claim {
        reason: format!("the {role} node has left no capture in {}", dir.display()),
    })
}

/// Predicts from copies of the captures, because the nodes' own go with the run folder.
fn compare(ctl: &Path, [p, s]: [&Path; 2], checkpoint_ms: u64) -> Result<Value, LabError> {
    let output = Command::new(ctl)
        .args(["--json", "compare"])
        .args([p, s])
        .args(["--checkpoint-time", &checkpoint_ms.to_string()])
        .output()
        .map_err(LabError::file(ctl))?;
    let claim = |reason: String| LabError::Claim { reason };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(claim(said));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| claim(error.to_string()))
}

fn measure(
    load: Load,
    host: &Host,
    bin: &Path,
    ctl: &Path,
    time: Duration,
) -> Result<Row, LabError> {
    let mut pair = Pair::start(&Mode::Protected(bin.to_owned()), host, true)?;
    let before = pair.checkpoints().len();
    pair.net.enter(|| Ok(load.run(time)?))?;
    interrupt::sleep(SETTLE)?;
    // The captures go on until here.
    pair.net
        .enter(|| Ok(http::fetch(Family::V4, http::Page::Usual, 1, None)?))?;
    pair.alive()?;
    let checkpoints = pair.checkpoints();
    let mut stopped: Vec<_> = checkpoints[before..]
        .iter()
        .map(|one| one.resume.saturating_sub(one.stop).as_millis() as u64)
        .collect();
    stopped.sort_unstable();
    let median = stopped.get(stopped.len() / 2).copied().unwrap_or(0);
    let dir = tempfile::tempdir().map_err(LabError::file(&std::env::temp_dir()))?;
    let run = pair.dir().to_owned();
    // What a node has written stands in its file within some milliseconds.
    interrupt::sleep(Duration::from_secs(1))?;
    let copies = [("primary", "p.pcapng"), ("secondary", "s.pcapng")].map(
        |(role, name)| -> Result<PathBuf, LabError> {
            let (from, to) = (capture(&run, role)?, dir.path().join(name));
            fs::copy(&from, &to).map_err(LabError::file(&from))?;
            Ok(to)
        },
    );
    let [p, s] = copies;
    let (p, s) = (p?, s?);
    pair.finish()?;
    let checkpoint_ms = median + REQUEST_MS;
    let report = compare(ctl, [&p, &s], checkpoint_ms)?;
    Ok(Row {
        load,
        made: checkpoints.len() - before,
        checkpoint_ms,
        predicted: report["checkpoints"]["count"].as_u64().unwrap_or(0),
        seconds: report["compared"]["seconds"].as_f64().unwrap_or(0.0),
        report,
    })
}

/// Runs each load for `seconds` beside a pair of its own; true if each prediction is as near as it should be.
///
/// # Errors
/// What kept a pair from running, or a load from its end, or its captures from being compared.
pub fn run(host: &Host, bin: &Path, seconds: u64) -> Result<bool, LabError> {
    if host.audit.is_none() {
        return Err(LabError::Claim {
            reason: "name the auditor with --audit: without it nodes do not capture".to_owned(),
        });
    }
    let ctl = bin.with_file_name("coloctl");
    let mut rows = Vec::new();
    for load in Load::ALL {
        let row = measure(load, host, bin, &ctl, Duration::from_secs(seconds))?;
        say(
            "predict",
            format!("{load}: {} made, {} predicted", row.made, row.predicted),
        );
        for key in ["clock", "checkpoints", "held", "notes"] {
            println!("  {key}: {}", row.report[key]);
        }
        rows.push(row);
    }
    println!("| load | seconds | checkpoints made | predicted | off by | median of a checkpoint |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for row in &rows {
        println!(
            "| {} | {:.0} | {} | {} | {:+.1} % | {} ms |",
            row.load,
            row.seconds,
            row.made,
            row.predicted,
            100.0 * row.error(),
            row.checkpoint_ms
        );
    }
    Ok(rows.iter().all(|row| row.error().abs() <= GOAL))
}
