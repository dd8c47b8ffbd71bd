//! Queues of a port, and the pollers they become.
//!
//! [`RxQueue`] and [`TxQueue`] can be sent to another thread but not polled; enabling one uses it
//! up and yields a poller that stays on its thread. So a queue is polled by one thread at a time,
//! by construction. As long as queue or poller is there its port cannot stop.

use std::marker::PhantomData;
use std::sync::Arc;

use super::burst::Burst;
use super::dpdk_sys;
use super::mbuf::Mbuf;
use super::port_core::Core;

/// What queue and poller have in common.
struct Queue {
    port: u16,
    queue: u16,
    _core: Arc<Core>,
    _out: Arc<()>,
}

/// A receive queue on its way to the thread that will poll it.
pub struct RxQueue(Queue);

/// A transmit queue on its way to the thread that will use it.
pub struct TxQueue(Queue);

/// A receive queue in use by this thread.
pub struct RxPoller(Queue, PhantomData<*const ()>);

/// A transmit queue in use by this thread.
pub struct TxPoller(Queue, PhantomData<*const ()>);

impl RxQueue {
    pub(super) fn new(core: Arc<Core>, out: Arc<()>, queue: u16) -> Self {
        Self(Queue {
            port: core.id(),
            queue,
            _core: core,
            _out: out,
        })
    }

    /// Binds the queue to this thread.
    pub fn enable(self) -> RxPoller {
        RxPoller(self.0, PhantomData)
    }
}

impl TxQueue {
    pub(super) fn new(core: Arc<Core>, out: Arc<()>, queue: u16) -> Self {
        Self(Queue {
            port: core.id(),
            queue,
            _core: core,
            _out: out,
        })
    }

    /// Binds the queue to this thread.
    pub fn enable(self) -> TxPoller {
        TxPoller(self.0, PhantomData)
    }
}

impl RxPoller {
    /// Appends received frames to the burst, as many as there are and fit. Returns their number.
    ///
    /// 0 does not mean that the queue is empty: a vhost port also answers so while its control
    /// thread holds the ring.
    #[inline]
    pub fn rx(&mut self, burst: &mut Burst) -> usize {
        self.rx_most(burst, Burst::CAPACITY)
    }

    /// The same, and at most `most` frames.
    #[inline]
    pub fn rx_most(&mut self, burst: &mut Burst, most: usize) -> usize {
        burst.fill(|slots, room| {
            let room = usize::from(room).min(most) as u16;
            // SAFETY: the port is started while this poller holds its token, and no other thread
            // polls the queue. The driver fills at most `room` slots with chains and hands over
            // their references.
            unsafe { dpdk_sys::shim_eth_rx_burst(self.0.port, self.0.queue, slots, room) }
        })
    }

    /// Gives the queue up, for another thread.
    pub fn disable(self) -> RxQueue {
        RxQueue(self.0)
    }
}

impl TxPoller {
    /// Sends the burst's leading frames, as many as the port takes; the rest stays, in order.
    /// Returns the number that left.
    ///
    /// A detached vhost port takes none. A frame that can never be taken (one larger than a
    /// guest's buffers where these cannot be merged) blocks those behind it.
    #[inline]
    pub fn tx(&mut self, burst: &mut Burst) -> usize {
        burst.take(|frames, n| {
            // SAFETY: as in rx. The driver becomes the owner of the leading frames, whose number
            // it returns, and only reads those that are shared; it touches no array slot, as no
            // frame here asks for a VLAN tag to be inserted.
            unsafe { dpdk_sys::shim_eth_tx_burst(self.0.port, self.0.queue, frames, n) }
        })
    }

    /// Readies a frame for what it asks of the port ([`Mbuf::request`]); `false` where the driver
    /// cannot do that to this frame. The driver may write its checksum fields, so a shared frame is
    /// none that asks.
    #[inline]
    pub fn prepare(&mut self, frame: &mut Mbuf) -> bool {
        let mut raw = frame.as_raw().as_ptr();
        // SAFETY: as in tx. The driver reads the frame and writes checksum fields in its headers;
        // `request` set flags only where the caller was the first segment's one owner. It puts
        // another mbuf into its place only to insert a VLAN tag, which no frame here asks for.
        unsafe { dpdk_sys::shim_eth_tx_prepare(self.0.port, self.0.queue, &mut raw, 1) == 1 }
    }

    /// Gives the queue up, for another thread.
    pub fn disable(self) -> TxQueue {
        TxQueue(self.0)
    }
}
