//! What happens when the other node of a pair is lost, as it is configured.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use super::{Bounded, HeartbeatUdp};

/// What makes it certain that a lost peer's VM sends nothing any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum OnPeerLost {
    /// `hold`: only QEMU's word, which an operator gives.
    #[default]
    Hold,
    /// `release`: the loss itself. The operator answers for it that no secondary takes over.
    Release,
    /// `exec:CMD`: a fencing command for the shell whose exit status 0 says that the peer is down.
    Exec(Box<str>),
}

impl FromStr for OnPeerLost {
    type Err = OnPeerLostError;

    fn from_str(text: &str) -> Result<Self, OnPeerLostError> {
        match text {
            "hold" => Ok(Self::Hold),
            "release" => Ok(Self::Release),
            _ => match text.strip_prefix("exec:").map(str::trim) {
                Some(command) if !command.is_empty() => Ok(Self::Exec(command.into())),
                _ => Err(OnPeerLostError),
            },
        }
    }
}

impl TryFrom<String> for OnPeerLost {
    type Error = OnPeerLostError;

    fn try_from(text: String) -> Result<Self, OnPeerLostError> {
        text.parse()
    }
}

/// A word that is no answer to the loss of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give `hold`, `release` or `exec:COMMAND`")]
pub struct OnPeerLostError;

/// Who reports to QEMU that the peer is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum FailoverMode {
    /// `manual`: an operator or a cluster manager.
    #[default]
    Manual,
    /// `auto`: the node, once it is certain.
    Auto,
}

impl FromStr for FailoverMode {
    type Err = FailoverModeError;

    fn from_str(text: &str) -> Result<Self, FailoverModeError> {
        match text {
            "manual" => Ok(Self::Manual),
            "auto" => Ok(Self::Auto),
            _ => Err(FailoverModeError),
        }
    }
}

impl TryFrom<String> for FailoverMode {
    type Error = FailoverModeError;

    fn try_from(text: String) -> Result<Self, FailoverModeError> {
        text.parse()
    }
}

impl fmt::Display for FailoverMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manual => "manual",
            Self::Auto => "auto",
        })
    }
}

/// A word that names neither the node nor the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give `auto` or `manual`")]
pub struct FailoverModeError;

/// Heartbeats in a row that must fail to come. A network loses one and another, and a busy host is late. With fewer
/// than four a peer that lives is lost with two of them, and its session gives way to another after one
/// (`docs/link.md`, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct HeartbeatLoss(Bounded<4, 10_000>);

impl HeartbeatLoss {
    /// The number.
    pub const fn value(self) -> u32 {
        self.0.value()
    }
}

impl TryFrom<i64> for HeartbeatLoss {
    type Error = HeartbeatLossError;

    fn try_from(number: i64) -> Result<Self, HeartbeatLossError> {
        Bounded::try_from(number)
            .map(Self)
            .map_err(|_| HeartbeatLossError)
    }
}

impl FromStr for HeartbeatLoss {
    type Err = HeartbeatLossError;

    fn from_str(text: &str) -> Result<Self, HeartbeatLossError> {
        text.parse().map(Self).map_err(|_| HeartbeatLossError)
    }
}

/// A number of heartbeats that says nothing of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "give a whole number from 4 to 10000: with fewer a peer that lives is lost with two heartbeats; to notice a loss \
     sooner, give a shorter --heartbeat"
)]
pub struct HeartbeatLossError;

/// How the loss of the peer is noticed and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverSettings {
    /// Something is sent on the link at least this often.
    pub heartbeat: Duration,
    /// The peer is lost when this many heartbeats in a row did not come, at least 4.
    pub heartbeat_loss: u32,
    /// Ends of the datagrams by which the control threads report that their poll cores run.
    pub heartbeat_udp: Option<HeartbeatUdp>,
    /// A peer whose poll core does not run, by these reports, is lost after this long without a frame.
    pub peer_stall_limit: Duration,
    /// A restart that the peer has announced may take this long.
    pub restart_limit: Duration,
    /// What makes the loss certain.
    pub on_peer_lost: OnPeerLost,
    /// Who reports the loss to QEMU.
    pub mode: FailoverMode,
}

impl FailoverSettings {
    /// The peer is lost after this time without a frame.
    pub fn silence(&self) -> Duration {
        self.heartbeat * self.heartbeat_loss
    }
}
