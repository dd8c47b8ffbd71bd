//! The table on standard output and `results.json`.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;
use crate::figure::Figure;
use crate::machine::Machine;
use crate::targets::{Bound, Outcome};

/// All that one call measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// Whether runs were short and few.
    pub quick: bool,
    /// Seed of each round.
    pub seeds: Vec<u32>,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// Every figure.
    pub figures: Vec<Figure>,
    /// Every ratio and bound.
    pub targets: Vec<Outcome>,
}

/// What an earlier call wrote, as far as a later one adds to it.
#[derive(Debug, Default, Deserialize)]
pub struct Earlier {
    /// Seeds of its rounds.
    pub seeds: Vec<u32>,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// Its figures.
    pub figures: Vec<Figure>,
}

impl Earlier {
    /// Reads results; there are none where there is no file.
    ///
    /// # Errors
    /// When the file is something else.
    pub fn read(path: &Path) -> Result<Self, BenchError> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(path).map_err(BenchError::file(path))?;
        let read = serde_json::from_str(&text).map_err(std::io::Error::from);
        read.map_err(BenchError::file(path))
    }
}

impl Report {
    /// Writes it as JSON.
    pub fn write(&self, path: &Path) -> Result<(), BenchError> {
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::create_dir_all(dir).map_err(BenchError::file(dir))?;
        }
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::from);
        text.and_then(|text| fs::write(path, text + "\n"))
            .map_err(BenchError::file(path))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.machine;
        writeln!(
            f,
            "{}, {} cores, Linux {}, {} hugepages; DPDK {}, {}, {}, dpdk-colo {}; {} s",
            m.cpu,
            m.cores,
            m.kernel,
            if m.hugepages { "with" } else { "no" },
            m.dpdk,
            m.qemu,
            m.rustc,
            m.dpdk_colo,
            self.seconds
        )?;
        writeln!(
            f,
            "\n{:52} {:>11} {:>11} {:>11}  unit, runs",
            "", "min", "median", "max"
        )?;
        for figure in &self.figures {
            writeln!(
                f,
                "{:52} {:>11} {:>11} {:>11}  {}, {}",
                figure.name,
                short(figure.min),
                short(figure.median),
                short(figure.max),
                figure.unit,
                figure.runs
            )?;
        }
        if self.targets.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n{:52} {:>11} {:>11} {:>11}  target",
            "", "least", "value", "most"
        )?;
        for outcome in &self.targets {
            let [least, most] = outcome.range;
            let word = if outcome.met { "met" } else { "MISSED" };
            let target = match outcome.bound {
                Bound::AtLeast(bound) => format!("at least {bound}: {word}"),
                Bound::AtMost(bound) => format!("at most {bound}: {word}"),
                Bound::Shown => String::new(),
            };
            writeln!(
                f,
                "{:52} {:>11} {:>11} {:>11}  {target}",
                outcome.name,
                short(least),
                short(outcome.value),
                short(most)
            )?;
        }
        Ok(())
    }
}

/// Three digits or more.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!(
            [1234.5, 12.34, 1.234, 0.1234].map(short),
            ["1234", "12.3", "1.23", "0.123"]
        );
    }
}
