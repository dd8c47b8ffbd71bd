//! The error number that a DPDK function returned or left in `rte_errno`.

use std::fmt;
use std::io;

use super::dpdk_sys;

/// A positive error number as of errno(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(i32);

impl Errno {
    /// From a return value: DPDK's control functions return 0 or more, or a negative errno.
    pub(super) fn check(ret: i32) -> Result<i32, Errno> {
        if ret < 0 { Err(Errno(-ret)) } else { Ok(ret) }
    }

    /// `rte_errno` of this thread.
    pub(super) fn last() -> Self {
        // SAFETY: reads a thread-local variable, which every thread has, EAL thread or not.
        Errno(unsafe { dpdk_sys::shim_errno() })
    }

    /// The number itself, as in errno(3).
    pub fn raw(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}
