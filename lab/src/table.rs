//! The comparison: QEMU's own proxy, the protected pair and an unprotected guest, same loads, one run.
//!
//! Out: a table on standard output and the same figures as JSON. A load that a proxy cannot carry to its
//! end shows what came in its time limit, or a dash.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use crate::error::LabError;
use crate::node::dpdk_version;
use crate::pair::{Host, Mode, Pair};
use crate::process::run as command;
use crate::progress::say;
use crate::qemu;
use crate::workload::http::{self, Page};
use crate::workload::iperf::{self, Direction};
use crate::workload::{Family, redis};

/// No load runs longer than this in any row.
const LIMIT: Duration = Duration::from_secs(20);
/// Seconds of each iperf3 run.
const IPERF: u32 = 5;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// QEMU's own proxy.
    Stock,
    /// The pair under `dpdk-colo`.
    Pair,
    /// One guest behind testpmd.
    Unprotected,
    /// One guest behind `dpdk-colo` that has no secondary.
    Alone,
    /// One guest on a tap.
    Plain,
}

impl Row {
    /// By its name on the command line.
    ///
    /// # Errors
    /// The names there are.
    pub fn parse(name: &str) -> Result<Self, UnknownRow> {
        match name {
            "stock" => Ok(Self::Stock),
            "pair" => Ok(Self::Pair),
            "unprotected" => Ok(Self::Unprotected),
            "alone" => Ok(Self::Alone),
            "plain" => Ok(Self::Plain),
            _ => Err(UnknownRow),
        }
    }
}

impl Row {
    /// The set-up that it measures.
    pub fn mode(self, bin: PathBuf) -> Mode {
        match self {
            Self::Stock => Mode::Stock,
            Self::Pair => Mode::Protected(bin),
            Self::Unprotected => Mode::Unprotected,
            Self::Alone => Mode::Alone(bin),
            Self::Plain => Mode::Plain,
        }
    }
}

/// A name that is no row's.
#[derive(Debug, thiserror::Error)]
#[error("a row is stock, pair, unprotected, alone or plain")]
pub struct UnknownRow;

/// What one set-up carried; `None` where nothing came.
#[derive(Debug, Default, Serialize)]
struct Figures {
    setup: String,
    tcp_timestamps: bool,
    page_bytes_per_s: Option<f64>,
    small_page_ms: Option<f64>,
    redis_per_s: Option<f64>,
    redis_pipelined_per_s: Option<f64>,
    iperf_from_guest_bit_per_s: Option<f64>,
    iperf_to_guest_bit_per_s: Option<f64>,
    checkpoints: usize,
    failures: Vec<String>,
}

/// Measures the rows (all that can be, if `only` is empty) and prints the table.
///
/// # Errors
/// What kept a set-up from running. A load that fails is a figure that is missing, not an error.
pub fn run(
    host: &Host,
    bin: Option<PathBuf>,
    only: &[Row],
    json_file: &Path,
) -> Result<(), LabError> {
    let mut modes = Vec::new();
    for row in [
        Row::Stock,
        Row::Pair,
        Row::Unprotected,
        Row::Alone,
        Row::Plain,
    ] {
        let asked = only.contains(&row) || (only.is_empty() && row != Row::Plain);
        match (row, &bin) {
            _ if !asked => {}
            (Row::Stock, _) => modes.push(Mode::Stock),
            (Row::Pair, Some(bin)) => modes.push(Mode::Protected(bin.clone())),
            (Row::Alone, Some(bin)) => modes.push(Mode::Alone(bin.clone())),
            (Row::Alone, None) => {}
            (Row::Pair, None) => say("table", "no --bin: the protected pair is left out"),
            (Row::Unprotected, _) => modes.push(Mode::Unprotected),
            (Row::Plain, _) => modes.push(Mode::Plain),
        }
    }
    let mut rows = Vec::new();
    for timestamps in [true, false] {
        for mode in &modes {
            let with = if timestamps { "with" } else { "without" };
            say("table", format!("{mode}, {with} TCP timestamps"));
            rows.push(measure(mode, host, timestamps)?);
        }
    }
    print!("{}", Table(&rows));
    let document = json!({
        "qemu": command(&[qemu::PROGRAM, "--version"])?.lines().next(),
        "dpdk": dpdk_version(),
        "accelerator": host.accel.to_string(),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "rows": rows,
    });
    if let Some(dir) = json_file.parent() {
        fs::create_dir_all(dir).map_err(LabError::file(dir))?;
    }
    fs::write(json_file, format!("{document:#}\n")).map_err(LabError::file(json_file))?;
    say("table", format!("figures are in {}", json_file.display()));
    Ok(())
}

fn measure(mode: &Mode, host: &Host, timestamps: bool) -> Result<Figures, LabError> {
    let pair = Pair::start(mode, host, timestamps)?;
    let (before, dir) = (pair.checkpoints().len(), pair.dir());
    let mut figures = Figures {
        setup: mode.to_string(),
        tcp_timestamps: timestamps,
        ..Figures::default()
    };
    let failures = &mut figures.failures;
    let v4 = Family::V4;
    let pages = attempt(&pair, failures, || {
        Ok(http::fetch(v4, Page::Usual, 50, Some(LIMIT))?)
    })?;
    let small = attempt(&pair, failures, || {
        Ok(http::fetch(v4, Page::Small, 200, Some(LIMIT))?)
    })?;
    let single = attempt(&pair, failures, || {
        Ok(redis::exchange(v4, 5000, 1, Some(LIMIT))?)
    })?;
    let pipelined = attempt(&pair, failures, || {
        Ok(redis::exchange(v4, 20_000, 50, Some(LIMIT))?)
    })?;
    let from = attempt(&pair, failures, || {
        iperf::run(v4, Direction::FromGuest, IPERF, dir)
    })?;
    let to = attempt(&pair, failures, || {
        iperf::run(v4, Direction::ToGuest, IPERF, dir)
    })?;
    figures.page_bytes_per_s = pages.map(|pages| pages.rate());
    figures.small_page_ms = small
        .and_then(|small| small.median())
        .map(|median| median.as_secs_f64() * 1e3);
    figures.redis_per_s = single.map(|done| done.rate());
    figures.redis_pipelined_per_s = pipelined.map(|done| done.rate());
    figures.iperf_from_guest_bit_per_s = from.map(|run| run.bit_rate);
    figures.iperf_to_guest_bit_per_s = to.map(|run| run.bit_rate);
    figures.checkpoints = pair.checkpoints().len() - before;
    pair.finish()?;
    Ok(figures)
}

/// Runs a load in the client's namespace. Its failure is noted, a signal is passed on.
fn attempt<T: Send>(
    pair: &Pair,
    failures: &mut Vec<String>,
    load: impl FnOnce() -> Result<T, LabError> + Send,
) -> Result<Option<T>, LabError> {
    match pair.net.enter(load) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_interrupt() => Err(error),
        Err(error) => {
            say("failed", &error);
            failures.push(error.to_string());
            Ok(None)
        }
    }
}

/// The printed form.
struct Table<'a>(&'a [Figures]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<22} {:>5} {:>10} {:>9} {:>9} {:>10} {:>11} {:>11} {:>6}",
            "", "TCP", "page", "1 byte", "redis", "pipelined", "iperf3 from", "iperf3 to", "check-"
        )?;
        writeln!(
            f,
            "{:<22} {:>5} {:>10} {:>9} {:>9} {:>10} {:>11} {:>11} {:>6}",
            "set-up", "times", "MB/s", "ms", "per s", "per s", "Mbit/s", "Mbit/s", "points"
        )?;
        for row in self.0 {
            let cell = |value: Option<f64>, unit: f64| match value {
                None => "-".to_owned(),
                Some(value) if value / unit >= 100.0 => format!("{:.0}", value / unit),
                Some(value) if value / unit >= 1.0 => format!("{:.1}", value / unit),
                Some(value) => format!("{:.3}", value / unit),
            };
            writeln!(
                f,
                "{:<22} {:>5} {:>10} {:>9} {:>9} {:>10} {:>11} {:>11} {:>6}",
                row.setup,
                if row.tcp_timestamps { "yes" } else { "no" },
                cell(row.page_bytes_per_s, 1e6),
                cell(row.small_page_ms, 1.0),
                cell(row.redis_per_s, 1.0),
                cell(row.redis_pipelined_per_s, 1.0),
                cell(row.iperf_from_guest_bit_per_s, 1e6),
                cell(row.iperf_to_guest_bit_per_s, 1e6),
                row.checkpoints,
            )?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_figures_are_dashes_and_small_ones_keep_digits() {
        let row = Figures {
            setup: "x".to_owned(),
            page_bytes_per_s: Some(2_500.0),
            redis_per_s: Some(5_123.0),
            ..Figures::default()
        };
        let text = Table(&[row]).to_string();
        let last: Vec<&str> = text
            .lines()
            .rfind(|line| !line.is_empty())
            .into_iter()
            .flat_map(str::split_whitespace)
            .collect();
        assert_eq!(last, ["x", "no", "0.003", "-", "5123", "-", "-", "-", "0"]);
    }
}
