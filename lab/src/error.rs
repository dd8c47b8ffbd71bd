//! What can go wrong between the lab and the machine it runs on.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::qmp::QmpError;
use crate::workload::TrafficError;

/// A lab run that could not go on.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// SIGINT or SIGTERM arrived.
    #[error("interrupted")]
    Interrupted,
    /// A program is not there or may not be run.
    #[error(
        "{program} cannot be started: {source}; scripts/install-packages installs what the lab needs"
    )]
    Spawn {
        /// The program as it was named.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A short command ended with an error.
    #[error("`{command}` failed with {status}: {output}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to standard error.
        output: String,
    },
    /// A long-lived process ended by itself.
    #[error("{name} ended early with {status}; its last lines:\n{tail}")]
    Died {
        /// Which process.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        tail: String,
    },
    /// Something awaited did not come.
    #[error("{what} did not come within {seconds} s{tail}")]
    Late {
        /// What was awaited.
        what: String,
        /// The limit.
        seconds: u64,
        /// The end of a log that may say why, or nothing.
        tail: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The client could not enter its network namespace.
    #[error("cannot enter the network namespace {namespace}: {source}; the lab must run as root")]
    Namespace {
        /// Its name.
        namespace: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A packet socket for the wire between the nodes was refused.
    #[error("no packet socket on {interface}: {source}; the lab must run as root")]
    Wire {
        /// The interface.
        interface: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The state transfer ended otherwise than in COLO.
    #[error("COLO was not entered; query-migrate says {status}")]
    NoColo {
        /// QEMU's words.
        status: String,
    },
    /// A node's summary is not what it should be.
    #[error("summary of the {role} node, {}: {source}", path.display())]
    Summary {
        /// Which node.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A protected pair did what it must not.
    #[error("{reason}")]
    Claim {
        /// What was seen against what must be.
        reason: String,
    },
    /// QEMU's monitor refused or is gone.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// A client did not get what it must get.
    #[error(transparent)]
    Traffic(#[from] TrafficError),
}

impl LabError {
    /// Wraps a system error with the file it is about; made for `map_err`.
    pub fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }

    /// The same with what the nodes said meanwhile, where something awaited did not come.
    pub fn beside(self, said: &str) -> Self {
        match self {
            Self::Late {
                what,
                seconds,
                tail,
            } => Self::Late {
                what,
                seconds,
                tail: format!("{tail}{said}"),
            },
            Self::Command {
                command,
                status,
                output,
            } => Self::Command {
                command,
                status,
                output: format!("{output}{said}"),
            },
            Self::NoColo { status } => Self::NoColo {
                status: format!("{status}{said}"),
            },
            other => other,
        }
    }

    /// True if the run was ended by a signal, so that nothing is wrong.
    pub fn is_interrupt(&self) -> bool {
        matches!(
            self,
            Self::Interrupted
                | Self::Traffic(TrafficError::Interrupted)
                | Self::Qmp(QmpError::Interrupted)
        )
    }
}
