//! What can go wrong between a monitor and this program.
//!
//! Each message is one whole line for an operator: what, where, what to do. It contains its cause;
//! `source()` hands the cause to programs and need not be printed beside it.

use std::fmt;
use std::io;
use std::time::Duration;

use serde::Deserialize;

use super::{Address, NoColo};

/// Why there is no connection to a monitor.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The kernel refused the connection.
    #[error(
        "no monitor at {address}: {source}; {}",
        connect_advice(address, source)
    )]
    Connect {
        /// The monitor.
        address: Address,
        /// The system's reason.
        source: io::Error,
    },
    /// The host's name has no address.
    #[error("no address for the monitor's host in {address}: {source}; check the name")]
    Resolve {
        /// The monitor.
        address: Address,
        /// The resolver's reason.
        source: io::Error,
    },
    /// The host did not answer the attempt to connect.
    #[error(
        "no answer from {address} within {} ms of connecting; \
         check that the host is up and that no firewall drops the port",
        after.as_millis()
    )]
    ConnectTimedOut {
        /// The monitor.
        address: Address,
        /// How long was waited.
        after: Duration,
    },
    /// The established connection broke.
    #[error("the connection to the monitor at {address} broke: {source}")]
    Io {
        /// The monitor.
        address: Address,
        /// The system's reason.
        source: io::Error,
    },
    /// The connection stood, but what came over it (or did not come) ended it.
    #[error("the monitor at {address} {source}")]
    Protocol {
        /// The monitor.
        address: Address,
        /// What was wrong.
        source: ProtocolError,
    },
}

/// What ended a session. Each reads as the rest of a sentence that begins "the monitor".
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// Connected, but no greeting came.
    #[error(
        "gave no greeting within {} ms; each QMP socket serves one client at a time, \
         so another client probably holds it: give this program a -qmp socket of its own",
        after.as_millis()
    )]
    NoGreeting {
        /// How long was waited.
        after: Duration,
    },
    /// The first line was something else than a greeting.
    #[error("did not greet as QMP does but sent {got}; check that the address is a QMP monitor's")]
    NotGreeting {
        /// The line.
        got: Excerpt,
    },
    /// A line is not JSON.
    #[error(
        "sent a line that is not JSON ({source}): {got}; \
         check that the address is a QMP monitor's, and that it has no pretty=on"
    )]
    Json {
        /// The parser's reason.
        source: serde_json::Error,
        /// The line.
        got: Excerpt,
    },
    /// A line is JSON, but not what QMP says at this point.
    #[error("sent {got}, which is not {expected}; check that it is QEMU that listens there")]
    Shape {
        /// What was due.
        expected: &'static str,
        /// The line.
        got: Excerpt,
    },
    /// A line grew past its bound.
    #[error("sent a line of more than {limit} bytes; check that it is QEMU that listens there")]
    LineTooLong {
        /// The bound in bytes.
        limit: usize,
    },
    /// A reply that belongs to no command, or comes out of order.
    #[error("sent a reply that is not due ({got}); what it says is not trusted any more")]
    UnexpectedReply {
        /// The line.
        got: Excerpt,
    },
    /// A command of the probe was refused.
    #[error("refused {command}, without which it cannot be used: {source}")]
    ProbeRefused {
        /// The command's name.
        command: &'static str,
        /// QEMU's reason.
        source: CommandError,
    },
    /// A reply did not come.
    #[error(
        "did not reply to {command} within {} ms; QEMU is hung or its host is gone",
        after.as_millis()
    )]
    ReplyTimedOut {
        /// The command's name.
        command: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The monitor closed the connection.
    #[error("closed the connection; QEMU has ended, or its monitor was removed")]
    Closed,
    /// The monitor closed the connection within a line.
    #[error("closed the connection within a line: {got}; QEMU has probably crashed")]
    ClosedWithinLine {
        /// What there was of the line.
        got: Excerpt,
    },
}

/// An error that QEMU replied.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{} ({})", Excerpt::new(.desc.as_bytes()), Excerpt::new(.class.as_bytes()))]
pub struct CommandError {
    /// QEMU's `QapiErrorClass`, such as `GenericError` or `CommandNotFound`.
    pub class: String,
    /// QEMU's words.
    pub desc: String,
}

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no monitor to ask.
    #[error("the monitor is not connected")]
    NotConnected,
    /// This QEMU cannot make a checkpoint.
    #[error(transparent)]
    NoColo(#[from] NoColo),
    /// As many requests as may be are still without a reply.
    #[error("{0} requests are already without a reply from the monitor")]
    TooMany(usize),
}

/// Why a request that was taken came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestFailure {
    /// QEMU replied with an error.
    #[error("QEMU refused: {0}")]
    Refused(#[source] CommandError),
    /// No reply came in time; the connection is given up for it.
    #[error("the monitor did not reply in time")]
    TimedOut,
    /// The connection ended first.
    #[error("the connection to the monitor was lost")]
    ConnectionLost,
}

/// The beginning of something that a peer sent, quoted so that it is safe in a log line.
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt(String);

impl Excerpt {
    /// Longest quotation in bytes of the original.
    const MAX: usize = 96;

    /// Quotes the beginning of `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        let end = bytes.len().min(Self::MAX);
        let more = if end < bytes.len() { "…" } else { "" };
        let text = String::from_utf8_lossy(&bytes[..end]);
        Self(format!("'{}{more}'", text.trim_end().escape_debug()))
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn connect_advice(address: &Address, source: &io::Error) -> String {
    match (source.kind(), address) {
        (io::ErrorKind::WouldBlock, _) => "other clients already wait in line for it, and each \
             QMP socket serves one at a time: give this program a -qmp socket of its own"
            .into(),
        (io::ErrorKind::PermissionDenied, _) => {
            "run as a user that may write to it, or change its owner or mode".into()
        }
        (_, Address::Unix(path)) => format!(
            "start QEMU with -qmp unix:{},server=on,wait=off",
            path.display()
        ),
        (_, Address::Tcp { .. }) => {
            format!("start QEMU with -qmp tcp:{address},server=on,wait=off")
        }
    }
}
