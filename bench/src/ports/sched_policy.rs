//! The scheduling policy of programs and threads that share a CPU with the measured process.
//!
//! With two CPUs the poll core has one of them. The comparator's control thread shares the other one with the load
//! generator and the monitor, which have a CPU of their own on a user's host.

use std::path::PathBuf;
use std::process::Command;

use rustix::thread::gettid;

/// A scheduling policy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SchedPolicy {
    /// The default (`SCHED_OTHER`).
    Normal,
    /// Runs only while the CPU is otherwise idle (`SCHED_IDLE`).
    Idle,
}

impl SchedPolicy {
    /// The program and arguments that start `program` with this policy.
    pub fn command(self, program: PathBuf, words: Vec<String>) -> (PathBuf, Vec<String>) {
        match self {
            Self::Normal => (program, words),
            Self::Idle => {
                let program = program.display().to_string();
                let chrt = ["--idle".to_owned(), "0".to_owned(), program];
                ("chrt".into(), [chrt.to_vec(), words].concat())
            }
        }
    }

    /// Sets the policy of the calling thread. If that is not allowed, the thread keeps its policy and competes for the
    /// CPU.
    pub fn apply(self) {
        if self == Self::Idle {
            let thread = gettid().as_raw_nonzero().to_string();
            let mut chrt = Command::new("chrt");
            let _ = chrt.args(["--idle", "--pid", "0", &thread]).output();
        }
    }
}
