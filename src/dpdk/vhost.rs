//! Makes DPDK's vhost library look at its sockets at once.
//!
//! Its thread polls a set of sockets for a second at a time, and a port's listening socket is added to
//! the set without waking it (`lib/vhost/socket.c`, `vhost_user_start_server`; `fd_man.c`,
//! `fdset_event_dispatch`; DPDK 22.11). A QEMU that connects meanwhile waits for the rest of that second, and
//! the network with it. A signal ends the poll, and the thread looks at the set again.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::dpdk_sys;
use super::eal::Eal;

/// The thread may have been about to poll the set that it had.
const TWICE: Duration = Duration::from_millis(1);

/// Wakes the library's thread, if there is one, and returns how many were found. To be called when
/// ports have been started.
///
/// # Errors
/// The process's own threads cannot be listed; then sockets are seen within a second.
pub fn look_at_sockets(_eal: &Eal) -> io::Result<usize> {
    let found = threads()?;
    for &thread in &found {
        for _ in 0..2 {
            // SAFETY: it takes a number and keeps nothing. The handler that it sets does nothing,
            // no other part of the process handles this signal, and a thread that is gone is an error.
            let _gone = unsafe { dpdk_sys::shim_interrupt_poll(thread) };
            thread::sleep(TWICE);
        }
    }
    Ok(found.len())
}

fn threads() -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for task in fs::read_dir("/proc/self/task")? {
        let path = task?.path();
        if is_vhost(&path)
            && let Some(id) = path
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok())
        {
            found.push(id);
        }
    }
    Ok(found)
}

fn is_vhost(task: &Path) -> bool {
    let name = fs::read(task.join("comm")).unwrap_or_default();
    dpdk_sys::SHIM_VHOST_THREAD
        .strip_suffix(b"\0")
        .is_some_and(|start| name.starts_with(start))
}
