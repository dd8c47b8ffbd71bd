//! The frames between the two nodes of a VM pair.
//!
//! [`wire`] is the codec, [`note`] is text for the other node's control thread, [`fragment`] carries frames longer than the link's MTU below it, [`secure`] lets only the
//! peer's frames count; [`Endpoint`] is one end: it numbers what it sends, detects what was lost (rule R7), carries
//! control messages reliably and in order, and lets the peer send only what there is room for, so that a slow SVM means
//! wait, not drop. It knows no port: bytes and time go in, headers and messages come out.
//!
//! Two ends that hear each other form a session. A node that restarts has a later `boot` number;
//! its peer then begins a new session and says so, because nothing of the old one can be relied on.

mod endpoint;
pub mod fragment;
pub mod note;
pub mod secure;
mod silence;
#[cfg(test)]
mod tests;
pub mod wire;

pub use endpoint::{Bytes, Counts, Endpoint, Event, Full, Received, Timing};
pub use note::{Assembler, Piece};
pub use wire::{DATA_HEADER, Message, Transmit, offload, set_offload};
