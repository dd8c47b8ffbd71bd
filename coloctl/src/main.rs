//! The program `coloctl`: one request to a running `dpdk-colo`, and its reply for a reader or a program. `compare` and
//! parts of `doctor` ask no node.
//!
//! Exit status: see [`args::EXIT_STATUS`], which `--help` and the man page show.

mod args;
mod client;
mod compare;
mod doctor;
mod place;
mod progress;
mod show;
mod why;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use serde_json::Value;

use args::{Args, Task};
use client::{ClientError, Reply};

const FAILED: u8 = 1;
const WRONG: u8 = 2;
const NOT_RUNNING: u8 = 7;
const LEADS: u8 = 8;
const SUPERSEDED: u8 = 9;

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Place(#[from] place::PlaceError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Doctor(#[from] doctor::DoctorError),
    #[error(transparent)]
    Compare(#[from] compare::CompareError),
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

impl Failure {
    fn status(&self) -> u8 {
        match self {
            Self::Place(place::PlaceError::Several(_)) => WRONG,
            Self::Place(place::PlaceError::Nowhere) | Self::Client(ClientError::Absent { .. }) => {
                NOT_RUNNING
            }
            Self::Doctor(error) => error.status(),
            Self::Compare(error) if error.is_usage() => WRONG,
            Self::Place(_) | Self::Client(_) | Self::Compare(_) | Self::Write(_) => FAILED,
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            let _ = writeln!(io::stderr(), "coloctl: {failure}");
            ExitCode::from(failure.status())
        }
    }
}

fn run(args: &Args) -> Result<u8, Failure> {
    let out = &mut io::stdout().lock();
    match &args.task {
        Task::Completions { shell } => {
            clap_complete::generate(*shell, &mut Args::command(), "coloctl", out);
            return Ok(0);
        }
        Task::Man => {
            args::man(out)?;
            return Ok(0);
        }
        Task::Compare(words) => {
            compare::run(words, args.json, out)?;
            return Ok(0);
        }
        Task::Doctor(words) => return Ok(doctor::run(args, words, out)?),
        _ => {}
    }
    let path = place::find(args.control.as_deref(), args.file_prefix.as_deref())?;
    let (command, arguments) = args.request();
    let ask = || client::ask(&path, command, &arguments, args.patience());
    let reply = match args.task {
        Task::Protect { .. } => progress::beside(&path, &arguments, ask)?,
        _ => ask()?,
    };
    let status = status(&args.task, &reply);
    match (&reply, args.json) {
        (Reply::Return(value) | Reply::Error(value), true) => writeln!(out, "{value}")?,
        (Reply::Return(value), false) => out.write_all(show::text(&args.task, value).as_bytes())?,
        (Reply::Error(error), false) => {
            let message = error["message"].as_str().unwrap_or("no message");
            let _ = writeln!(io::stderr(), "coloctl: {message}");
        }
    }
    Ok(status)
}

/// What a reply means for a cluster.
fn status(task: &Task, reply: &Reply) -> u8 {
    match reply {
        Reply::Error(error) => match error["class"].as_str() {
            Some("unknown" | "invalid" | "protocol") => WRONG,
            _ => FAILED,
        },
        Reply::Return(value) if matches!(task, Task::Status { .. }) => role_of(value),
        Reply::Return(_) => 0,
    }
}

/// What a cluster has to know of the VMs of all pairs: whether one of them is of no use any more, or all lead.
fn role_of(status: &Value) -> u8 {
    let pairs = status["pairs"].as_array().map_or(&[][..], Vec::as_slice);
    let is = |role: &'static str| move |pair: &Value| pair["role"] == role;
    if pairs.iter().any(is("superseded")) {
        SUPERSEDED
    } else if !pairs.is_empty() && pairs.iter().all(is("primary")) {
        LEADS
    } else {
        0
    }
}
