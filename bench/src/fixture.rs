//! Where measurements run: the programs, a folder of their own, CPUs and EAL's options.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::BenchError;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Seed of all that is random in this round.
    pub seed: u32,
    /// Shorter runs, for a look.
    pub quick: bool,
}

impl Effort {
    /// The one or the other.
    pub fn pick<T>(self, usual: T, quick: T) -> T {
        if self.quick { quick } else { usual }
    }
}

/// What all parts share.
pub struct Fixture {
    /// Where `dpdk-colo`, `colo-traffic` and `colo-lab` are.
    programs: PathBuf,
    /// The guest image for pairs.
    pub image: PathBuf,
    /// How much to measure.
    pub effort: Effort,
    /// CPUs that may be used.
    cpus: Vec<usize>,
}

impl Fixture {
    /// With the programs beside this one.
    pub fn new(image: PathBuf, effort: Effort) -> Result<Self, BenchError> {
        let own = Path::new("/proc/self/exe");
        let own = fs::read_link(own).map_err(BenchError::file(own))?;
        Ok(Self {
            programs: own.parent().unwrap_or(Path::new(".")).to_owned(),
            image,
            effort,
            cpus: allowed_cpus(),
        })
    }

    /// One of the project's programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// A folder that is gone when it is dropped.
    pub fn folder(&self) -> Result<TempDir, BenchError> {
        let made = tempfile::Builder::new().prefix("colo-bench-").tempdir();
        made.map_err(BenchError::file(&std::env::temp_dir()))
    }

    /// CPUs that may be used.
    pub fn cpu_count(&self) -> usize {
        self.cpus.len()
    }

    /// EAL's options of what is measured: lcore 1 polls alone on the first CPU; the main lcore,
    /// which sleeps, shares the generator's.
    pub fn eal_of_subject(&self, megabytes: u64) -> Vec<String> {
        let lcores = format!("0@{},1@{}", self.other_cpu(), self.first_cpu());
        eal(&lcores, megabytes)
    }

    /// EAL's options of the generator: one lcore that polls on the second CPU.
    pub fn eal_of_generator(&self) -> Vec<String> {
        let mut words = eal(&format!("0@{}", self.other_cpu()), 256);
        words.extend(["--no-telemetry", "--log-level", "error"].map(str::to_owned));
        words
    }

    fn first_cpu(&self) -> usize {
        self.cpus.first().copied().unwrap_or(0)
    }

    fn other_cpu(&self) -> usize {
        self.cpus.get(1).copied().unwrap_or(self.first_cpu())
    }
}

/// Hugepages where enough are free; the same for both sides of every comparison.
fn eal(lcores: &str, megabytes: u64) -> Vec<String> {
    let mut words: Vec<String> = ["--lcores", lcores, "--no-pci", "-m", &megabytes.to_string()]
        .map(str::to_owned)
        .to_vec();
    if free_hugepages() >= 2048 {
        words.extend(["--in-memory", "--single-file-segments"].map(str::to_owned));
    } else {
        words.push("--no-huge".to_owned());
    }
    words
}

/// Free hugepage memory in MiB.
pub fn free_hugepages() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.unwrap_or(0)
    };
    field("HugePages_Free:") * field("Hugepagesize:") / 1024
}

/// From `/proc/self/status`, such as `0-3,8`.
fn allowed_cpus() -> Vec<usize> {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = text
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    cpus(list.unwrap_or("0").trim())
}

fn cpus(list: &str) -> Vec<usize> {
    list.split(',')
        .filter_map(|range| {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            Some(from.parse().ok()?..=to.parse().ok()?)
        })
        .flatten()
        .collect()
}

/// A line of progress, on standard error: standard output has the table alone.
pub fn say(what: impl std::fmt::Display) {
    eprintln!("colo-bench: {what}");
}

#[cfg(test)]
mod tests {
    use super::cpus;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(cpus("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(cpus("3"), [3]);
    }
}
