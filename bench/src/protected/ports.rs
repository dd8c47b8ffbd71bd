//! A node's ports that are queues in memory: what a driver needs, and nothing of what DPDK costs.

use std::collections::VecDeque;

use dpdk_colo::compare::Release;
use dpdk_colo::frame::BURST;
use dpdk_colo::link::DATA_HEADER;
use dpdk_colo::link::secure::Begun;
use dpdk_colo::observability::capture::{Note, Place};
use dpdk_colo::pair::{Burst as _, Host, Port, Ports, ToControl, ToPoll, View};
use dpdk_colo::{Frame, Offload, Ticks};

use super::frame::{Burst, Stripped};

/// Every port takes all that it gets.
#[derive(Default)]
pub struct Queues {
    /// What the control thread sends.
    pub mail: VecDeque<ToPoll>,
    /// Stops of the guest's ring.
    pub stops: u64,
    /// What the guest, the link and the network have sent.
    pub guest: Vec<Stripped>,
    pub from_link: Vec<Stripped>,
    pub uplink: Vec<Stripped>,
    /// What has gone to the network.
    pub sent: Vec<Stripped>,
    /// What has gone to the guest.
    pub given: Vec<Stripped>,
    /// What has gone to the link: mirrored input behind its headers, and the link's own frames.
    pub to_link: Vec<([u8; DATA_HEADER], Stripped)>,
    pub own: Vec<Vec<u8>>,
    waiting: Burst,
    /// Those of `to_link` and `own` that have not left.
    link_waits: usize,
}

impl Queues {
    /// Whether a round has taken all that there was.
    pub fn is_drained(&self) -> bool {
        self.guest.is_empty() && self.from_link.is_empty() && self.uplink.is_empty()
    }
}

impl Host for Queues {
    type Burst = Burst;

    #[inline]
    fn room(&self) -> usize {
        BURST - self.waiting.len()
    }

    #[inline]
    fn release(&mut self, release: Release<Stripped>) {
        self.pass(release.frame);
    }

    #[inline]
    fn pass(&mut self, frame: Stripped) {
        assert!(self.waiting.push(frame).is_ok(), "the driver has seen room");
    }

    #[inline]
    fn flush(&mut self, _epoch: u32) -> usize {
        let n = self.waiting.len();
        self.sent.extend(self.waiting.drain());
        n
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    fn give_up(&mut self, _more: usize) {
        self.waiting.clear();
    }

    #[inline]
    fn next_mail(&mut self) -> Option<ToPoll> {
        self.mail.pop_front()
    }

    #[inline]
    fn has_mail_room(&self) -> bool {
        true
    }

    fn post(&mut self, message: ToControl<Stripped>) {
        if let ToControl::Request(request) = message {
            panic!("equal VMs need no checkpoint: {}", request.cause.word());
        }
    }

    #[inline]
    fn capture(&mut self, _place: Place, _epoch: u32, _frames: &[Stripped]) {}

    #[inline]
    fn note(&mut self, _note: Note) {}

    #[inline]
    fn watch(&mut self, _view: impl FnOnce() -> View) {}

    fn now(&self) -> Ticks {
        0
    }

    fn pause(&mut self) {}
}

impl Ports for Queues {
    #[inline]
    fn quiesce(&mut self) -> u64 {
        self.stops
    }

    #[inline]
    fn receive(&mut self, port: Port, burst: &mut Burst, most: usize) -> bool {
        let queue = match port {
            Port::Guest => &mut self.guest,
            Port::Link => &mut self.from_link,
            Port::Uplink => &mut self.uplink,
        };
        burst.fill(queue, most) > 0
    }

    #[inline]
    fn next_session(&mut self) -> Option<Begun> {
        None
    }

    #[inline]
    fn give(&mut self, _epoch: u32, input: &mut Burst) -> usize {
        let n = input.len();
        self.given.extend(input.drain());
        n
    }

    #[inline]
    fn link_room(&self) -> usize {
        BURST - self.link_waits
    }

    fn push_link(&mut self, frame: Stripped) {
        self.own.push(frame.head().to_vec());
        self.link_waits += 1;
    }

    #[inline]
    fn flush_link(&mut self) -> usize {
        std::mem::take(&mut self.link_waits)
    }

    fn count_dropped(&mut self, _port: Port, _frames: usize) {}

    #[inline]
    fn reserve_headers(&mut self, _frames: usize) -> bool {
        true
    }

    #[inline]
    fn mirror(
        &mut self,
        shares: &mut Burst,
        taken: usize,
        mut header: impl FnMut(&Stripped) -> [u8; DATA_HEADER],
    ) {
        self.to_link.extend(
            shares
                .drain()
                .take(taken)
                .map(|share| (header(&share), share)),
        );
        self.link_waits += taken;
    }

    fn prepend(&self, _frame: &mut Stripped, _header: &[u8; DATA_HEADER]) -> bool {
        false
    }

    #[inline]
    fn strip(&self, frame: &mut Stripped, length: usize) -> bool {
        frame.strip(DATA_HEADER, length)
    }

    fn reclaim(&self, _frame: Stripped) -> Option<Stripped> {
        None
    }

    fn copy(&self, bytes: &[u8]) -> Option<Stripped> {
        Some(Stripped::copy(bytes))
    }

    fn mark(&self, _frame: &mut Stripped, _offload: Offload) {}
}
