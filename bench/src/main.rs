//! `colo-bench`: what dpdk-colo costs, beside what others cost that do the same or less.
//!
//! | subcommand | what it measures |
//! | --- | --- |
//! | `engine` | the comparator alone, on frames in memory |
//! | `workers` | two cores that share the flows, against one |
//! | `peer` | QEMU's own colo-compare |
//! | `ports` | `dpdk-colo --role compare` on three vhost ports, beside testpmd |
//! | `requests` | how long it takes from a difference to the checkpoint request |
//! | `idle` | what the sleep of an idle core adds to the delay |
//! | `scale` | how costs grow |
//! | `pair` | real guests under both, beside unprotected ones |
//! | `all` | these eight, and the targets that they make up |
//! | `seal` | what a frame of the link costs with a key, beside `memcpy` and other MACs |
//! | `instructions` | the engine in instructions, which repeat exactly; for continuous integration |
//!
//! Progress is on standard error, the table on standard output. A target that is missed is a
//! result: only what could not be measured ends with status 1.

mod command;
mod engine;
mod error;
mod figure;
mod fixture;
mod instructions;
mod interrupt;
mod machine;
mod measure;
mod pair;
mod peer;
mod ports;
mod process;
mod protected;
mod report;
mod samples;
mod scale;
mod seal;
mod targets;
mod workers;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use crate::command::{Action, USAGE};
use crate::instructions::{Mode, Verdict};

/// Exit status for a wrong command line, as for `dpdk-colo`.
const USAGE_ERROR: u8 = 2;

fn main() -> ExitCode {
    match command::parse(lexopt::Parser::from_env()) {
        Ok(Action::Help) => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        Ok(Action::Measure(plan)) => match measure::run(&plan) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failure(&error),
        },
        Ok(Action::Instructions { mode, file }) => match count(mode, &file) {
            Ok(status) => status,
            Err(error) => failure(&error),
        },
        Ok(Action::Seal) => match seal::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failure(&error),
        },
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

fn failure(error: &dyn Error) -> ExitCode {
    eprintln!("colo-bench: {error}");
    ExitCode::FAILURE
}

fn count(mode: Mode, file: &Path) -> Result<ExitCode, instructions::Error> {
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
