//! `colo-bench`: what dpdk-colo costs.
//!
//! | subcommand | what it measures |
//! | --- | --- |
//! | `engine` | the comparator alone, on frames in memory, in time |
//! | `workers` | two cores that share the flows, against one |
//! | `instructions` | the same in instructions, which repeat exactly; for continuous integration |

mod engine;
mod figure;
mod instructions;
mod workers;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::figure::Figure;
use crate::instructions::Verdict;

const USAGE: &str = "\
Usage: colo-bench engine [--runs N] [--pairs N] [--only TEXT] [--json FILE]
       colo-bench workers [--runs N] [--pairs N] [--shares N,N..] [--only TEXT] [--json FILE]
       colo-bench instructions [--check | --update] [--file FILE]
Options:
  --runs N      runs of each case, in turns (5)
  --pairs N     pairs of P and S in a run, at least (200000; workers: 400000)
  --shares N,.. shares of the core that also passes frames on, of 128 (64,52,40)
  --only TEXT   only the cases with this in their name
  --json FILE   write the figures there, too
  --check       fail if a count is more than 3 % above the expected one
  --update      make the counts the expected ones
  --file FILE   the expected counts (bench/instructions.json)
";

/// Exit status for a wrong command line, as for `dpdk-colo`.
const USAGE_ERROR: u8 = 2;

/// What the command line asks for.
enum Action {
    Help,
    Engine {
        options: engine::Options,
        json: Option<PathBuf>,
    },
    Workers {
        options: workers::Options,
        json: Option<PathBuf>,
    },
    Instructions {
        mode: Mode,
        file: PathBuf,
    },
    /// The part of `instructions` that valgrind watches.
    Workload(String),
}

/// What becomes of counted instructions.
#[derive(Clone, Copy)]
enum Mode {
    Show,
    Check,
    Update,
}

fn parse() -> Result<Action, lexopt::Error> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_env();
    let subcommand = match parser.next()? {
        Some(Value(word)) => word.string()?,
        Some(Long("help") | Short('h')) | None => return Ok(Action::Help),
        Some(other) => return Err(other.unexpected()),
    };
    match subcommand.as_str() {
        "engine" => {
            let mut options = engine::Options::default();
            let mut json = None;
            while let Some(argument) = parser.next()? {
                match argument {
                    Long("runs") => options.runs = parser.value()?.parse()?,
                    Long("pairs") => options.pairs = parser.value()?.parse()?,
                    Long("only") => options.only = parser.value()?.string()?,
                    Long("json") => json = Some(parser.value()?.into()),
                    other => return Err(other.unexpected()),
                }
            }
            Ok(Action::Engine { options, json })
        }
        "workers" => {
            let mut options = workers::Options::default();
            let mut json = None;
            while let Some(argument) = parser.next()? {
                match argument {
                    Long("runs") => options.runs = parser.value()?.parse()?,
                    Long("pairs") => options.pairs = parser.value()?.parse()?,
                    Long("shares") => {
                        let number = |text: &str| {
                            let number = text.parse().ok();
                            number.ok_or_else(|| format!("'{text}' is no number"))
                        };
                        let shares = parser.value()?.string()?;
                        options.shares = shares.split(',').map(number).collect::<Result<_, _>>()?;
                    }
                    Long("only") => options.only = parser.value()?.string()?,
                    Long("json") => json = Some(parser.value()?.into()),
                    other => return Err(other.unexpected()),
                }
            }
            Ok(Action::Workers { options, json })
        }
        "instructions" => {
            let mut mode = Mode::Show;
            let mut file = PathBuf::from("bench/instructions.json");
            while let Some(argument) = parser.next()? {
                match argument {
                    Long("check") => mode = Mode::Check,
                    Long("update") => mode = Mode::Update,
                    Long("file") => file = parser.value()?.into(),
                    other => return Err(other.unexpected()),
                }
            }
            Ok(Action::Instructions { mode, file })
        }
        "workload" => Ok(Action::Workload(parser.value()?.string()?)),
        other => Err(format!("there is no subcommand '{other}'").into()),
    }
}

fn main() -> ExitCode {
    match parse() {
        Ok(Action::Help) => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        Ok(Action::Engine { options, json }) => show(&engine::run(&options), json.as_deref()),
        Ok(Action::Workers { options, json }) => show(&workers::run(&options), json.as_deref()),
        Ok(Action::Instructions { mode, file }) => instructions(mode, &file),
        Ok(Action::Workload(case)) if instructions::workload(&case) => ExitCode::SUCCESS,
        Ok(Action::Workload(case)) => {
            eprintln!("colo-bench: there is no case '{case}'");
            ExitCode::from(USAGE_ERROR)
        }
        Err(error) => {
            eprint!("colo-bench: {error}\n{USAGE}");
            ExitCode::from(USAGE_ERROR)
        }
    }
}

fn show(figures: &[Figure], json: Option<&Path>) -> ExitCode {
    print_table(figures);
    let Some(path) = json else {
        return ExitCode::SUCCESS;
    };
    let written = serde_json::to_vec_pretty(figures)
        .map_err(std::io::Error::from)
        .and_then(|text| std::fs::write(path, text));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("colo-bench: cannot write {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

fn print_table(figures: &[Figure]) {
    println!("{:48} {:>9} {:>9} {:>9}  unit", "", "min", "median", "max");
    for f in figures {
        let (min, median, max) = (f.min, f.median, f.max);
        println!("{:48} {min:9.2} {median:9.2} {max:9.2}  {}", f.name, f.unit);
    }
}

fn instructions(mode: Mode, file: &Path) -> ExitCode {
    match judge(mode, file) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("colo-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn judge(mode: Mode, file: &Path) -> Result<ExitCode, instructions::Error> {
    let measured = instructions::measure()?;
    match mode {
        Mode::Show => {
            for (case, count) in &measured.instructions {
                println!("{case:40} {count:9.1}");
            }
        }
        Mode::Update => instructions::store(file, &measured)?,
        Mode::Check => {
            let expected = instructions::load(file)?;
            match instructions::compare(&expected, &measured) {
                Verdict::Good => {}
                Verdict::Void => println!(
                    "the comparison is void: expected counts are of {}, this is {}",
                    expected.rustc, measured.rustc
                ),
                Verdict::Grown(cases) => {
                    eprintln!(
                        "colo-bench: more than 3 % more instructions, or not expected at all: {}; \
                         if it is worth that, `colo-bench instructions --update`",
                        cases.join(", ")
                    );
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
