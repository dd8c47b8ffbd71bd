//! What an operator's program and a running node say to each other: lines of JSON (`docs/control.md`).
//!
//! In: bytes that a client sent, and a [`Snapshot`] of the node. Out: bytes for the client, and [`Order`]s for the
//! control thread. There is no socket, clock or thread here: who serves clients owns those.

#![warn(unreachable_pub)]

mod command;
mod explain;
mod fault;
mod order;
mod session;
mod status;
mod switchover;
mod unprotect;

pub use command::{Capture, Command, Condition, Step, Waiting, begin};
pub use explain::{CEDED, SUPERSEDED, promotable, todo, why};
pub use fault::{Class, Fault};
pub use order::{Means, Order, check};
pub use session::{CHUNK, Request, Session};
pub use status::{
    CheckpointStatus, Counted, FailoverParameters, Giver, HeldStatus, LastCheckpoint, LinkStatus,
    MonitorStatus, NodeStatus, OrderStatus, PairParameters, PairStatus, PeerStatus, ProtectStatus,
    RefusedFrames, RingStatus, RoleNow, Snapshot,
};
pub use switchover::{Moved, Next, Switchover};
pub use unprotect::{AloneStep, RenounceStep, Renunciation, Unprotect, Unprotected};

/// Grows if a client of an earlier number would misunderstand something.
pub const PROTOCOL: u32 = 1;
/// Name of the socket in EAL's runtime directory.
pub const SOCKET: &str = "colo-control.sock";
