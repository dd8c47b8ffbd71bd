//! The comparison: QEMU's own proxy, the protected pair and an unprotected guest, same loads, one run.
//!
//! Out: a table on standard output and the same figures as JSON. A load that a proxy cannot carry to its
//! end shows what came in its time limit, or a dash.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use crate::error::LabError;
use crate::node::dpdk_version;
use crate::pair::{Host, Mode, Pair};
use crate::progress::say;
use crate::series::{self, Figures};

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// QEMU's own proxy.
    Stock,
    /// The pair under `dpdk-colo`.
    Pair,
    /// One guest behind testpmd.
    Unprotected,
    /// Two guests, each behind a testpmd of its own, that do the same at the same time: what two
    /// VMs leave of one on a machine with few CPUs.
    Both,
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
            "both" => Ok(Self::Both),
            "alone" => Ok(Self::Alone),
            "plain" => Ok(Self::Plain),
            _ => Err(UnknownRow),
        }
    }
}

impl Row {
    /// Its name on the command line and in the JSON.
    fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Pair => "pair",
            Self::Unprotected => "unprotected",
            Self::Both => "both",
            Self::Alone => "alone",
            Self::Plain => "plain",
        }
    }

    /// The set-up that it measures, for [`Row::Both`] each of the two.
    pub fn mode(self, bin: PathBuf) -> Mode {
        match self {
            Self::Stock => Mode::Stock,
            Self::Pair => Mode::Protected(bin),
            Self::Unprotected | Self::Both => Mode::Unprotected,
            Self::Alone => Mode::Alone(bin),
            Self::Plain => Mode::Plain,
        }
    }
}

/// A name that is no row's.
#[derive(Debug, thiserror::Error)]
#[error("a row is stock, pair, unprotected, both, alone or plain")]
pub struct UnknownRow;

/// One row as the JSON has it.
#[derive(Debug, Default, Serialize)]
struct Line {
    row: &'static str,
    setup: String,
    tcp_timestamps: bool,
    #[serde(flatten)]
    figures: Figures,
    checkpoints: usize,
}

/// Measures the rows (all that can be but `both` and `plain`, if `only` is empty) and prints the
/// table. `brief`: with TCP timestamps only.
///
/// # Errors
/// What kept a set-up from running. A load that fails is a figure that is missing, not an error.
pub fn run(
    host: &Host,
    bin: Option<PathBuf>,
    only: &[Row],
    brief: bool,
    json_file: &Path,
) -> Result<(), LabError> {
    let mut setups = Vec::new();
    for row in [
        Row::Stock,
        Row::Pair,
        Row::Unprotected,
        Row::Both,
        Row::Alone,
        Row::Plain,
    ] {
        let usual = !matches!(row, Row::Both | Row::Plain);
        let asked = only.contains(&row) || (only.is_empty() && usual);
        match (row, &bin) {
            _ if !asked => {}
            (Row::Alone, None) => {}
            (Row::Pair, None) => say("table", "no --bin: the protected pair is left out"),
            (row, bin) => setups.push((row, row.mode(bin.clone().unwrap_or_default()))),
        }
    }
    let timestamps: &[bool] = if brief { &[true] } else { &[true, false] };
    let mut rows = Vec::new();
    for &timestamps in timestamps {
        for (row, mode) in &setups {
            let with = if timestamps { "with" } else { "without" };
            let name = row.name();
            say("table", format!("{name}: {mode}, {with} TCP timestamps"));
            rows.push(measure(*row, mode, host, timestamps)?);
        }
    }
    print!("{}", Table(&rows));
    let document = json!({
        "qemu": host.release.to_string(),
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

fn measure(row: Row, mode: &Mode, host: &Host, timestamps: bool) -> Result<Line, LabError> {
    let pair = Pair::start(mode, host, timestamps)?;
    let (beside, setup) = match row {
        Row::Both => (
            Some(Pair::start(mode, host, timestamps)?),
            format!("two {mode}"),
        ),
        _ => (None, mode.to_string()),
    };
    let before = pair.checkpoints().len();
    let figures = series::run(&pair, beside.as_ref())?;
    let checkpoints = pair.checkpoints().len() - before;
    pair.finish()?;
    Ok(Line {
        row: row.name(),
        setup,
        tcp_timestamps: timestamps,
        figures,
        checkpoints,
    })
}

/// The printed form.
struct Table<'a>(&'a [Line]);

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
                cell(row.figures.page_bytes_per_s, 1e6),
                cell(row.figures.small_page_ms, 1.0),
                cell(row.figures.redis_per_s, 1.0),
                cell(row.figures.redis_pipelined_per_s, 1.0),
                cell(row.figures.iperf_from_guest_bit_per_s, 1e6),
                cell(row.figures.iperf_to_guest_bit_per_s, 1e6),
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
        let row = Line {
            setup: "x".to_owned(),
            figures: Figures {
                page_bytes_per_s: Some(2_500.0),
                redis_per_s: Some(5_123.0),
                ..Figures::default()
            },
            ..Line::default()
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
