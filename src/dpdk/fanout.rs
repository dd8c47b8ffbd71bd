//! Whether the kernel makes datagrams of the fragments that a packet socket of this process should see.
//!
//! `csrc/fanout.c` keeps net_af_packet from asking for it. Where a driver's call does not reach that
//! function, incoming IPv4 fragments would be lost, and only the sockets themselves can show it.

use std::fs;
use std::io;

use super::dpdk_sys;
use super::eal::Eal;

/// Whether some packet socket of the process defragments.
///
/// # Errors
/// The process's own descriptors cannot be listed.
pub fn is_defragmenting(_eal: &Eal) -> io::Result<bool> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(descriptor) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // SAFETY: it only asks; a descriptor that is closed or no packet socket is an answer, too.
        if unsafe { dpdk_sys::shim_is_defragmenting(descriptor) } != 0 {
            return Ok(true);
        }
    }
    Ok(false)
}
