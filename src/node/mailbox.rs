//! The rings between a pair's poll core and the control thread: single producer, single consumer,
//! allocated once, no lock.

use rtrb::{Consumer, Producer, RingBuffer};

use crate::dpdk::Mbuf;
use crate::pair;

pub(crate) use crate::pair::ToPoll;

/// A message of a poll core to the control thread.
pub(crate) type ToControl = pair::ToControl<Mbuf>;

/// The poll core's end.
pub(crate) struct PollEnd {
    /// Messages of the control thread.
    pub inbox: Consumer<ToPoll>,
    outbox: Producer<ToControl>,
    /// Messages that were dropped because the ring was full.
    pub lost: u64,
}

/// The control thread's end.
pub(crate) struct ControlEnd {
    /// Messages of the poll core.
    pub inbox: Consumer<ToControl>,
    /// For the poll core.
    pub outbox: Producer<ToPoll>,
}

/// Two ends.
pub(crate) fn pair() -> (PollEnd, ControlEnd) {
    let (to_poll, from_control) = RingBuffer::new(256);
    let (to_control, from_poll) = RingBuffer::new(64);
    (
        PollEnd {
            inbox: from_control,
            outbox: to_control,
            lost: 0,
        },
        ControlEnd {
            inbox: from_poll,
            outbox: to_poll,
        },
    )
}

impl PollEnd {
    /// Sends without waiting. If the ring is full, the message is counted and dropped.
    pub(crate) fn post(&mut self, message: ToControl) -> bool {
        let posted = self.outbox.push(message).is_ok();
        self.lost += u64::from(!posted);
        posted
    }

    /// Whether another message fits.
    pub(crate) fn has_room(&self) -> bool {
        !self.outbox.is_full()
    }
}
