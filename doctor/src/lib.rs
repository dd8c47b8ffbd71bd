//! What is wrong with the set-up of a node, and what to do about it (`docs/doctor.md`).
//!
//! [`checks`] are pure: [`Facts`] in, [`Finding`]s out, one file for each family. What is not known is no mistake, so
//! the same checks judge a command line, a host before a node starts, and a running node. [`collect`] fetches facts:
//! from `/proc` and `/sys` below a root that a test replaces, and from QEMU over anything that passes its commands on.

#![warn(unreachable_pub)]

pub mod checks;
pub mod collect;
pub mod facts;
mod finding;

pub use checks::examine;
pub use facts::Facts;
pub use finding::{Finding, Severity, is_sound, text};
