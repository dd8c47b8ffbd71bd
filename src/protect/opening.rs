//! Frames that open a connection wait until the secondary has both VMs' numbers of it.
//!
//! The primary tells the ISNs before such a frame leaves, but told is not heard: if the primary died
//! in between, the secondary that takes over could not translate a connection that its client
//! believes in. Frames of other connections do not wait behind them.

use std::collections::VecDeque;

use crate::compare::Release;
use crate::flow::FlowKey;
use crate::frame::{Frame, Ticks};
use crate::link::Endpoint;
use crate::packet::{Kind, Packet, TcpFlags};

/// Frames that may wait.
const WAITING: usize = 1024;

struct Waiting<F> {
    key: FlowKey,
    /// The control message that has to be acknowledged; `None` waits for a commit.
    control: Option<u32>,
    release: Release<F>,
}

/// The frames that wait, in their order.
pub(super) struct Openings<F> {
    waiting: VecDeque<Waiting<F>>,
    freed: usize,
}

impl<F: Frame> Openings<F> {
    /// None wait.
    pub fn new() -> Self {
        Self {
            waiting: VecDeque::with_capacity(WAITING),
            freed: 0,
        }
    }

    /// Frames in here.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the frame that waits for longest arrived.
    pub fn oldest(&self) -> Option<Ticks> {
        let waits = self.waiting.get(self.freed)?;
        Some(waits.release.arrived)
    }

    /// Whether another frame may have to wait for which there is no room.
    pub fn is_full(&self) -> bool {
        self.waiting.len() == WAITING
    }

    /// Gives the frame back, unless it opens a connection of which the peer may not have heard or
    /// follows such a frame. The caller has seen [`Openings::is_full`].
    pub fn admit(&mut self, release: Release<F>, link: &Endpoint) -> Option<Release<F>> {
        if link.is_settled() && self.waiting.is_empty() {
            return Some(release);
        }
        let packet = Packet::parse(release.frame.head(), release.frame.len());
        let opens = packet.kind == Kind::Tcp && packet.tcp.flags.contains(TcpFlags::SYN);
        let waits = opens && !link.is_settled();
        if !waits && !self.waiting.iter().any(|other| other.key == packet.key) {
            return Some(release);
        }
        self.waiting.push_back(Waiting {
            key: packet.key,
            control: Some(link.sent()),
            release,
        });
        None
    }

    /// The next frame that need not wait any more.
    pub fn next(&mut self, link: &Endpoint) -> Option<Release<F>> {
        if self.freed == 0 {
            let control = self.waiting.front()?.control?;
            if !link.is_acknowledged(control) {
                return None;
            }
        }
        self.freed = self.freed.saturating_sub(1);
        self.waiting.pop_front().map(|waiting| waiting.release)
    }

    /// What was told is void: all wait for a commit.
    pub fn revoke(&mut self) {
        for waiting in self.waiting.iter_mut().skip(self.freed) {
            waiting.control = None;
        }
    }

    /// Nobody needs to be told any more: all may leave.
    pub fn free(&mut self) {
        self.freed = self.waiting.len();
    }

    /// Drops all; gives back how many.
    pub fn discard(&mut self) -> usize {
        let dropped = self.waiting.len();
        self.waiting.clear();
        self.freed = 0;
        dropped
    }
}
