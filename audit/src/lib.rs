//! Checks after the fact that a protected VM pair kept its word: from what its nodes wrote with
//! `--capture` (every frame and event of a node in one order) it finds the first frame that
//! should not have left.
//!
//! In go the logs of one or both nodes ([`read`]), or records made in memory ([`record`]); out
//! comes a [`Report`]: clean, the first [`Violation`] of rules R1, R2, R4, R5 or R6, or what could
//! not be proven. Data flows one way: [`read`] → [`pair`], which merges the nodes and judges who
//! may release (R6) → [`node`], which follows one node's epochs and decides what a commit covers →
//! [`tcp`] and [`datagram`], which judge one flow (R1, R2, R4, R5).
//!
//! Of `dpdk_colo` it uses the packet parser and the flow keys and nothing else: how the comparator
//! decides, it must not know.

pub mod bytes;
pub mod client;
pub mod datagram;
pub mod extras;
pub mod node;
pub mod pair;
pub mod policy;
pub mod ranges;
pub mod read;
pub mod record;
pub mod report;
pub mod same;
pub mod tcp;

pub use pair::{Audit, Options};
pub use report::{Report, Rule, Violation};
