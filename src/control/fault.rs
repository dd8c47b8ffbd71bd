//! Why a request has no other reply: what is wrong, where, and what to do.

use serde::Serialize;
use serde_json::{Value, json};

use super::order::Order;

/// The kind of a fault, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The line is no request.
    Protocol,
    /// No such command, pair or parameter.
    Unknown,
    /// Arguments that the command does not take.
    Invalid,
    /// The state of the pair or of the node forbids it.
    Refused,
    /// It was tried and did not work.
    Failed,
    /// It did not come about in time.
    Timeout,
    /// Too many clients.
    Busy,
}

/// Why a request has no other reply.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Not JSON, or not a request.
    #[error(
        "this line is no request: {0}; send a line such as {{\"id\":1,\"command\":\"status\"}}"
    )]
    NotARequest(String),
    /// A line without an end.
    #[error(
        "this line is longer than {limit} bytes; a request is a line of its own, the connection ends"
    )]
    TooLong {
        /// Bytes that a line may have.
        limit: usize,
    },
    /// No such command.
    #[error(
        "{0:?} is no command; the commands are: status, wait, protect, checkpoint, switchover, failover, maintenance, \
         set, facts, examine, why, pair-show, policy-list, stats-reset, capture-start, capture-stop"
    )]
    UnknownCommand(String),
    /// Arguments that the command does not take.
    #[error("{command}: {reason}; see docs/control.md")]
    Arguments {
        /// The command.
        command: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// No such pair.
    #[error("there is no pair {name:?}; the pairs of this node are: {known}")]
    NoSuchPair {
        /// Its name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// An order for one pair that names none.
    #[error("{command}: this node has several pairs; name one of: {known}")]
    WhichPair {
        /// The command.
        command: &'static str,
        /// The names that there are.
        known: String,
    },
    /// No such parameter.
    #[error("set: there is no parameter {0:?}; log-level and compare-timeout can be set")]
    UnknownParameter(String),
    /// A parameter that holds until the node ends.
    #[error(
        "set: {name} cannot be changed while the node runs: {why}; restart the node with the new value"
    )]
    Fixed {
        /// Its name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// The state of the pair forbids it.
    #[error("pair {pair}: {why}")]
    Refused {
        /// The pair.
        pair: String,
        /// Why, and what to do first.
        why: String,
    },
    /// An announcement that somebody wants back.
    #[error(
        "maintenance off: the peer has the announcement and cannot unhear it; it ends by itself after the peer's \
         --restart-limit, and with the next session of this node"
    )]
    NoWithdrawal,
    /// Tried without success.
    #[error("pair {pair}: {order}: {why}")]
    Failed {
        /// The pair.
        pair: String,
        /// The order.
        order: Order,
        /// What happened, and what to do.
        why: String,
    },
    /// Not in time.
    #[error("{what} did not come about within {seconds} s: {now}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: f64,
        /// How things are instead.
        now: String,
    },
    /// Too many clients.
    #[error("{limit} clients are connected already; end one of them, or try again in 10 s")]
    Busy {
        /// Clients at a time.
        limit: usize,
    },
    /// The control thread takes no order.
    #[error("the control thread takes no order now: {0}; try again, or see the log")]
    NoTaker(&'static str),
}

impl Fault {
    /// Its kind.
    pub fn class(&self) -> Class {
        match self {
            Self::NotARequest(_) | Self::TooLong { .. } => Class::Protocol,
            Self::UnknownCommand(_) | Self::NoSuchPair { .. } | Self::UnknownParameter(_) => {
                Class::Unknown
            }
            Self::Arguments { .. } | Self::WhichPair { .. } => Class::Invalid,
            Self::Fixed { .. } | Self::Refused { .. } | Self::NoWithdrawal => Class::Refused,
            Self::Failed { .. } | Self::NoTaker(_) => Class::Failed,
            Self::Timeout { .. } => Class::Timeout,
            Self::Busy { .. } => Class::Busy,
        }
    }

    /// As a reply shows it.
    pub fn to_json(&self) -> Value {
        json!({ "class": self.class(), "message": self.to_string() })
    }
}
