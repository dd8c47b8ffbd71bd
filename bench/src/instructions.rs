//! Instructions per pair under callgrind, which repeat exactly where nanoseconds do not.
//!
//! `measure` runs this program again under valgrind, which counts only inside [`crate::engine`]'s
//! measured part, in that of a dispatcher or of a worker in [`crate::workers`], or in the round of a primary in
//! [`crate::protected`]. The counts that are expected stand in `bench/instructions.json`, together with the compiler
//! that made them: another compiler makes other code, so there a comparison says nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::engine::{Case, Drive, SMALL, for_instructions};
use crate::protected::{Protected, Traffic};
use crate::seal;
use crate::workers::{Part, Parts};

/// Growth that is a regression.
const TOLERANCE: f64 = 0.03;
/// Pairs that are counted in each case.
const PAIRS: usize = 4096;
/// The function of the engine whose instructions count.
const MEASURED: &str = "*engine::drive::measured*";
/// The compiler of this program.
const RUSTC: &str = env!("COLO_BENCH_RUSTC");

/// Counts of one compiler.
#[derive(Debug, Deserialize, Serialize)]
pub struct Expected {
    /// What `rustc --version` said.
    pub rustc: String,
    /// Instructions per pair, by case.
    pub instructions: BTreeMap<String, f64>,
}

/// What becomes of counted instructions.
#[derive(Clone, Copy)]
pub enum Mode {
    /// They are printed.
    Show,
    /// They are held against the expected ones.
    Check,
    /// They become the expected ones.
    Update,
}

/// What the comparison with the expected counts gave.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// No count grew by more than 3 %.
    Good,
    /// These cases grew.
    Grown(Vec<String>),
    /// The counts are of another compiler.
    Void,
}

/// Why nothing could be counted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// valgrind is not there.
    #[error("cannot start valgrind: {0}; install it (scripts/install-packages)")]
    Valgrind(std::io::Error),
    /// It ended badly.
    #[error("valgrind failed on {case}: {said}")]
    Run {
        /// The case.
        case: String,
        /// Its last words.
        said: String,
    },
    /// It counted nothing.
    #[error("callgrind counted nothing for {0}: is the measured function inlined?")]
    Nothing(String),
    /// The file with the expected counts.
    #[error("{}: {why}", path.display())]
    File {
        /// Where it should be.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Whose instructions are counted.
#[derive(Clone, Copy)]
enum Subject {
    /// A comparator's.
    Engine,
    /// Those that a dispatcher leaves to a worker, or the worker's own.
    Workers(Part),
    /// A protected primary's.
    Primary(Traffic),
}

/// What is counted.
struct Workload {
    case: Case,
    subject: Subject,
}

impl Workload {
    fn all() -> impl Iterator<Item = Self> {
        let engine = for_instructions()
            .into_iter()
            .map(|case| (case, Subject::Engine));
        let small = Case::plain(SMALL, 1000);
        let workers = Part::ALL.map(|part| (small, Subject::Workers(part)));
        let primary = Traffic::ALL.map(|traffic| (small, Subject::Primary(traffic)));
        engine
            .chain(workers)
            .chain(primary)
            .map(|(case, subject)| Self { case, subject })
    }

    fn name(&self) -> String {
        let case = self.case.to_string();
        match self.subject {
            Subject::Engine => case,
            Subject::Workers(part) => case.replace("engine/", "workers/") + "/" + part.name(),
            Subject::Primary(traffic) => case.replace("engine/", "primary/") + "/" + traffic.name(),
        }
    }

    fn measured(&self) -> &'static str {
        match self.subject {
            Subject::Engine => MEASURED,
            Subject::Workers(part) => part.measured(),
            Subject::Primary(_) => Traffic::MEASURED,
        }
    }

    fn run(&self) {
        match self.subject {
            Subject::Engine => {
                Drive::new(&self.case).run(PAIRS);
            }
            Subject::Workers(_) => Parts::new(&self.case).count(PAIRS),
            Subject::Primary(traffic) => Protected::new(&self.case, traffic).count(PAIRS),
        }
    }
}

/// Runs one case, to be watched by valgrind; false if there is no such case.
pub fn workload(name: &str) -> bool {
    if seal::workload(name) {
        return true;
    }
    let workload = Workload::all().find(|workload| workload.name() == name);
    if let Some(workload) = &workload {
        workload.run();
    }
    workload.is_some()
}

/// Counts all cases.
pub fn measure() -> Result<Expected, Error> {
    let mut instructions = BTreeMap::new();
    for workload in Workload::all() {
        let per_pair = count(&workload)? as f64 / PAIRS as f64;
        instructions.insert(workload.name(), (per_pair * 10.0).round() / 10.0);
    }
    Ok(Expected {
        rustc: RUSTC.to_owned(),
        instructions,
    })
}

fn count(workload: &Workload) -> Result<u64, Error> {
    count_of(&workload.name(), workload.measured())
}

/// Instructions of a function while a workload runs.
///
/// # Errors
/// When valgrind reports no count.
pub fn count_of(case: &str, measured: &str) -> Result<u64, Error> {
    let case = case.to_owned();
    let program = std::env::current_exe().map_err(Error::Valgrind)?;
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg("--callgrind-out-file=/dev/null")
        .arg(format!("--toggle-collect={measured}"))
        .arg(program)
        .args(["workload", &case])
        .output()
        .map_err(Error::Valgrind)?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(Error::Run {
            case,
            said: said.lines().last().unwrap_or_default().to_owned(),
        });
    }
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .and_then(|(_, number)| number.trim().parse().ok());
    match collected {
        None | Some(0) => Err(Error::Nothing(case)),
        Some(count) => Ok(count),
    }
}

/// Holds counts against the expected ones and prints both.
pub fn compare(expected: &Expected, measured: &Expected) -> Verdict {
    let void = expected.rustc != measured.rustc;
    let mut grown = Vec::new();
    for (case, &now) in &measured.instructions {
        let then = expected.instructions.get(case).copied();
        let change = then.map(|then| now / then - 1.0);
        match change {
            Some(change) => println!("{case:40} {now:9.1} {:+6.1} %", change * 100.0),
            None => println!("{case:40} {now:9.1}    new"),
        }
        // Not by the quotient above: in floating point 103/100 - 1 is more than 0.03.
        if then.is_none_or(|then| now - then > then * TOLERANCE) {
            grown.push(case.clone());
        }
    }
    match (void, grown.is_empty()) {
        (true, _) => Verdict::Void,
        (false, true) => Verdict::Good,
        (false, false) => Verdict::Grown(grown),
    }
}

/// The expected counts.
pub fn load(path: &Path) -> Result<Expected, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| file(path, &error))?;
    serde_json::from_str(&text).map_err(|error| file(path, &error))
}

/// Writes counts as the expected ones.
pub fn store(path: &Path, counts: &Expected) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(counts).map_err(|error| file(path, &error))?;
    text.push('\n');
    std::fs::write(path, text).map_err(|error| file(path, &error))
}

fn file(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::File {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rustc: &str, count: f64) -> Expected {
        Expected {
            rustc: rustc.to_owned(),
            instructions: [("case".to_owned(), count)].into(),
        }
    }

    #[test]
    fn growth_beyond_the_tolerance_is_found() {
        let expected = counts("one", 100.0);
        assert_eq!(compare(&expected, &counts("one", 103.0)), Verdict::Good);
        assert_eq!(compare(&expected, &counts("one", 50.0)), Verdict::Good);
        let grown = Verdict::Grown(vec!["case".to_owned()]);
        assert_eq!(compare(&expected, &counts("one", 103.1)), grown);
    }

    #[test]
    fn another_compiler_s_counts_say_nothing() {
        let expected = counts("one", 100.0);
        assert_eq!(compare(&expected, &counts("two", 200.0)), Verdict::Void);
    }
}
