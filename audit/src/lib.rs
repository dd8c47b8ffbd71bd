//! Checks after the fact that a protected VM pair kept the rules. Its nodes write each frame and event in one order
//! (`--capture`). The auditor finds the first frame that should not have left.
//!
//! The input is the logs of one or both nodes ([`read`]), or records made in memory ([`record`]). The output is a
//! [`Report`]: clean, the first [`Violation`] of a rule, or what could not be proven. Data flows one way: [`read`] →
//! [`pair`], which merges the nodes and judges who may release (R6) → [`node`], which follows one node's epochs and
//! decides what a commit covers (R3) → [`tcp`] and [`datagram`], which judge one flow (R1, R2, R4, R5).
//!
//! Of `dpdk_colo` it uses only the packet parser and the flow keys. It must not share the comparator's decisions.

pub mod bytes;
pub mod certificate;
pub mod client;
pub mod datagram;
pub mod extras;
mod hashing;
pub mod node;
pub mod pair;
pub mod policy;
pub mod ranges;
pub mod read;
pub mod record;
pub mod report;
pub mod same;
pub mod tcp;
pub mod verdict;

pub use certificate::Certificate;
pub use pair::{Audit, Options};
pub use report::{Report, Rule, Violation};
