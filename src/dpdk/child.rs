//! Child processes that get none of DPDK's descriptors.
//!
//! DPDK opens files, sockets and devices without close-on-exec, on threads of its own and at any time:
//! a child would hold the VM's memory, its vhost socket and the NIC for as long as it lives.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use super::dpdk_sys;

/// Starts a child whose only descriptors are its standard ones.
///
/// # Errors
/// When no process can be started.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    // SAFETY: the closure runs in the child between fork and exec, where it makes system calls only: it
    // neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(|| {
            // The standard library's own pipe to the parent has close-on-exec as well, and works till then.
            match dpdk_sys::shim_close_at_exec() {
                0 => Ok(()),
                errno => Err(io::Error::from_raw_os_error(errno)),
            }
        })
    };
    command.spawn()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::process::Stdio;

    use rustix::io::{FdFlags, fcntl_setfd};

    use super::*;

    /// What a child finds open, by the number of the descriptor.
    fn descriptors(spawn: impl FnOnce(&mut Command) -> io::Result<Child>) -> Vec<String> {
        let mut command = Command::new("ls");
        command.arg("/proc/self/fd").stdout(Stdio::piped());
        let child = spawn(&mut command).expect("a child");
        let listed = child.wait_with_output().expect("its end").stdout;
        let listed = String::from_utf8(listed).expect("numbers");
        listed.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_child_gets_its_standard_descriptors_and_no_other() {
        let file = File::open("/dev/null").expect("a file");
        let number = file.as_raw_fd();
        // As DPDK opens them.
        fcntl_setfd(&file, FdFlags::empty()).expect("an open file");
        assert!(descriptors(Command::spawn).contains(&number.to_string()));
        // The last one is the directory that is listed.
        assert_eq!(descriptors(spawn), ["0", "1", "2", "3"]);
    }
}
