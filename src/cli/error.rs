//! What can be wrong with a command line, each fault as the one line to print.

use std::path::PathBuf;

use crate::config::{
    ConfigError, FailoverModeError, HeartbeatLossError, HeartbeatUdpError, ListenAddressError,
    MacsError, MetricsAddressError, OnPeerLostError, OutOfRange, PortNameError, QmpAddressError,
    SettingsError, UnknownRole,
};

/// A command line or file that gives nothing to run. Its text is one line: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// An option of this program, and no `--` at all.
    #[error(
        "{option:?} has no `--` before it: EAL options come before `--`, dpdk-colo's behind it, \
         as in `dpdk-colo -l 0 -- --role compare ...`"
    )]
    NoSeparator {
        /// The option as given.
        option: String,
    },
    /// An option of the EAL behind `--`.
    #[error("{option} is an EAL option; put it before `--`")]
    EalOption {
        /// The option with its dashes.
        option: String,
    },
    /// An option that nobody knows.
    #[error("unknown option {option:?} behind `--`; see dpdk-colo --help")]
    UnknownOption {
        /// The option with its dashes.
        option: String,
    },
    /// A word that is no option's value.
    #[error("stray word {word:?} behind `--`; every value follows an option, see dpdk-colo --help")]
    StrayWord {
        /// The word.
        word: String,
    },
    /// An option is there more than once.
    #[error("--{option} is given twice; give it once")]
    Repeated {
        /// The option without its dashes.
        option: &'static str,
    },
    /// An option's value is missing or empty.
    #[error("--{option} has no value; give one behind it, see dpdk-colo --help")]
    NoValue {
        /// The option without its dashes.
        option: &'static str,
    },
    /// A value for an option that takes none.
    #[error("{option} takes no value; remove it")]
    TakesNoValue {
        /// The option with its dashes.
        option: String,
    },
    /// A value that the option cannot have.
    #[error("--{option} {value:?}: {reason}")]
    BadValue {
        /// The option without its dashes.
        option: &'static str,
        /// The value as given.
        value: String,
        /// What it should be.
        reason: ValueError,
    },
    /// The options or the file's keys make no settings together.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The file cannot be read or understood.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file is to be written at the end into a directory that there is not.
    #[error(
        "--{option} {path:?}: there is no directory {directory:?}; make it, or name another file"
    )]
    NoDirectory {
        /// The option without its dashes.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What is no directory.
        directory: PathBuf,
    },
}

impl UsageError {
    /// The exit status of the process.
    pub const EXIT_STATUS: u8 = 2;
}

/// Why a value is not what its option takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not UTF-8.
    #[error("not valid UTF-8")]
    NotUtf8,
    /// No role.
    #[error(transparent)]
    Role(#[from] UnknownRole),
    /// No port name.
    #[error(transparent)]
    Port(#[from] PortNameError),
    /// No QMP address.
    #[error(transparent)]
    Qmp(#[from] QmpAddressError),
    /// No answer to the loss of the peer.
    #[error(transparent)]
    OnPeerLost(#[from] OnPeerLostError),
    /// `--failover` names neither the node nor the operator.
    #[error(transparent)]
    Failover(#[from] FailoverModeError),
    /// No two addresses.
    #[error(transparent)]
    HeartbeatUdp(#[from] HeartbeatUdpError),
    /// No addresses of a VM.
    #[error(transparent)]
    Macs(#[from] MacsError),
    /// No place for metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsAddressError),
    /// No address to listen at.
    #[error(transparent)]
    Listen(#[from] ListenAddressError),
    /// Too few heartbeats, or too many.
    #[error(transparent)]
    HeartbeatLoss(#[from] HeartbeatLossError),
    /// No number in range.
    #[error(transparent)]
    Number(#[from] OutOfRange),
    /// No format of a judgement.
    #[error("give --check alone, or --check=json")]
    CheckFormat,
    /// Any word will do.
    #[error(transparent)]
    Any(#[from] std::convert::Infallible),
}
