//! One port of a pair as the poll core uses it: a receive queue, a transmit queue, and the burst
//! that waits for the transmit queue.

use crate::dpdk::{Burst, Mbuf, RxPoller, RxQueue, TxPoller, TxQueue};

/// A port's queues before a poll core has taken them.
pub struct Queues {
    /// To take frames from.
    pub rx: RxQueue,
    /// To give frames to.
    pub tx: TxQueue,
}

/// A port in use by one poll core.
pub struct Lane {
    rx: RxPoller,
    tx: TxPoller,
    /// Frames to send, in order.
    pub out: Burst,
    /// Frames taken from the port.
    pub received: u64,
    /// Frames that the port took.
    pub sent: u64,
    /// Frames that it did not take and that were given up.
    pub dropped: u64,
}

impl Lane {
    /// Takes the queues for this core.
    pub fn new(queues: Queues) -> Self {
        Self {
            rx: queues.rx.enable(),
            tx: queues.tx.enable(),
            out: Burst::new(),
            received: 0,
            sent: 0,
            dropped: 0,
        }
    }

    /// Takes frames from the port into an empty burst.
    #[inline]
    pub fn receive(&mut self, burst: &mut Burst) -> usize {
        let n = self.rx.rx(burst);
        self.received += n as u64;
        n
    }

    /// Sends what a burst holds; the rest stays in it.
    #[inline]
    pub fn transmit(&mut self, burst: &mut Burst) -> usize {
        if burst.is_empty() {
            return 0;
        }
        let n = self.tx.tx(burst);
        self.sent += n as u64;
        n
    }

    /// Sends what waits; returns how many frames left.
    #[inline]
    pub fn flush(&mut self) -> usize {
        if self.out.is_empty() {
            return 0;
        }
        let n = self.tx.tx(&mut self.out);
        self.sent += n as u64;
        n
    }

    /// Drops what waits and counts it, with `more` frames that would have come behind.
    pub fn give_up(&mut self, more: usize) {
        self.dropped += (self.out.len() + more) as u64;
        self.out.clear();
    }

    /// Frames that still fit behind those that wait.
    #[inline]
    pub fn room(&self) -> usize {
        Burst::CAPACITY - self.out.len()
    }

    /// Puts a frame behind those that wait. The caller has seen [`Lane::room`].
    #[inline]
    pub fn push(&mut self, frame: Mbuf) {
        if self.out.push(frame).is_err() {
            self.dropped += 1;
        }
    }
}
