//! Why a measurement did not come about.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// What ends the program with status 1. A target that is missed is no error.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A program cannot be started.
    #[error(
        "cannot start {program}: {source}; is it installed (scripts/install-packages) and built?"
    )]
    Spawn {
        /// Its name.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A program ended when it should have run, or with a failure.
    #[error("{name} ended ({status}); its last words:\n{tail}")]
    Ended {
        /// What it is here.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its output.
        tail: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not come within {seconds} s{tail}")]
    Late {
        /// What was to happen.
        what: String,
        /// How long was waited.
        seconds: u64,
        /// What the program that was to do it said last.
        tail: String,
    },
    /// A file or socket.
    #[error("{}: {source}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A program printed or wrote something else than it must.
    #[error("{name}: not the figures that were expected: {said}")]
    Figures {
        /// Which program.
        name: String,
        /// What it said.
        said: String,
    },
    /// A signal that ends this program.
    #[error("interrupted; what was started has been ended")]
    Interrupted,
    /// No handler for signals can be installed.
    #[error("cannot catch signals: {0}")]
    Signals(io::Error),
    /// colo-compare let out a byte that it must not, or none.
    #[error("colo-compare: {0}")]
    Peer(&'static str),
}

impl BenchError {
    /// For `map_err` where a path is at hand.
    pub fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}
