//! Views on the bytes of a frame: what it is, whose flow it belongs to, where its payload lies.
//!
//! In go the bytes of a frame's first segment and the frame's whole length; out comes a [`Packet`],
//! a small `Copy` value of offsets and header fields. Nothing is copied, and no input, however
//! short or lying, makes it panic or read out of bounds: what cannot be read is
//! [`Kind::Unreadable`], which the comparison holds until a checkpoint (rule R8).

#![warn(unreachable_pub)]

pub mod build;
pub mod checksum;
mod counterpart;
pub(crate) mod edit;
mod embedded;
mod extras;
mod isn;
mod parse;
mod reset;
pub mod segmentation;
pub mod serial;
mod shallow;
mod tcp;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use counterpart::Common;
pub use edit::Outcome;
pub use embedded::EmbeddedTcp;
pub use isn::{Isn, Offset};
pub use parse::{Kind, Packet, Tcp, Unreadable};
pub use reset::reset_of;
pub(crate) use shallow::{is_of_the_same_flow, shallow_parse};
pub use tcp::{TcpFlags, TcpOptions, is_signed, sack_edges, timestamp_echo};
