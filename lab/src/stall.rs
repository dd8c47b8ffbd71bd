//! A poll core that gets no CPU while the rest of its process runs.

use std::fs;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::error::LabError;
use crate::interrupt;

/// What DPDK calls the threads of its worker lcores, up to 23.07 and after.
const WORKERS: [&str; 2] = ["rte-worker", "dpdk-worker"];

/// Keeps the thread that polls for the node of this process from running for a time.
///
/// # Errors
/// [`LabError::Claim`] if there is no such thread or it cannot be stopped, and if it was interrupted.
pub fn poll_core(process: u32, time: Duration) -> Result<(), LabError> {
    let thread = poll_thread(process).ok_or_else(|| LabError::Claim {
        reason: format!("process {process} has no thread of a worker lcore"),
    })?;
    let failed = |error: nix::Error| LabError::Claim {
        reason: format!("thread {thread} of process {process} cannot be stopped: {error}"),
    };
    ptrace::seize(thread, ptrace::Options::empty()).map_err(failed)?;
    let stalled = ptrace::interrupt(thread)
        .and_then(|()| waitpid(thread, Some(WaitPidFlag::__WALL)).map(drop))
        .map_err(failed)
        .and_then(|()| interrupt::sleep(time));
    ptrace::detach(thread, None).map_err(failed)?;
    stalled
}

fn poll_thread(process: u32) -> Option<Pid> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let worker = tasks.filter_map(Result::ok).find(|task| {
        fs::read_to_string(task.path().join("comm"))
            .is_ok_and(|name| WORKERS.iter().any(|worker| name.starts_with(worker)))
    })?;
    worker.file_name().to_str()?.parse().ok().map(Pid::from_raw)
}
