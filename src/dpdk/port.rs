//! Ports: ethdevs by name, from configuration to close.
//!
//! A [`Port`] is the one owner of its ethdev. [`Port::start`] hands out its queues (`queue.rs`),
//! and while any of them is out the port can neither stop nor close. [`PortMonitor`] reads
//! counters and link state from any thread at any time.

use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::dpdk_sys;
use super::eal::Eal;
use super::errno::Errno;
use super::link_state::LinkWatch;
use super::mempool::Mempool;
use super::offload::Abilities;
use super::port_core::{Core, PortError, State, Step};
use super::queue::{RxQueue, TxQueue};
use crate::plan::Driver;

/// How a port is to be started.
#[derive(Clone, Copy)]
pub struct PortConfig<'a> {
    /// Receive queues, at least 1 and at most what the device has.
    pub rx_queues: u16,
    /// Transmit queues, likewise.
    pub tx_queues: u16,
    /// Descriptors of each receive queue, moved into the device's limits.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue, likewise.
    pub tx_descriptors: u16,
    /// Where received frames are put.
    pub pool: &'a Mempool,
    /// Frames come with what their sender left to do ([`Frame::offload`](crate::Frame::offload)),
    /// and the port does what [`Port::abilities`] says to those that ask
    /// ([`super::Mbuf::request`]). Without it vhost completes partial checksums on reception.
    pub offloads: bool,
    /// The MTU in bytes; `None` for ethdev's default.
    pub mtu: Option<u16>,
    /// Received frames may take several mbufs. Some drivers (vhost, virtio) do so anyhow.
    pub scatter: bool,
}

impl<'a> PortConfig<'a> {
    /// One queue each way with 1024 descriptors.
    pub fn new(pool: &'a Mempool) -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            pool,
            offloads: false,
            mtu: None,
            scatter: false,
        }
    }
}

/// The queues of a started port, each given out once.
pub struct Queues {
    /// By queue number.
    pub rx: Vec<RxQueue>,
    /// By queue number.
    pub tx: Vec<TxQueue>,
}

/// Counters of a port since it was started, as its driver keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames received.
    pub rx_frames: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames that the device dropped because no descriptor was free.
    pub rx_missed: u64,
    /// Frames received in error.
    pub rx_errors: u64,
    /// Times that the pool was empty.
    pub rx_no_mbuf: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
}

/// Ports that a process has room for.
pub const PORTS_MAX: usize = dpdk_sys::RTE_MAX_ETHPORTS as usize;

/// Whether a port has been given out, by id.
static TAKEN: [AtomicBool; PORTS_MAX] = [const { AtomicBool::new(false) }; PORTS_MAX];

/// An ethdev and its only owner. Dropping it closes it, unless it is still being polled or
/// watched; then it stays as it is to the end of the process.
pub struct Port {
    monitor: PortMonitor,
    driver: String,
    mac: [u8; 6],
    sends_chains: bool,
    abilities: Abilities,
    /// Each queue holds a clone.
    queues_out: Arc<()>,
    /// Each link watch holds a clone.
    watches_out: Arc<()>,
}

impl Port {
    /// The names of all ports.
    pub fn names(_eal: &Eal) -> Vec<String> {
        let mut names = Vec::new();
        let mut id = 0;
        loop {
            // SAFETY: EAL is initialised; the owner id 0 asks for ports that no one in DPDK owns.
            let next = unsafe { dpdk_sys::rte_eth_find_next_owned_by(id, 0) };
            let Some(found) = u16::try_from(next)
                .ok()
                .filter(|&id| u32::from(id) < dpdk_sys::RTE_MAX_ETHPORTS)
            else {
                return names;
            };
            let mut name = [0 as c_char; dpdk_sys::RTE_ETH_NAME_MAX_LEN as usize];
            // SAFETY: the buffer has the size that the function asks for.
            if unsafe { dpdk_sys::rte_eth_dev_get_name_by_port(found, name.as_mut_ptr()) } == 0 {
                // SAFETY: on success it holds a terminated string.
                let name = unsafe { CStr::from_ptr(name.as_ptr()) };
                names.push(name.to_string_lossy().into_owned());
            }
            id = found + 1;
        }
    }

    /// Adds a device while EAL runs, described as behind `--vdev`
    /// (`net_virtio_user0,path=/run/vm.sock`), and takes its port. A name serves once in the life
    /// of a process, as the device stays when its port is closed.
    pub fn plug(eal: &Eal, device: &str) -> Result<Self, PortError> {
        let name = device.split(',').next().unwrap_or_default();
        let description = CString::new(device).map_err(|_| PortError::Unknown {
            name: name.to_owned(),
            known: Self::names(eal),
        })?;
        // SAFETY: EAL is initialised; the description is a C string that DPDK copies.
        let ret = unsafe { dpdk_sys::rte_dev_probe(description.as_ptr()) };
        Errno::check(ret).map_err(|errno| PortError::Driver {
            name: name.to_owned(),
            step: Step::Plug,
            errno,
        })?;
        Self::by_name(eal, name)
    }

    /// Takes the port of this name (`net_vhost0`, `0000:03:00.0`), once.
    pub fn by_name(eal: &Eal, name: &str) -> Result<Self, PortError> {
        let unknown = || PortError::Unknown {
            name: name.to_owned(),
            known: Self::names(eal),
        };
        let c_name = CString::new(name).map_err(|_| unknown())?;
        let mut id = 0;
        // SAFETY: EAL is initialised, the name a C string, id a place to write to.
        let ret = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &mut id) };
        if ret < 0 {
            return Err(unknown());
        }
        let core = Core::new(id, name.to_owned(), eal.shared());
        if TAKEN[usize::from(id)].swap(true, Ordering::AcqRel) {
            return Err(PortError::Taken {
                name: name.to_owned(),
            });
        }
        Self::describe(core).inspect_err(|_| TAKEN[usize::from(id)].store(false, Ordering::Release))
    }

    fn describe(core: Core) -> Result<Self, PortError> {
        let info = core.info()?;
        let driver = if info.driver_name.is_null() {
            String::new()
        } else {
            // SAFETY: the driver's name is a string in the driver's memory, which stays loaded.
            unsafe { CStr::from_ptr(info.driver_name) }
                .to_string_lossy()
                .into_owned()
        };
        let mut mac = dpdk_sys::rte_ether_addr { addr_bytes: [0; 6] };
        // SAFETY: EAL is up, mac a place to write to.
        let ret = unsafe { dpdk_sys::rte_eth_macaddr_get(core.id(), &mut mac) };
        core.check(Step::ReadMac, ret)?;
        let gathers = Driver::of(&driver).gathers;
        let sends_chains =
            gathers || info.tx_offload_capa & dpdk_sys::SHIM_ETH_TX_OFFLOAD_MULTI_SEGS != 0;
        let abilities = abilities(&driver, info.tx_offload_capa);
        Ok(Self {
            monitor: PortMonitor(Arc::new(core)),
            driver,
            mac: mac.addr_bytes,
            sends_chains,
            abilities,
            queues_out: Arc::new(()),
            watches_out: Arc::new(()),
        })
    }

    fn core(&self) -> &Arc<Core> {
        &self.monitor.0
    }

    /// What ethdev says of the device.
    pub(super) fn info(&self) -> Result<dpdk_sys::rte_eth_dev_info, PortError> {
        self.core().info()
    }

    /// Name, counters and link state, for any thread.
    pub fn monitor(&self) -> &PortMonitor {
        &self.monitor
    }

    /// The name it was taken by.
    pub fn name(&self) -> &str {
        self.monitor.name()
    }

    /// The driver, such as `net_vhost` or `net_virtio_user`.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// The device's own MAC address; net_vhost and net_null invent one.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Whether frames of several segments can be sent. Where not (net_af_xdp), the driver would
    /// send the first segment alone.
    pub fn sends_chains(&self) -> bool {
        self.sends_chains
    }

    /// What the port does to frames by itself when started with [`PortConfig::offloads`].
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Configures the port and starts it. Offloads are off but for chains and for those of
    /// [`PortConfig::offloads`]. (`MBUF_FAST_FREE` in particular would free shared mbufs.)
    ///
    /// A vhost port listens from here on.
    pub fn start(&mut self, config: &PortConfig<'_>) -> Result<Queues, PortError> {
        let core = self.core();
        let mut state = core.lock();
        if *state != State::Stopped {
            return Err(core.wrong_state(Step::Start));
        }
        let info = core.info()?;
        if !(1..=info.max_rx_queues).contains(&config.rx_queues)
            || !(1..=info.max_tx_queues).contains(&config.tx_queues)
        {
            return Err(PortError::TooManyQueues {
                name: core.name().to_owned(),
                rx: info.max_rx_queues,
                tx: info.max_tx_queues,
            });
        }

        // SAFETY: plain data, for which all zeroes mean "the default".
        let mut conf: dpdk_sys::rte_eth_conf = unsafe { MaybeUninit::zeroed().assume_init() };
        let (mut receive, transmit) = match config.offloads {
            true => offloads(&self.driver, self.abilities),
            false => (0, 0),
        };
        if config.scatter {
            receive |= dpdk_sys::SHIM_ETH_RX_OFFLOAD_SCATTER;
        }
        conf.rxmode.mtu = config.mtu.map_or(0, u32::from);
        conf.rxmode.offloads = info.rx_offload_capa & receive;
        conf.txmode.offloads =
            info.tx_offload_capa & (dpdk_sys::SHIM_ETH_TX_OFFLOAD_MULTI_SEGS | transmit);
        let (rx_queues, tx_queues) = (config.rx_queues, config.tx_queues);
        let (mut rx_descriptors, mut tx_descriptors) =
            (config.rx_descriptors, config.tx_descriptors);
        let id = core.id();
        // SAFETY: EAL is up, the port stopped, so no queue of it is out; conf outlives the call.
        let ret = unsafe { dpdk_sys::rte_eth_dev_configure(id, rx_queues, tx_queues, &conf) };
        core.check(Step::Configure, ret)?;
        if let Some(mtu) = config.mtu
            && Driver::of(&self.driver).late_mtu
        {
            // It hears of the MTU by this call alone, and passes it on to its interface.
            // SAFETY: as above.
            core.check(Step::SetMtu, unsafe {
                dpdk_sys::rte_eth_dev_set_mtu(id, mtu)
            })?;
        }
        // SAFETY: as above; both are places to read and write.
        let ret = unsafe {
            dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut rx_descriptors, &mut tx_descriptors)
        };
        core.check(Step::Configure, ret)?;
        // SAFETY: reads a number of a valid port.
        let socket = unsafe { dpdk_sys::rte_eth_dev_socket_id(id) } as u32;
        for queue in 0..rx_queues {
            // SAFETY: the port is configured with that many queues; a null configuration means
            // the driver's default; the pool lives as long as EAL.
            let ret = unsafe {
                dpdk_sys::rte_eth_rx_queue_setup(
                    id,
                    queue,
                    rx_descriptors,
                    socket,
                    std::ptr::null(),
                    config.pool.as_ptr(),
                )
            };
            core.check(Step::SetUpRxQueue, ret)?;
        }
        for queue in 0..tx_queues {
            // SAFETY: as for the receive queues.
            let ret = unsafe {
                dpdk_sys::rte_eth_tx_queue_setup(
                    id,
                    queue,
                    tx_descriptors,
                    socket,
                    std::ptr::null(),
                )
            };
            core.check(Step::SetUpTxQueue, ret)?;
        }
        // SAFETY: the port is configured and has its queues.
        core.check(Step::Start, unsafe { dpdk_sys::rte_eth_dev_start(id) })?;
        *state = State::Started;

        let out = &self.queues_out;
        Ok(Queues {
            rx: (0..rx_queues)
                .map(|q| RxQueue::new(core.clone(), out.clone(), q))
                .collect(),
            tx: (0..tx_queues)
                .map(|q| TxQueue::new(core.clone(), out.clone(), q))
                .collect(),
        })
    }

    /// Receives all frames, whatever their destination. `false` where the driver has no promiscuous mode;
    /// most virtual devices receive all frames without it.
    pub fn receive_all(&mut self) -> bool {
        let core = self.core();
        let state = core.lock();
        if *state == State::Closed {
            return false;
        }
        // SAFETY: EAL is up and the port open.
        let promiscuous = unsafe { dpdk_sys::rte_eth_promiscuous_enable(core.id()) } == 0;
        // SAFETY: as above.
        let multicast = unsafe { dpdk_sys::rte_eth_allmulticast_enable(core.id()) } == 0;
        promiscuous && multicast
    }

    /// The MTU in bytes; a vhost port learns it from its guest.
    pub fn mtu(&self) -> Result<u16, PortError> {
        let core = self.core();
        let _state = core.lock();
        let mut mtu = 0;
        // SAFETY: EAL is up, mtu a place to write to; a closed port is an error.
        let ret = unsafe { dpdk_sys::rte_eth_dev_get_mtu(core.id(), &mut mtu) };
        core.check(Step::ReadInfo, ret)?;
        Ok(mtu)
    }

    /// Calls `f` with the new state at each change of the link, until the watch is dropped. See
    /// [`super::link_state`] for what that means at a vhost port, and for what `f` must not do.
    pub fn watch_link(
        &self,
        f: impl Fn(bool) + Send + Sync + 'static,
    ) -> Result<LinkWatch, PortError> {
        let core = self.core();
        let state = core.lock();
        if *state == State::Closed {
            return Err(core.wrong_state(Step::WatchLink));
        }
        LinkWatch::new(core.clone(), self.watches_out.clone(), Box::new(f))
    }

    /// Stops the port; it can be started again. Refused while any queue is out.
    pub fn stop(&mut self) -> Result<(), PortError> {
        let idle = Arc::get_mut(&mut self.queues_out).is_some();
        let core = self.core();
        let mut state = core.lock();
        match *state {
            State::Started if idle => {
                // SAFETY: EAL is up and no queue is out, so no one polls.
                core.check(Step::Stop, unsafe { dpdk_sys::rte_eth_dev_stop(core.id()) })?;
                *state = State::Stopped;
                Ok(())
            }
            State::Started => Err(core.busy()),
            State::Stopped => Ok(()),
            State::Closed => Err(core.wrong_state(Step::Stop)),
        }
    }

    /// Stops and closes the port. Refused while any queue or link watch is out; then the port
    /// is returned. A vhost port's socket disappears.
    pub fn close(mut self) -> Result<(), (Self, PortError)> {
        self.shut().map_err(|error| (self, error))
    }

    fn shut(&mut self) -> Result<(), PortError> {
        self.stop()?;
        if Arc::get_mut(&mut self.watches_out).is_none() {
            return Err(self.core().busy());
        }
        let core = self.core();
        let mut state = core.lock();
        // SAFETY: EAL is up, the port stopped, and neither a queue nor a watch out.
        core.check(Step::Close, unsafe {
            dpdk_sys::rte_eth_dev_close(core.id())
        })?;
        *state = State::Closed;
        TAKEN[usize::from(core.id())].store(false, Ordering::Release);
        Ok(())
    }
}

/// What a driver with these transmit capabilities does by itself.
fn abilities(driver: &str, capabilities: u64) -> Abilities {
    let driver = Driver::of(driver);
    let has = |offload: u64| capabilities & offload == offload;
    let checksums = !driver.software_offloads && has(dpdk_sys::SHIM_ETH_TX_OFFLOAD_L4_CKSUM);
    let segments = dpdk_sys::SHIM_ETH_TX_OFFLOAD_TCP_TSO;
    let segmentation = match driver.whole_segments {
        true => has(segments),
        false => has(segments | dpdk_sys::SHIM_ETH_TX_OFFLOAD_IPV4_CKSUM),
    };
    Abilities {
        checksums,
        segmentation: checksums && segmentation,
    }
}

/// Receive and transmit offloads to configure. Only virtio's peers send partial checksums; a NIC's
/// verdict on checksums is of no use here.
fn offloads(driver: &str, abilities: Abilities) -> (u64, u64) {
    let receive = match Driver::of(driver).partial_checksums {
        true => dpdk_sys::SHIM_ETH_RX_OFFLOAD_L4_CKSUM,
        false => 0,
    };
    let mut transmit = 0;
    if abilities.checksums {
        transmit |= dpdk_sys::SHIM_ETH_TX_OFFLOAD_L4_CKSUM;
    }
    if abilities.segmentation {
        transmit |=
            dpdk_sys::SHIM_ETH_TX_OFFLOAD_TCP_TSO | dpdk_sys::SHIM_ETH_TX_OFFLOAD_IPV4_CKSUM;
    }
    (receive, transmit)
}

impl Drop for Port {
    fn drop(&mut self) {
        let closed = *self.core().lock() == State::Closed;
        if !closed {
            // A port in use stays open and taken, which is safe; nobody could act on an error.
            let _ = self.shut();
        }
    }
}

/// Reads a port's counters and link state, from any thread and also after the port is closed.
#[derive(Clone)]
pub struct PortMonitor(Arc<Core>);

impl PortMonitor {
    /// The port's name.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The driver's counters.
    pub fn stats(&self) -> Result<PortStats, PortError> {
        let state = self.0.lock();
        if *state == State::Closed {
            return Err(self.0.wrong_state(Step::ReadStats));
        }
        // SAFETY: plain data, for which zeroes are a valid value.
        let mut raw: dpdk_sys::rte_eth_stats = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: EAL is up and the port open, as the lock keeps it.
        let ret = unsafe { dpdk_sys::rte_eth_stats_get(self.0.id(), &mut raw) };
        self.0.check(Step::ReadStats, ret)?;
        Ok(PortStats {
            rx_frames: raw.ipackets,
            rx_bytes: raw.ibytes,
            tx_frames: raw.opackets,
            tx_bytes: raw.obytes,
            rx_missed: raw.imissed,
            rx_errors: raw.ierrors,
            rx_no_mbuf: raw.rx_nombuf,
            tx_errors: raw.oerrors,
        })
    }

    /// Whether the link is up; at a vhost port, whether a guest's driver is at work.
    pub fn link_is_up(&self) -> bool {
        let state = self.0.lock();
        // SAFETY: EAL is up and the port open, as the lock keeps it.
        *state != State::Closed && unsafe { dpdk_sys::shim_eth_link_up(self.0.id()) } > 0
    }
}
