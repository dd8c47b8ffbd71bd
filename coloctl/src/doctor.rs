//! `coloctl doctor`: gathers the facts of this host, of its node and of its QEMU, and prints what is wrong.
//!
//! Facts of a node come from its control socket, or from `dpdk-colo --check=json` where none runs yet. A monitor that
//! the node does not have is asked directly, for a moment.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use colo_doctor::collect::{self, Root};
use colo_doctor::facts::{Monitor, Node, Pair, Seen, Status};
use colo_doctor::{Facts, Finding, examine, is_sound, text};
use serde_json::{Value, json};

use crate::args::Args;
use crate::client::{self, ClientError, Reply};
use crate::place::{self, PlaceError};

/// How long the node may take for a reply.
const PATIENCE: Duration = Duration::from_secs(50);

/// What to examine, and how to show it.
#[derive(Debug, clap::Args)]
pub struct Words {
    /// Print the facts as JSON, for --peer of the other host's doctor, and judge nothing
    #[arg(long)]
    facts: bool,
    /// Facts of the other host, from its `coloctl doctor --facts`; - reads them from stdin
    #[arg(long, value_name = "FILE|-")]
    peer: Option<PathBuf>,
    /// Behind `--`: the command line of a node that does not run yet
    #[arg(last = true, value_name = "dpdk-colo WORDS")]
    command: Vec<OsString>,
}

/// Why nothing could be examined.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// No node, and no word of one.
    #[error(
        "{0}\ncoloctl: to examine a node that does not run yet: coloctl doctor -- dpdk-colo WORDS"
    )]
    NoNode(PlaceError),
    /// No socket was chosen.
    #[error(transparent)]
    Place(PlaceError),
    /// The node does not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The node has refused.
    #[error("the node has refused {command}: {message}; use its own release of coloctl")]
    Refused {
        /// What it was asked.
        command: &'static str,
        /// Why.
        message: String,
    },
    /// The node's program cannot be started.
    #[error("{program:?} cannot be started: {source}; name the program as you would start it")]
    Start {
        /// The program.
        program: OsString,
        /// What the system says.
        source: io::Error,
    },
    /// The node's program has not judged its words.
    #[error("{program:?} --check=json has failed: {said}")]
    Check {
        /// The program.
        program: OsString,
        /// The last line on its stderr.
        said: String,
    },
    /// The peer's facts are none.
    #[error(
        "--peer {path:?}: {reason}; give what `coloctl doctor --facts` has printed at the other host"
    )]
    Peer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Nobody reads.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

impl DoctorError {
    /// The exit status.
    pub fn status(&self) -> u8 {
        match self {
            Self::NoNode(_) | Self::Client(ClientError::Absent { .. }) => crate::NOT_RUNNING,
            Self::Place(PlaceError::Several(_))
            | Self::Start { .. }
            | Self::Check { .. }
            | Self::Peer { .. } => crate::WRONG,
            Self::Place(_) | Self::Client(_) | Self::Refused { .. } | Self::Write(_) => {
                crate::FAILED
            }
        }
    }
}

/// Examines, and prints; the exit status.
///
/// # Errors
/// When there is nothing to examine.
pub fn run(args: &Args, words: &Words, out: &mut impl Write) -> Result<u8, DoctorError> {
    let peer = words.peer.as_deref().map(peer).transpose()?;
    let root = Root::default();
    let (mut facts, planned) = match words.command.as_slice() {
        [] => (running(args)?, Vec::new()),
        command => planned(command)?,
    };
    complete(&root, &mut facts);
    if words.facts {
        writeln!(out, "{}", json!(facts))?;
        return Ok(0);
    }
    facts.peer = peer.map(Box::new);
    let mut found = planned;
    found.extend(examine(&facts));
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let sound = is_sound(&found);
    if args.json {
        writeln!(out, "{}", json!({ "sound": sound, "findings": found }))?;
    } else {
        out.write_all(text(&found).as_bytes())?;
    }
    Ok(if sound { 0 } else { crate::FAILED })
}

fn peer(path: &Path) -> Result<Facts, DoctorError> {
    let failed = |reason: String| DoctorError::Peer {
        path: path.to_owned(),
        reason,
    };
    let text = match path.as_os_str() == "-" {
        false => fs::read_to_string(path).map_err(|error| failed(error.to_string()))?,
        true => {
            let mut text = String::new();
            let read = io::stdin().read_to_string(&mut text);
            read.map_err(|error| failed(error.to_string()))?;
            text
        }
    };
    collect::read_facts(&text).map_err(|error| failed(error.to_string()))
}

/// The facts of a node that does not run, and what only its program finds.
fn planned(command: &[OsString]) -> Result<(Facts, Vec<Finding>), DoctorError> {
    let (program, words) = command.split_first().expect("the caller has seen a word");
    let mut check = Command::new(program);
    check.args(words);
    // Without `--` all words are EAL's.
    if !words.iter().any(|word| word == "--") {
        check.arg("--");
    }
    let output = check.arg("--check=json").output();
    let output = output.map_err(|source| DoctorError::Start {
        program: program.clone(),
        source,
    })?;
    let Ok(Judged { facts, findings }) = serde_json::from_slice(&output.stdout) else {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(DoctorError::Check {
            program: program.clone(),
            said: stderr
                .trim()
                .lines()
                .last()
                .unwrap_or("no output")
                .to_owned(),
        });
    };
    // The other checks are made again, with more facts.
    let own = |finding: &Finding| matches!(&*finding.check, "port-missing" | "port-device");
    Ok((facts, findings.into_iter().filter(own).collect()))
}

/// What `dpdk-colo --check=json` prints.
#[derive(serde::Deserialize)]
struct Judged {
    facts: Facts,
    findings: Vec<Finding>,
}

/// The facts of a node that runs.
fn running(args: &Args) -> Result<Facts, DoctorError> {
    let socket = place::find(args.control.as_deref(), args.file_prefix.as_deref());
    let socket = socket.map_err(|error| match error {
        PlaceError::Nowhere => DoctorError::NoNode(error),
        error => DoctorError::Place(error),
    })?;
    let node: Node = read(&socket, "facts")?;
    let mut facts = Facts::default();
    let reply = must(&socket, "status", &json!({}))?;
    for pair in reply["pairs"].as_array().into_iter().flatten() {
        let name = pair["name"].as_str().unwrap_or_default().to_owned();
        let status = status(pair);
        let mut seen = Seen::default();
        if status.monitor == "connected" {
            seen.monitor = Monitor::Ours;
            let examined = client::ask(&socket, "examine", &json!({ "pair": name }), PATIENCE)?;
            // A QEMU that does not answer now is found by its status.
            if let Reply::Return(reply) = examined {
                seen.qemu = Some(collect::read_qemu(&reply["pairs"][&name]));
            }
        }
        seen.status = Some(status);
        facts.seen.insert(name, seen);
    }
    facts.node = Some(node);
    Ok(facts)
}

fn read<T: serde::de::DeserializeOwned>(
    socket: &Path,
    command: &'static str,
) -> Result<T, DoctorError> {
    let reply = must(socket, command, &json!({}))?;
    serde_json::from_value(reply).map_err(|error| DoctorError::Refused {
        command,
        message: error.to_string(),
    })
}

fn must(socket: &Path, command: &'static str, arguments: &Value) -> Result<Value, DoctorError> {
    match client::ask(socket, command, arguments, PATIENCE)? {
        Reply::Return(value) => Ok(value),
        Reply::Error(error) => Err(DoctorError::Refused {
            command,
            message: error["message"].as_str().unwrap_or("no message").to_owned(),
        }),
    }
}

fn status(pair: &Value) -> Status {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Status {
        role: word(&pair["role"]),
        state: word(&pair["state"]),
        todo: pair["todo"].as_str().map(str::to_owned),
        monitor: word(&pair["monitor"]["state"]),
        migration: word(&pair["monitor"]["migration"]),
        ring: pair["ring"]["runs"].as_bool(),
        peer_heard: pair["peer"]["heard"].as_bool(),
        refused: serde_json::from_value(pair["link"]["refused"].clone()).unwrap_or_default(),
    }
}

/// Adds what the host shows of the node, and asks monitors that the node does not have.
fn complete(root: &Root, facts: &mut Facts) {
    let Some(node) = &mut facts.node else {
        return;
    };
    collect::complete(root, node);
    for pair in &node.pairs {
        let seen = facts.seen.entry(pair.name.clone()).or_default();
        look_at_pair(root, pair, seen);
    }
    facts.host = collect::host(root, facts.node.as_ref());
}

fn look_at_pair(root: &Root, pair: &Pair, seen: &mut Seen) {
    let status = seen.status.as_ref();
    let is_free = status.is_none_or(|status| status.monitor == "absent");
    if let Some(address) = pair.qmp.as_deref().filter(|_| is_free) {
        let asked = collect::look_at_monitor(address);
        (seen.monitor, seen.qemu) = (asked.monitor, asked.qemu);
    }
    let sockets = pair.ports.iter().filter(|port| port.place == "guest");
    let sockets = sockets.filter_map(|port| port.socket.as_deref());
    let paths: Vec<&str> = sockets.chain(pair.qmp.as_deref()).collect();
    seen.process = collect::qemu_process(root, &paths);
}
