//! A port that several pairs of one poll core share (docs/many-pairs.md).
//!
//! It hands each received frame to its pairs, as a reference in their inboxes. All is in one thread: no lock is taken,
//! and no borrow outlives a call.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::dpdk::{Burst, Mbuf, RxPoller, RxQueue, TxPoller, TxQueue};
use crate::frame::Frame;
use crate::link;
use crate::switch::{LinkSwitch, Members, Standing, UplinkSwitch};

/// Mbufs that may wait for a pair at a shared link: the peer sends a window's frames ahead at most.
const LINK_INBOX: u32 = 3072;
/// Mbufs that may wait for a pair at a shared uplink, as in a NIC's ring.
const UPLINK_INBOX: u32 = 1024;
/// Bursts that are received in a round at most.
const BURSTS: usize = 16;

/// Which pairs get a frame.
pub(crate) enum Switch {
    /// At a link.
    Link(LinkSwitch),
    /// At an uplink.
    Uplink(Box<UplinkSwitch>),
}

/// A shared port before its poll core has taken it.
pub(crate) struct SharedQueues {
    /// Its number among the shared ports of the process.
    pub number: usize,
    /// The receive queue.
    pub rx: RxQueue,
    /// The transmit queue.
    pub tx: TxQueue,
    /// Which pairs get a frame.
    pub switch: Switch,
    /// For each pair at the port.
    pub bounds: Vec<Bounds>,
}

/// What may wait in the inboxes of a port, in mbufs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// For the pair.
    inbox: usize,
    /// Of its guest for others. A VM that takes nothing leaves room for what is for others.
    crossing: usize,
}

impl Bounds {
    /// For a pair that has `received` mbufs of the port's pool, and whose guest has `sent`. Where memory is short, they
    /// bound it further.
    pub(crate) fn new(link: bool, received: u32, sent: u32) -> Self {
        let inbox = if link { LINK_INBOX } else { UPLINK_INBOX };
        Self {
            inbox: inbox.min(received / 2) as usize,
            crossing: (2 * UPLINK_INBOX).min(sent / 4) as usize,
        }
    }
}

/// A frame that waits for a pair.
struct Waiting {
    frame: Mbuf,
    /// Its mbufs.
    buffers: u32,
    /// The pair of the guest that sent it, if it comes from one of this port.
    from: Option<u8>,
}

/// What waits for one pair.
struct Inbox {
    frames: VecDeque<Waiting>,
    /// Mbufs in `frames`.
    buffers: usize,
    most: usize,
    /// Frames without room, until the pair has counted them.
    dropped: u64,
}

impl Inbox {
    fn new(most: usize) -> Self {
        Self {
            // A frame has one mbuf at least.
            frames: VecDeque::with_capacity(most),
            buffers: 0,
            most,
            dropped: 0,
        }
    }

    /// Takes in a frame, or drops and counts it.
    #[inline]
    fn put(&mut self, frame: Mbuf, buffers: usize, from: Option<u8>) -> bool {
        if self.buffers + buffers > self.most {
            self.dropped += 1;
            return false;
        }
        self.buffers += buffers;
        self.frames.push_back(Waiting {
            frame,
            buffers: buffers as u32,
            from,
        });
        true
    }

    #[inline]
    fn next(&mut self) -> Option<Waiting> {
        let next = self.frames.pop_front()?;
        self.buffers -= next.buffers as usize;
        Some(next)
    }
}

/// A shared port in use by one poll core.
pub(crate) struct SharedPort {
    rx: RefCell<RxPoller>,
    tx: RefCell<TxPoller>,
    raw: RefCell<Burst>,
    switch: RefCell<Switch>,
    inboxes: Box<[RefCell<Inbox>]>,
    /// Mbufs that each pair's guest may still have in the inboxes of others.
    crossing: Box<[Cell<usize>]>,
    /// Frames that were for no pair.
    strays: Cell<u64>,
}

impl SharedPort {
    /// Takes the queues for this core. All memory is allocated here.
    pub(crate) fn new(queues: SharedQueues) -> Self {
        let bounds = || queues.bounds.iter();
        Self {
            inboxes: bounds()
                .map(|bounds| RefCell::new(Inbox::new(bounds.inbox)))
                .collect(),
            crossing: bounds().map(|bounds| Cell::new(bounds.crossing)).collect(),
            rx: RefCell::new(queues.rx.enable()),
            tx: RefCell::new(queues.tx.enable()),
            raw: RefCell::new(Burst::new()),
            switch: RefCell::new(queues.switch),
            strays: Cell::new(0),
        }
    }

    /// Takes what the port has, a burst for each pair at most, and hands it out. Returns whether there was anything.
    pub(crate) fn receive(&self) -> bool {
        let (mut rx, mut raw) = (self.rx.borrow_mut(), self.raw.borrow_mut());
        let mut switch = self.switch.borrow_mut();
        let mut any = false;
        for _ in 0..self.inboxes.len().min(BURSTS) {
            let n = rx.rx(&mut raw);
            any |= n > 0;
            for frame in raw.drain() {
                let to = match &mut *switch {
                    Switch::Link(switch) => link::addressee(frame.head())
                        .and_then(|vm| switch.member(vm))
                        .map_or(Members::NONE, Members::one),
                    Switch::Uplink(switch) => switch.from_network(frame.head()),
                };
                self.hand_out(frame, to);
            }
            if n < Burst::CAPACITY {
                break;
            }
        }
        any
    }

    fn hand_out(&self, frame: Mbuf, mut to: Members) {
        let Some(first) = to.next() else {
            self.strays.set(self.strays.get() + 1);
            return;
        };
        let buffers = frame.buffers();
        for other in to {
            let mut inbox = self.inboxes[other].borrow_mut();
            inbox.put(frame.share(), buffers, None);
        }
        let mut inbox = self.inboxes[first].borrow_mut();
        inbox.put(frame, buffers, None);
    }
}

/// The shared ports of a poll core, by their numbers in the process.
#[derive(Default)]
pub(crate) struct SharedPorts(Vec<(usize, Rc<SharedPort>)>);

impl SharedPorts {
    /// Takes the ports for this core.
    pub(crate) fn new(queues: Vec<SharedQueues>) -> Self {
        let numbered = |queues: SharedQueues| (queues.number, Rc::new(SharedPort::new(queues)));
        Self(queues.into_iter().map(numbered).collect())
    }

    /// Takes what the ports have, and hands it out. Returns whether there was anything.
    #[inline]
    pub(crate) fn receive(&self) -> bool {
        let mut any = false;
        for (_, port) in &self.0 {
            any |= port.receive();
        }
        any
    }

    fn of(&self, number: usize) -> Rc<SharedPort> {
        let found = self.0.iter().find(|(own, _)| *own == number);
        let (_, port) = found.expect("a pair runs on the core of its ports");
        Rc::clone(port)
    }
}

/// A pair's end of a shared port.
#[derive(Clone)]
pub(crate) struct MemberEnd {
    port: Rc<SharedPort>,
    member: usize,
}

impl MemberEnd {
    /// Takes what waits for the pair, `most` frames at most. Returns their number.
    #[inline]
    fn take(&mut self, burst: &mut Burst, most: usize) -> usize {
        let mut inbox = self.port.inboxes[self.member].borrow_mut();
        let mut taken = 0;
        while taken < most
            && !burst.is_full()
            && let Some(next) = inbox.next()
        {
            self.port.left(&next);
            let _ = burst.push(next.frame);
            taken += 1;
        }
        taken
    }

    /// Shares a frame that the pair has released with the other pairs that get it. Returns whether it leaves for the
    /// network, too.
    fn cross(&self, frame: &Mbuf) -> bool {
        let crossing = match &mut *self.port.switch.borrow_mut() {
            Switch::Link(_) => return true,
            Switch::Uplink(switch) => switch.from_vm(self.member, frame.head()),
        };
        for other in crossing.local {
            self.share_with(other, frame);
        }
        crossing.network
    }

    fn share_with(&self, other: usize, frame: &Mbuf) {
        let (left, buffers) = (&self.port.crossing[self.member], frame.buffers());
        let mut inbox = self.port.inboxes[other].borrow_mut();
        if left.get() < buffers {
            inbox.dropped += 1;
        } else if inbox.put(frame.share(), buffers, Some(self.member as u8)) {
            left.set(left.get() - buffers);
        }
    }

    /// Says what the pair's node is. What waits for one that another VM has replaced is dropped.
    #[inline]
    fn set_standing(&self, standing: Standing) {
        if let Switch::Uplink(switch) = &mut *self.port.switch.borrow_mut() {
            switch.set_standing(self.member, standing);
        }
        if standing == Standing::Silent {
            let mut inbox = self.port.inboxes[self.member].borrow_mut();
            while let Some(next) = inbox.next() {
                self.port.left(&next);
                inbox.dropped += 1;
            }
        }
    }

    /// Frames that had no room since the last call; those for no pair count with the first one.
    fn take_dropped(&self) -> (u64, u64) {
        let dropped = std::mem::take(&mut self.port.inboxes[self.member].borrow_mut().dropped);
        match self.member {
            0 => (dropped, self.port.strays.take()),
            _ => (dropped, 0),
        }
    }
}

impl SharedPort {
    /// A frame has left an inbox.
    #[inline]
    fn left(&self, waiting: &Waiting) {
        if let Some(from) = waiting.from {
            let crossing = &self.crossing[usize::from(from)];
            crossing.set(crossing.get() + waiting.buffers as usize);
        }
    }
}

/// A pair's way to and from a port, before its poll core has taken it.
pub(crate) enum Way {
    /// The pair has the port for itself.
    Own {
        /// The receive queue.
        rx: RxQueue,
        /// The transmit queue.
        tx: TxQueue,
    },
    /// It shares the port.
    Shared {
        /// The port's number in the process.
        port: usize,
        /// The pair's number at the port.
        member: usize,
    },
}

impl Way {
    /// Takes both ends for this core.
    pub(crate) fn enable(self, shared: &SharedPorts) -> (RxEnd, TxEnd) {
        match self {
            Self::Own { rx, tx } => (RxEnd::Own(rx.enable()), TxEnd::Own(tx.enable())),
            Self::Shared { port, member } => {
                let port = shared.of(port);
                let end = MemberEnd { port, member };
                (RxEnd::Shared(end.clone()), TxEnd::Shared(end))
            }
        }
    }
}

/// Where a pair's frames come from.
pub(crate) enum RxEnd {
    /// The port's queue.
    Own(RxPoller),
    /// The pair's inbox.
    Shared(MemberEnd),
}

impl RxEnd {
    /// Appends received frames, at most `most`. Returns their number.
    #[inline]
    pub(crate) fn rx_most(&mut self, burst: &mut Burst, most: usize) -> usize {
        match self {
            Self::Own(rx) => rx.rx_most(burst, most),
            Self::Shared(end) => end.take(burst, most),
        }
    }

    /// Appends received frames. Returns their number.
    #[inline]
    pub(crate) fn rx(&mut self, burst: &mut Burst) -> usize {
        self.rx_most(burst, Burst::CAPACITY)
    }
}

/// Where a pair's frames go.
pub(crate) enum TxEnd {
    /// The port's queue.
    Own(TxPoller),
    /// The same, and other pairs.
    Shared(MemberEnd),
}

impl TxEnd {
    /// See [`TxPoller::tx`].
    #[inline]
    pub(crate) fn tx(&mut self, burst: &mut Burst) -> usize {
        match self {
            Self::Own(tx) => tx.tx(burst),
            Self::Shared(end) => end.port.tx.borrow_mut().tx(burst),
        }
    }

    /// See [`TxPoller::prepare`].
    #[inline]
    pub(crate) fn prepare(&mut self, frame: &mut Mbuf) -> bool {
        match self {
            Self::Own(tx) => tx.prepare(frame),
            Self::Shared(end) => end.port.tx.borrow_mut().prepare(frame),
        }
    }

    /// Shares a released frame with other pairs of the port, if they get it. Returns whether it leaves for the network.
    #[inline]
    pub(crate) fn cross(&self, frame: &Mbuf) -> bool {
        match self {
            Self::Own(_) => true,
            Self::Shared(end) => end.cross(frame),
        }
    }

    /// At a shared port: what the pair's node is now.
    #[inline]
    pub(crate) fn set_standing(&self, standing: impl FnOnce() -> Standing) {
        if let Self::Shared(end) = self {
            end.set_standing(standing());
        }
    }

    /// At a shared port, since the last call: frames that the pair had no room for, and those for no pair at all, which
    /// the first pair counts.
    pub(crate) fn take_dropped(&self) -> (u64, u64) {
        match self {
            Self::Own(_) => (0, 0),
            Self::Shared(end) => end.take_dropped(),
        }
    }
}
