//! What a port's device is, before it is configured.

use std::ffi::{CStr, c_char};

use super::dpdk_sys;
use super::port::Port;
use super::port_core::PortError;
use crate::plan::{Device, Interface};

/// Bytes of an Ethernet header and checksum, which ethdev adds to an MTU where a driver says
/// nothing else (`eth_dev_get_overhead_len`).
const OVERHEAD: u32 = 18;

impl Port {
    /// The facts that decide what frames the port carries.
    pub fn device(&self) -> Result<Device, PortError> {
        let info = self.info()?;
        let max_mtu = u32::from(info.max_mtu);
        let overhead = match info.max_rx_pktlen.checked_sub(max_mtu) {
            Some(overhead) if info.max_mtu != u16::MAX => overhead,
            _ => OVERHEAD,
        };
        let most = max_mtu.min(info.max_rx_pktlen.saturating_sub(overhead));
        // SAFETY: the device belongs to a port that is open; null is allowed.
        let arguments = unsafe { dpdk_sys::shim_device_arguments(info.device) };
        Ok(Device {
            driver: self.driver().to_owned(),
            arguments: text(arguments),
            queues: info.max_rx_queues,
            mtu: self.mtu()?,
            max_mtu: u16::try_from(most).unwrap_or(u16::MAX),
            overhead: u16::try_from(overhead).unwrap_or(u16::MAX),
            scatters: info.rx_offload_capa & dpdk_sys::SHIM_ETH_RX_OFFLOAD_SCATTER != 0,
            interface: interface(info.if_index),
        })
    }
}

/// The kernel's interface of this index in the process's network namespace.
fn interface(index: u32) -> Option<Interface> {
    if index == 0 {
        return None;
    }
    let mut name = [0 as c_char; dpdk_sys::SHIM_IF_NAMESIZE as usize];
    // SAFETY: the buffer has the size that the function asks for.
    let mtu = unsafe { dpdk_sys::shim_interface(index, name.as_mut_ptr()) };
    Some(Interface {
        mtu: u32::try_from(mtu).ok()?,
        name: text(name.as_ptr()),
    })
}

fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: not null, so a string with its end: DPDK's for as long as the device lives, or the
    // caller's buffer that has been filled.
    unsafe { CStr::from_ptr(string) }
        .to_string_lossy()
        .into_owned()
}
