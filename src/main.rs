//! The program `dpdk-colo`: reads its command line, starts DPDK, runs the node.
//!
//! Exit status: 0 at a clean end, 1 for a failure at run time, 2 for a wrong command line.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use dpdk_colo::cli::{
    CheckFormat, Command, Options, USAGE, UsageError, VERSION, quiet_vhost, remove_dead_sockets,
    require_interfaces, split,
};
use dpdk_colo::config::{Settings, link_key};
use dpdk_colo::dpdk::{Eal, telemetry};
use dpdk_colo::error_chain::chain;
use dpdk_colo::node::{self, Signals};
use dpdk_colo::observability::log::Log;
use dpdk_colo::observability::telemetry as figures;
use dpdk_colo::panics;

const FAILURE: u8 = 1;
/// How long the program waits at its end for the reader of stderr.
const STDERR_WAIT: Duration = Duration::from_secs(1);

/// What a command line asks for.
enum Task {
    Print(&'static str),
    MakeLinkKey(PathBuf),
    Check(Box<Settings>, CheckFormat),
    Run(Box<Settings>),
}

fn main() -> ExitCode {
    let settings = match task() {
        Ok(Task::Run(settings)) => settings,
        Ok(Task::Print(text)) => {
            // Nobody reads it where it cannot be written.
            let _ = io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Ok(Task::MakeLinkKey(path)) => return make_link_key(&path),
        Ok(Task::Check(settings, format)) => return check(&settings, format),
        Err(error) => return wrong(&error),
    };
    panics::end_the_process();
    let log = Log::stderr();
    let status = start(&settings, &log);
    log.drain(STDERR_WAIT);
    status
}

fn make_link_key(path: &Path) -> ExitCode {
    match link_key::make(path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "dpdk-colo: {error}");
            ExitCode::from(FAILURE)
        }
    }
}

fn check(settings: &Settings, format: CheckFormat) -> ExitCode {
    let eal_words = split(std::env::args_os()).map_or_else(|_| Vec::new(), |parts| parts.eal);
    let plan = node::check(&eal_words, settings);
    let text = match format {
        CheckFormat::Text => plan.text(),
        CheckFormat::Json => plan.json(),
    };
    match (io::stdout().write_all(text.as_bytes()), plan.is_sound()) {
        (Ok(()), true) => ExitCode::SUCCESS,
        _ => ExitCode::from(FAILURE),
    }
}

/// A wrong command line, which nobody may be there to hear of.
fn wrong(error: &dyn Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "dpdk-colo: {error}");
    ExitCode::from(UsageError::EXIT_STATUS)
}

fn start(settings: &Settings, log: &Log) -> ExitCode {
    let signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => {
            log.error("signals", format_args!("signals cannot be caught: {error}"));
            return ExitCode::from(FAILURE);
        }
    };
    // EAL takes the whole line, and shows our half in its telemetry.
    let words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let eal_words = split(std::env::args_os()).map_or_else(|_| Vec::new(), |parts| parts.eal);
    if let Err(error) = require_interfaces(&eal_words) {
        log.error("interface", format_args!("{error}"));
        return ExitCode::from(FAILURE);
    }
    if let Err(error) = remove_dead_sockets(&eal_words) {
        log.warning(
            "socket",
            format_args!("cannot remove a stale vhost-user socket: {error}"),
        );
    }
    for command in figures::COMMANDS {
        if let Err(error) = telemetry::declare(command.path, command.help, figures::absent()) {
            log.error("telemetry", format_args!("{}", chain(&error)));
            return ExitCode::from(FAILURE);
        }
    }
    let eal = match Eal::init(&quiet_vhost(words)) {
        Ok(eal) => eal,
        Err(error) => {
            log.error("eal", format_args!("{}", chain(&error)));
            return status_of(error.is_usage());
        }
    };
    match node::run(&eal, settings, &signals, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log.error("node", format_args!("{}", chain(&error)));
            status_of(error.is_usage())
        }
    }
}

fn status_of(is_usage: bool) -> ExitCode {
    ExitCode::from(match is_usage {
        true => UsageError::EXIT_STATUS,
        false => FAILURE,
    })
}

fn task() -> Result<Task, UsageError> {
    let parts = split(std::env::args_os())?;
    Ok(match Options::parse(parts.app)? {
        Command::Help => Task::Print(USAGE),
        Command::Version => Task::Print(VERSION),
        Command::MakeLinkKey(path) => Task::MakeLinkKey(path),
        Command::Run(options) => {
            let check = options.check;
            let settings = Box::new(options.settings()?);
            match check {
                Some(format) => Task::Check(settings, format),
                None => Task::Run(settings),
            }
        }
    })
}
