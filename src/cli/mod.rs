//! The command line: `dpdk-colo [EAL options] -- [options]`.
//!
//! [`split()`] parts what belongs to DPDK's EAL from what belongs to this program; [`Options::parse`]
//! reads the latter into keys; [`Options::settings`] adds the file and gives checked
//! [`Settings`](crate::config::Settings). Every mistake is a [`UsageError`], whose text is the one
//! line to print and whose exit status is [`UsageError::EXIT_STATUS`].

#![warn(unreachable_pub)]

mod devices;
mod error;
mod interfaces;
mod log_level;
mod options;
mod sockets;
mod split;
mod usage;

pub use error::{UsageError, ValueError};
pub use interfaces::{NoInterface, require_interfaces};
pub use log_level::quiet_vhost;
pub use options::{CheckFormat, Command, Options};
pub use sockets::remove_dead_sockets;
pub use split::{Split, split};
pub use usage::{USAGE, VERSION};
