//! The commands that a session gives, and the shapes of their replies (QEMU `qapi/migration.json`,
//! `qapi/net.json`, `qapi/run-state.json`).

use serde::Deserialize;

use super::error::RequestFailure;
use super::event::{ColoMode, Event, MigrationStatus, RunState};
use super::examination::Look;
use super::yank::Yanked;

/// A command, and what its reply is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Negotiate,
    Schema,
    Capabilities,
    EnableEvents,
    Parameters,
    Migration,
    ColoStatus,
    /// The probe's last, but for the question about COLO that may follow.
    ProbeStatus,
    /// Asked behind a STOP, for what the stop is for.
    StopStatus,
    /// A barrier's last, with its token.
    BarrierStatus(u64),
    /// A checkpoint request, with its token.
    Checkpoint(u64),
    /// The failover command: the other side is lost.
    FailOver,
    /// A connection to the other side is cut, out of band.
    Yank(Yanked),
    /// Whether QEMU answers out of band.
    Alive,
    /// For the connections that can be cut.
    Instances,
    /// For the way of each NBD client into a disk.
    BlockGraph,
    /// For the names of the NICs that are to get their link.
    Nics,
    /// A NIC gets its link.
    RaiseLink,
    /// A part of an examination.
    Look(Look),
    /// Whatever the caller wants executed.
    Other {
        /// The caller's.
        token: u64,
        /// In QEMU's schema.
        name: &'static str,
    },
}

impl Command {
    /// Its name in QEMU's schema.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Negotiate => "qmp_capabilities",
            Self::Schema => "query-qmp-schema",
            Self::Capabilities => "query-migrate-capabilities",
            Self::EnableEvents => "migrate-set-capabilities",
            Self::Parameters => "query-migrate-parameters",
            Self::Migration => "query-migrate",
            Self::ProbeStatus | Self::StopStatus | Self::BarrierStatus(_) => "query-status",
            Self::Checkpoint(_) => "migrate-set-parameters",
            Self::ColoStatus => "query-colo-status",
            Self::FailOver => "x-colo-lost-heartbeat",
            Self::Yank(_) => "yank",
            Self::Alive | Self::Instances => "query-yank",
            Self::BlockGraph => "x-debug-query-block-graph",
            Self::Nics => "query-rx-filter",
            Self::RaiseLink => "set_link",
            Self::Look(look) => look.name(),
            Self::Other { name, .. } => name,
        }
    }

    /// The event for the caller if a command that it asked for fails.
    pub(super) fn failed(self, cause: RequestFailure) -> Option<Event> {
        match self {
            Self::Checkpoint(token) => Some(Event::RequestFailed { token, cause }),
            Self::BarrierStatus(token) => Some(Event::BarrierFailed { token, cause }),
            Self::FailOver => Some(Event::FailOverFailed { cause }),
            Self::Yank(what) => Some(Event::YankFailed { what, cause }),
            Self::Other { token, .. } => Some(Event::Executed {
                token,
                result: Err(cause),
            }),
            _ => None,
        }
    }

    /// Whether the caller asked for it.
    pub(super) fn is_request(self) -> bool {
        matches!(
            self,
            Self::Checkpoint(_) | Self::BarrierStatus(_) | Self::FailOver | Self::Other { .. }
        )
    }
}

/// A NIC in the reply to `query-rx-filter`.
#[derive(Deserialize)]
pub(super) struct Nic {
    pub name: String,
}

/// One capability in the reply to `query-migrate-capabilities`.
#[derive(Deserialize)]
pub(super) struct Capability {
    pub capability: String,
    pub state: bool,
}

/// The reply to `query-migrate-parameters`.
#[derive(Deserialize)]
pub(super) struct Parameters {
    #[serde(rename = "x-checkpoint-delay")]
    pub checkpoint_delay: Option<u32>,
}

/// The reply to `query-colo-status`.
#[derive(Deserialize)]
pub(super) struct ColoStatus {
    pub mode: ColoMode,
}

/// The reply to `query-migrate`, which names no status where no migration was ever started.
#[derive(Deserialize)]
pub(super) struct Migration {
    #[serde(default = "no_migration")]
    pub status: MigrationStatus,
}

fn no_migration() -> MigrationStatus {
    MigrationStatus::None
}

/// The reply to `query-status`.
#[derive(Deserialize)]
pub(super) struct Status {
    pub status: RunState,
}
