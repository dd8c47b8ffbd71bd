//! How those behave who share a CPU with what is measured.
//!
//! Where there are two CPUs, one is the poll core's, and the comparator's control thread has the
//! other one together with the frames' source and the monitor, which on a host of users have
//! their own.

use std::path::PathBuf;
use std::process::Command;

use rustix::thread::gettid;

/// Whether they give way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// They have their turns.
    Usual,
    /// They run while nobody else wants the CPU (`SCHED_IDLE`).
    Aside,
}

impl Manners {
    /// A program and its words, as it is to be started.
    pub fn start(self, program: PathBuf, words: Vec<String>) -> (PathBuf, Vec<String>) {
        match self {
            Self::Usual => (program, words),
            Self::Aside => {
                let program = program.display().to_string();
                let chrt = ["--idle".to_owned(), "0".to_owned(), program];
                ("chrt".into(), [chrt.to_vec(), words].concat())
            }
        }
    }

    /// The same for the calling thread. Where it is not allowed the figures are those of a machine
    /// that others use.
    pub fn take_on(self) {
        if self == Self::Aside {
            let thread = gettid().as_raw_nonzero().to_string();
            let mut chrt = Command::new("chrt");
            let _ = chrt.args(["--idle", "--pid", "0", &thread]).output();
        }
    }
}
