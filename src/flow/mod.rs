//! Flows: who talks with whom, and what is remembered about each conversation.
//!
//! [`FlowKey`] names a flow in one direction and is read from a frame by
//! [`crate::packet::Packet::parse`]. [`FlowTable`] keeps a bounded number of states under such
//! keys, in the order of their last use; its memory is all taken at construction (rule R10).

#![warn(unreachable_pub)]

mod key;
mod table;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use key::{Endpoints, is_echo};
pub use key::{FlowClass, FlowKey, Vlans};
pub use table::{FlowId, FlowTable, Full, Standing};
