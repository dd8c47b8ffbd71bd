//! A thread that gets no CPU while the rest of its process runs.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Keeps the poll core of a process from running for a time: its first worker lcore's thread, or else the main one.
pub fn poll_core(process: u32, time: Duration) {
    let thread = Pid::from_raw(poll_thread(process) as i32);
    ptrace::seize(thread, ptrace::Options::empty()).expect("the thread can be traced");
    ptrace::interrupt(thread).expect("it can be interrupted");
    waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it stops");
    thread::sleep(time);
    ptrace::detach(thread, None).expect("it goes on");
}

fn poll_thread(process: u32) -> u32 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let worker = tasks.filter_map(Result::ok).find(|task| {
        // DPDK's names of them, up to 23.11 and after.
        fs::read_to_string(task.path().join("comm"))
            .is_ok_and(|name| name.starts_with("rte-worker") || name.starts_with("dpdk-worker"))
    });
    let number = worker.and_then(|task| task.file_name().to_str()?.parse().ok());
    number.unwrap_or(process)
}
