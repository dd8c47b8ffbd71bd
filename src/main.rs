//! The program `dpdk-colo`: reads its command line, starts DPDK, runs the node.
//!
//! Exit status: 0 at a clean end, 1 for a failure at run time, 2 for a wrong command line.

use std::process::ExitCode;

use dpdk_colo::cli::{Command, Options, USAGE, UsageError, VERSION, remove_dead_sockets, split};
use dpdk_colo::config::Settings;
use dpdk_colo::dpdk::Eal;
use dpdk_colo::error_chain::chain;
use dpdk_colo::monitor::log::Log;
use dpdk_colo::node;

const FAILURE: u8 = 1;

/// What a command line asks for.
enum Task {
    Print(&'static str),
    Run(Box<Settings>),
}

fn main() -> ExitCode {
    let settings = match task() {
        Ok(Task::Run(settings)) => settings,
        Ok(Task::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("dpdk-colo: {error}");
            return ExitCode::from(UsageError::EXIT_STATUS);
        }
    };
    let log = Log::stderr();
    // EAL takes the whole line, and shows our half in its telemetry.
    let words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let dead = split(std::env::args_os()).map(|parts| remove_dead_sockets(&parts.eal));
    if let Ok(Err(error)) = dead {
        log.warning(
            "socket",
            format_args!("a socket that nobody listens behind cannot be removed: {error}"),
        );
    }
    let eal = match Eal::init(&words) {
        Ok(eal) => eal,
        Err(error) => {
            log.error("eal", format_args!("{}", chain(&error)));
            return ExitCode::from(FAILURE);
        }
    };
    match node::run(&eal, &settings, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log.error("node", format_args!("{}", chain(&error)));
            ExitCode::from(if error.is_usage() {
                UsageError::EXIT_STATUS
            } else {
                FAILURE
            })
        }
    }
}

fn task() -> Result<Task, UsageError> {
    let parts = split(std::env::args_os())?;
    Ok(match Options::parse(parts.app)? {
        Command::Help => Task::Print(USAGE),
        Command::Version => Task::Print(VERSION),
        Command::Run(options) => Task::Run(Box::new(options.settings()?)),
    })
}
