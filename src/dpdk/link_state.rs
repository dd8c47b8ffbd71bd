//! Link up and down as callbacks.
//!
//! At a vhost port the link is the guest's virtio driver. It goes up when QEMU has started the
//! device's rings, and down when QEMU stops the VM, resets the device or goes away: the driver
//! raises "down" while it handles `VHOST_USER_GET_VRING_BASE`, when it has waited for the ring's
//! polls to end and before it answers (`destroy_device` in `rte_eth_vhost.c`). So a callback that
//! does not return holds the VM's stop back, which is what [`super::fence`] builds on.
//!
//! Callbacks of all vhost ports run on one thread, "vhost-events"; those of other drivers on
//! EAL's interrupt thread. A callback must not wait for anything that waits for that thread: not
//! close a port, and not drop its own watch.

use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::dpdk_sys;
use super::errno::Errno;
use super::port_core::{Core, PortError, Step};

type Callback = Box<dyn Fn(bool) + Send + Sync>;

/// A registered callback. Dropping it waits for a call that is under way; none comes afterwards.
pub struct LinkWatch {
    core: Arc<Core>,
    /// Made from a Box; DPDK keeps the pointer until it is unregistered.
    callback: *mut Callback,
    /// Keeps the port from being closed before the callback is unregistered.
    _out: Arc<()>,
}

// SAFETY: the callback is Send and Sync, and a watch does nothing but unregister it, which DPDK
// allows on any thread.
unsafe impl Send for LinkWatch {}

impl LinkWatch {
    pub(super) fn new(
        core: Arc<Core>,
        out: Arc<()>,
        callback: Callback,
    ) -> Result<Self, PortError> {
        let id = core.id();
        let watch = Self {
            core,
            callback: Box::into_raw(Box::new(callback)),
            _out: out,
        };
        // SAFETY: the port is open; `on_event` takes what `callback` points at, which lives until
        // it is unregistered.
        let ret = unsafe {
            dpdk_sys::rte_eth_dev_callback_register(
                id,
                dpdk_sys::RTE_ETH_EVENT_INTR_LSC,
                Some(on_event),
                watch.callback.cast(),
            )
        };
        Errno::check(ret).map_err(|errno| watch.core.refused(Step::WatchLink, errno))?;
        Ok(watch)
    }
}

unsafe extern "C" fn on_event(
    port: u16,
    _event: dpdk_sys::rte_eth_event_type,
    callback: *mut c_void,
    _result: *mut c_void,
) -> c_int {
    // SAFETY: DPDK passes on what was registered, a Callback that lives until unregistered, and
    // unregistering waits for calls under way.
    let callback = unsafe { &*callback.cast::<Callback>() };
    // SAFETY: the port is open while it raises events.
    callback(unsafe { dpdk_sys::shim_eth_link_up(port) } > 0);
    0
}

impl Drop for LinkWatch {
    fn drop(&mut self) {
        loop {
            // SAFETY: the port is open, as it cannot be closed while this watch is there.
            let ret = unsafe {
                dpdk_sys::rte_eth_dev_callback_unregister(
                    self.core.id(),
                    dpdk_sys::RTE_ETH_EVENT_INTR_LSC,
                    Some(on_event),
                    self.callback.cast(),
                )
            };
            if ret != -EAGAIN {
                break;
            }
            // The callback is running.
            thread::sleep(Duration::from_micros(100));
        }
        // SAFETY: made by Box::into_raw; unregistered, so DPDK has no use of it any more.
        drop(unsafe { Box::from_raw(self.callback) });
    }
}

const EAGAIN: i32 = 11;
