//! Keeps what is in memory out of core dumps, where it has keys.
//!
//! A key's bytes are in several places: what reads the file, what derives keys from it, registers and stacks. So no
//! single page can be left out of a dump; there is none at all. (`RLIMIT_CORE` does not hold where the kernel pipes
//! dumps to a program.) `docs/threat-model.md` says what it costs.

use std::io;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// From now on the process leaves no core dump, and only root may trace it.
///
/// # Errors
/// When the system refuses.
pub fn forbid() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
