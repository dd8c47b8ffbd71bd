//! A fencing command on its way: started without waiting, looked at now and then, killed when it takes
//! too long. It runs beside the control thread, in a process group of its own.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::dpdk::child;
use rustix::process::{Pid, Signal, kill_process_group};

/// Longest time that a command may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What a command came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Exit status 0: the peer is down.
    Down,
    /// Anything else, in words.
    Failed(String),
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Fencing {
    /// The number that the poll core gave it.
    pub number: u32,
    child: Child,
    since: Instant,
}

impl Fencing {
    /// Starts the command by the shell, with the pair's name and the node's role in its environment.
    ///
    /// # Errors
    /// When no process can be started.
    pub(crate) fn start(
        command: &str,
        number: u32,
        pair: &str,
        role: &str,
        now: Instant,
    ) -> io::Result<Self> {
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", command])
            .env("COLO_PAIR", pair)
            .env("COLO_ROLE", role)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0);
        Ok(Self {
            number,
            child: child::spawn(&mut shell)?,
            since: now,
        })
    }

    /// What it came to, once it has ended or run out of time.
    pub(crate) fn outcome(&mut self, now: Instant) -> Option<Outcome> {
        match self.child.try_wait() {
            Ok(Some(status)) if status.success() => Some(Outcome::Down),
            Ok(Some(status)) => Some(Outcome::Failed(status.to_string())),
            Ok(None) if now.duration_since(self.since) < LIMIT => None,
            Ok(None) => {
                self.kill();
                Some(Outcome::Failed(format!("no end after {LIMIT:?}, killed")))
            }
            Err(error) => Some(Outcome::Failed(error.to_string())),
        }
    }

    fn kill(&mut self) {
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            // It may have ended by itself meanwhile.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Fencing {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}
