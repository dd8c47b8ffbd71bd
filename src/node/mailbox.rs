//! The rings between a pair's poll core and the control thread: single producer, single consumer,
//! allocated once, no lock.

use rtrb::{Consumer, Producer, RingBuffer};

use crate::dpdk::Mbuf;
use crate::pair;

pub use crate::pair::ToPoll;

/// What a poll core tells the control thread.
pub type ToControl = pair::ToControl<Mbuf>;

/// The poll core's end.
pub struct PollEnd {
    /// What the control thread says.
    pub inbox: Consumer<ToPoll>,
    outbox: Producer<ToControl>,
    /// Messages that found the ring full.
    pub lost: u64,
}

/// The control thread's end.
pub struct ControlEnd {
    /// What the poll core says.
    pub inbox: Consumer<ToControl>,
    /// For the poll core.
    pub outbox: Producer<ToPoll>,
}

/// Two ends.
pub fn pair() -> (PollEnd, ControlEnd) {
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
    /// Sends without waiting; a message that finds no room is counted and gone.
    pub fn post(&mut self, message: ToControl) -> bool {
        let posted = self.outbox.push(message).is_ok();
        self.lost += u64::from(!posted);
        posted
    }

    /// Whether another message fits.
    pub fn has_room(&self) -> bool {
        !self.outbox.is_full()
    }
}
