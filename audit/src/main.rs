//! The program `dpdk-colo-audit`: reads the logs of a VM pair's nodes and names the first violation.
//!
//! Exit status: 0 clean, 1 a violation, 2 a wrong command line, an unreadable file, or a log with
//! gaps.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use dpdk_colo_audit::client::{self, ClientError};
use dpdk_colo_audit::read::{ReadError, logs};
use dpdk_colo_audit::{Audit, Options, Report};
use lexopt::Arg;

const UNPROVEN: u8 = 2;

const USAGE: &str = "\
Usage: dpdk-colo-audit --primary DIR [--secondary DIR] [options]

Checks, from what dpdk-colo wrote with --capture, that nothing left the primary (or, after a
takeover, the secondary) that should not have, and names the first frame that did. The certificate
behind the report says what was proved, over which time and by which files.

  --primary DIR      the directory that --capture of the primary node, or of a comparator, named
  --secondary DIR    the same of the secondary node; may be the same directory
  --pair NAME        the VM pair, where a directory has logs of several
  --client-pcap FILE a capture taken at the client: every byte of the VM's in it must have left
  --clock-error MS   how far the wall clocks of two hosts may differ; without it R6 is judged only
                     where both nodes ran on one host
  --json             the report and its certificate as JSON
  -h, --help         print this and exit

Exit status: 0 clean, 1 a violation, 2 a wrong command line, an unreadable file or a gap.
";

/// What the command line asks for.
#[derive(Default)]
struct Task {
    primary: Option<PathBuf>,
    secondary: Option<PathBuf>,
    pair: Option<String>,
    client: Option<PathBuf>,
    clock_error_ms: Option<u64>,
    json: bool,
    help: bool,
}

/// Why nothing was judged.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}; see dpdk-colo-audit --help")]
    Usage(#[from] lexopt::Error),
    #[error("--primary DIR is missing; see dpdk-colo-audit --help")]
    NoPrimary,
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

fn main() -> ExitCode {
    match task(std::env::args_os().skip(1)).and_then(|task| run(&task)) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("dpdk-colo-audit: {failure}");
            ExitCode::from(UNPROVEN)
        }
    }
}

fn task(args: impl IntoIterator<Item = OsString>) -> Result<Task, Failure> {
    let mut parser = lexopt::Parser::from_args(args);
    let mut task = Task::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("primary") => task.primary = Some(parser.value()?.into()),
            Arg::Long("secondary") => task.secondary = Some(parser.value()?.into()),
            Arg::Long("pair") => {
                task.pair = Some(parser.value()?.to_string_lossy().into_owned());
            }
            Arg::Long("client-pcap") => task.client = Some(parser.value()?.into()),
            Arg::Long("clock-error") => {
                use lexopt::ValueExt;
                task.clock_error_ms = Some(parser.value()?.parse()?);
            }
            Arg::Long("json") => task.json = true,
            Arg::Long("help") | Arg::Short('h') => task.help = true,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(task)
}

fn run(task: &Task) -> Result<u8, Failure> {
    if task.help {
        print!("{USAGE}");
        return Ok(0);
    }
    let primary = task.primary.as_ref().ok_or(Failure::NoPrimary)?;
    let pair = task.pair.as_deref();
    let mut nodes = vec![logs(primary, &["primary", "compare"], pair)?];
    if let Some(secondary) = &task.secondary {
        nodes.push(logs(secondary, &["secondary"], pair)?);
    }
    let options = Options {
        clock_error: task.clock_error_ms.map(|ms| ms.saturating_mul(1_000_000)),
        keep: task.client.is_some(),
    };
    let (mut report, incarnations) = Audit::new(nodes, options).run()?;
    if let Some(client) = &task.client {
        client::check(client, &incarnations, &mut report)?;
    }
    print(&report, task.json);
    Ok(report.status())
}

fn print(report: &Report, json: bool) {
    if json {
        // A report has plain keys and numbers.
        println!(
            "{}",
            serde_json::to_string_pretty(report).unwrap_or_default()
        );
    } else {
        println!("{report}\n\n{}", report.certificate);
    }
}
