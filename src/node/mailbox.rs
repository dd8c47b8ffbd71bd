//! The rings between a pair's poll core and the control thread: single producer, single consumer,
//! allocated once, no lock.

use rtrb::{Consumer, Producer, RingBuffer};

use crate::compare::Divergence;
use crate::dpdk::Mbuf;
use crate::flow::FlowKey;
use crate::link::secure::Notice;
use crate::protect::{Action, Monitor, Request};
use crate::rewrite::Offset;

/// What the control thread tells a poll core.
#[derive(Clone, Copy, Debug)]
pub enum ToPoll {
    /// The monitor said something.
    Monitor(Monitor),
    /// A fencing command has ended.
    Fenced {
        /// Its number.
        number: u32,
        /// The peer is certainly down.
        down: bool,
    },
    /// An offset that a node before this one had when it took over.
    Inherit(FlowKey, Offset),
    /// A node before this one led in this place.
    Led {
        /// Takeovers before it did.
        term: u32,
    },
}

/// What a poll core tells the control thread.
pub enum ToControl {
    /// Write this request to the monitor.
    Request(Request),
    /// Write this divergence down, seen in this epoch.
    Record(Divergence<Mbuf>, u32),
    /// Do this about a peer that is lost.
    Act(Action),
    /// Ask the monitor whether the VM runs, unless its ring does: a question's number.
    Ask(u32),
    /// An offset that the node has inherited from itself as the secondary.
    Offset(FlowKey, Offset),
    /// That was all of them.
    OffsetsEnd {
        /// Takeovers before this node led.
        term: u32,
    },
    /// What an operator should hear of the link.
    Link(Notice),
}

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
