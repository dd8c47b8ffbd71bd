//! Threads of other processes: the one that polls for a node, and one that does not run for a time.

use std::fmt;
use std::fs;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// How DPDK names the threads of its worker lcores, up to 23.07 and after.
const WORKERS: [&str; 2] = ["rte-worker", "dpdk-worker"];

/// The first thread of a process whose name begins with one of these.
pub fn named(process: u32, names: &[&str]) -> Option<i32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let task = tasks.filter_map(Result::ok).find(|task| {
        fs::read_to_string(task.path().join("comm"))
            .is_ok_and(|name| names.iter().any(|begin| name.starts_with(begin)))
    })?;
    task.file_name().to_str()?.parse().ok()
}

/// The thread that polls for a node: that of its first worker lcore.
pub fn poll_core(process: u32) -> Option<i32> {
    named(process, &WORKERS)
}

/// Why a thread was not stopped.
#[derive(Debug)]
pub enum HoldError {
    /// The process has no worker lcore.
    NoWorker {
        /// The process.
        process: u32,
    },
    /// The kernel did not let it be traced.
    Refused {
        /// The thread.
        thread: i32,
        /// The kernel's reason.
        reason: io::Error,
    },
}

impl fmt::Display for HoldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWorker { process } => {
                write!(f, "process {process} has no thread of a worker lcore")
            }
            Self::Refused { thread, reason } => {
                write!(f, "thread {thread} cannot be traced: {reason}")
            }
        }
    }
}

impl std::error::Error for HoldError {}

/// A thread of another process that does not run until this is dropped.
pub struct Held {
    /// Dropped first: the tracer waits for its end.
    release: Option<Sender<()>>,
    tracer: Option<JoinHandle<()>>,
}

impl Held {
    /// Stops the thread that polls for a node.
    ///
    /// # Errors
    /// There is none, or the kernel refuses.
    pub fn poll_core(process: u32) -> Result<Self, HoldError> {
        let thread = poll_core(process).ok_or(HoldError::NoWorker { process })?;
        Self::thread(thread)
    }

    /// Stops a thread.
    ///
    /// # Errors
    /// The kernel refuses.
    ///
    /// # Panics
    /// When the system gives no thread for the tracer.
    pub fn thread(thread: i32) -> Result<Self, HoldError> {
        let (release, released) = mpsc::channel();
        let (report, reports) = mpsc::channel();
        // A traced thread obeys the one thread that has attached to it.
        let tracer = thread::spawn(move || trace(Pid::from_raw(thread), &report, &released));
        let held = Self {
            release: Some(release),
            tracer: Some(tracer),
        };
        match reports.recv().expect("the tracer reports") {
            Ok(()) => Ok(held),
            Err(errno) => Err(HoldError::Refused {
                thread,
                reason: errno.into(),
            }),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.release.take());
        if let Some(tracer) = self.tracer.take() {
            let _ = tracer.join();
        }
    }
}

/// Stops a thread, and lets it go on when the other side of `released` is dropped.
fn trace(thread: Pid, report: &Sender<Result<(), Errno>>, released: &Receiver<()>) {
    let stopped = stop(thread);
    let is_stopped = stopped.is_ok();
    let _ = report.send(stopped);
    if is_stopped {
        let _ = released.recv();
        // Its process may have ended. What is traced still goes on when this thread ends.
        let _ = ptrace::detach(thread, None);
    }
}

fn stop(thread: Pid) -> Result<(), Errno> {
    ptrace::seize(thread, ptrace::Options::empty())?;
    ptrace::interrupt(thread)?;
    waitpid(thread, Some(WaitPidFlag::__WALL)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::requirement;

    /// A process, ended when dropped.
    struct Process(Child);

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// The letter of a thread's state: `t` is stopped by a tracer.
    fn state(thread: u32) -> char {
        let text = fs::read_to_string(format!("/proc/{thread}/stat")).expect("it lives");
        let (_, behind) = text.rsplit_once(") ").expect("a name in brackets");
        behind.chars().next().expect("a state")
    }

    #[test]
    fn a_thread_is_stopped_until_its_hold_is_dropped_by_any_thread() {
        let child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn();
        let process = Process(child.expect("sleep is a core utility"));
        let id = process.0.id();
        // A process gets its own name a moment after it is spawned.
        let since = Instant::now();
        while named(id, &["rte", "sl"]) != Some(id as i32) {
            assert!(since.elapsed() < Duration::from_secs(10), "it has no name");
        }
        assert_eq!(named(id, &["rte"]), None);
        let held = Held::thread(id as i32);
        let Some(held) = requirement::met("ptrace", held) else {
            return;
        };
        assert_eq!(state(id), 't');
        thread::spawn(move || drop(held)).join().expect("it drops");
        assert_ne!(state(id), 't');
    }

    #[test]
    fn a_thread_that_does_not_exist_is_an_error() {
        // The largest number that Linux gives is below this.
        let error = Held::thread(i32::MAX).err().expect("there is no such one");
        assert!(error.to_string().contains("cannot be traced"), "{error}");
        let error = Held::poll_core(std::process::id()).err();
        assert!(matches!(error, Some(HoldError::NoWorker { .. })));
    }
}
