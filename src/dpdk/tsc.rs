//! The clock of the poll cores: the time stamp counter.
//!
//! It is constant-rate and synchronous over the cores of one machine on every CPU that DPDK
//! supports; EAL measures its rate at start.

use super::Eal;
use super::dpdk_sys;
use crate::Ticks;

/// The counter now. Some 20 cycles, no system call.
#[inline]
pub fn now() -> Ticks {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: RDTSC exists on every x86-64 CPU and touches no memory.
    return unsafe { core::arch::x86_64::_rdtsc() };
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: reads the CPU's cycle counter and touches no memory.
    return unsafe { dpdk_sys::shim_tsc() };
}

/// Ticks per second.
pub fn hz(_eal: &Eal) -> u64 {
    // SAFETY: EAL is initialised, as the argument proves; that is when it sets the rate.
    unsafe { dpdk_sys::rte_get_tsc_hz() }
}
