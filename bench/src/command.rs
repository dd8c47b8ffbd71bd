//! The command line.

use std::path::PathBuf;

use crate::instructions::Mode;
use crate::measure::{Part, Plan};

/// What to type.
pub const USAGE: &str = "\
Usage: colo-bench [engine | workers | peer | ports | requests | idle | scale | pair | all]... [options]
       colo-bench seal
       colo-bench instructions [--check | --update] [--file FILE]
Options:
  --quick        few short runs, and no pair unless it is named
  --runs N       runs of each set-up, in turns (5; with --quick 2)
  --seed N       seed of the first run; each further run has the next one (1)
  --only TEXT    engine, workers: only the cases with this in their name
  --shares N,..  workers: entries of the core that also passes frames on, of 128 (64,52,40)
  --image DIR    pair: the test guest (lab/work/image)
  --json FILE    where to write the results (bench/results.json)
  --add          add to the results that are there, as further rounds or parts of one measurement
  --check        fail if a count is more than 3 % above the expected one
  --update       make the counts the expected ones
  --file FILE    the expected counts (bench/instructions.json)
";

/// What the command line asks for.
pub enum Action {
    /// The help text.
    Help,
    /// Measurements.
    Measure(Plan),
    /// The engine's instructions.
    Instructions {
        /// What becomes of them.
        mode: Mode,
        /// Where the expected ones are.
        file: PathBuf,
    },
    /// The cost of the link's seal.
    Seal,
    /// The part of `instructions` that valgrind watches.
    Workload(String),
}

/// Reads this program's own command line.
///
/// # Errors
/// What is wrong with it.
pub fn parse(mut parser: lexopt::Parser) -> Result<Action, lexopt::Error> {
    use lexopt::prelude::*;
    let mut plan = Plan::default();
    let (mut counts, mut runs) = (false, None);
    let (mut mode, mut file) = (Mode::Show, PathBuf::from("bench/instructions.json"));
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Action::Help),
            Value(word) => match word.string()?.as_str() {
                "workload" => return Ok(Action::Workload(parser.value()?.string()?)),
                "seal" => return Ok(Action::Seal),
                "instructions" => counts = true,
                "all" => plan.parts.extend(Part::ALL),
                name => match Part::ALL.into_iter().find(|part| part.name() == name) {
                    Some(part) => plan.parts.push(part),
                    None => return Err(format!("there is no subcommand '{name}'").into()),
                },
            },
            Long("quick") => plan.quick = true,
            Long("runs") => runs = Some(parser.value()?.parse()?),
            Long("add") => plan.add = true,
            Long("seed") => plan.seed = parser.value()?.parse()?,
            Long("only") => plan.only = parser.value()?.string()?,
            Long("shares") => plan.shares = numbers(&parser.value()?.string()?)?,
            Long("image") => plan.image = parser.value()?.into(),
            Long("json") => plan.json = parser.value()?.into(),
            Long("check") => mode = Mode::Check,
            Long("update") => mode = Mode::Update,
            Long("file") => file = parser.value()?.into(),
            other => return Err(other.unexpected()),
        }
    }
    if counts {
        return Ok(Action::Instructions { mode, file });
    }
    plan.complete(runs);
    Ok(Action::Measure(plan))
}

fn numbers(list: &str) -> Result<Vec<u32>, lexopt::Error> {
    let number = |text: &str| {
        let number = text.parse().ok().filter(|share| *share <= 128);
        number.ok_or_else(|| format!("'{text}' is no number from 0 to 128").into())
    };
    list.split(',').map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(words: &[&str]) -> Plan {
        let words = ["colo-bench"].iter().chain(words);
        match parse(lexopt::Parser::from_iter(words)) {
            Ok(Action::Measure(plan)) => plan,
            _ => panic!("measurements are asked for"),
        }
    }

    #[test]
    fn parts_are_named_or_all() {
        assert_eq!(plan(&[]).parts, Part::ALL);
        assert_eq!(
            plan(&["--runs", "7", "ports", "engine", "ports"]).parts,
            [Part::Engine, Part::Ports]
        );
        assert!(!plan(&["--quick"]).parts.contains(&Part::Pair));
        assert_eq!(plan(&["--quick", "pair"]).parts, [Part::Pair]);
        assert!(parse(lexopt::Parser::from_args(["speed"])).is_err());
    }

    #[test]
    fn runs_are_fewer_when_quick() {
        assert_eq!(plan(&[]).rounds, 5);
        assert_eq!(plan(&["--quick"]).rounds, 2);
        assert_eq!(plan(&["--quick", "--runs", "3"]).rounds, 3);
    }
}
