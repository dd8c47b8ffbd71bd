//! A client of QEMU's machine protocol (QMP), as a COLO proxy needs it: the schema probe,
//! checkpoint requests, and the events that say when a checkpoint begins and ends.
//!
//! In go bytes from a monitor socket, requests from the control thread and the time. Out come
//! [`Event`]s. Nothing here knows frames, epochs or a node's role: which RESUME is a commit is for
//! `protect` to say. The client serves the primary's and the secondary's monitor alike.
//!
//! Two layers:
//! - [`Session`] is one connection without I/O and without a clock: lines in, commands out. It
//!   holds the order of the replies, the timeouts and every bound on memory.
//! - [`Client`] moves its bytes over a nonblocking socket and connects again after a loss. It is
//!   polled by a control thread, starts none of its own, and no call of it blocks (a host *name*
//!   as the address is the exception: the system's resolver is asked at each connect).
//!
//! Facts of the protocol this module relies on (QEMU `docs/interop/qmp-spec`, `monitor/qmp.c`):
//! - Replies come in the order of the commands, and events and replies share one ordered stream. So a reply to
//!   [`Client::barrier`] proves that every event before it has been delivered. With the capability `oob`, which is
//!   enabled where it is offered, that holds for all but the commands out of band: `yank`, and whether QEMU answers.
//! - A checkpoint is requested by setting `x-checkpoint-delay`, also to the value that it has
//!   (QEMU `migrate_params_apply`). The empty reply says "latched", no more; a STOP confirms it.
//! - A monitor socket serves one client at a time. Others wait, connected, without a greeting.

#![warn(unreachable_pub)]

mod address;
mod client;
mod command;
mod error;
mod event;
mod examination;
mod pipeline;
mod probe;
mod session;
mod transport;
mod wire;
mod yank;

pub use address::{Address, AddressError};
pub use client::{Client, Options};
pub use error::{CommandError, Excerpt, ProtocolError, QmpError, RequestError, RequestFailure};
pub use event::{ColoExitReason, ColoMode, Event, MigrationStatus, QemuTime, RunState, Stamp};
pub use probe::{Caution, NoColo, Probe, Version};
pub use session::{Session, Timing};
pub use yank::Yanked;
