//! Sends the secondary both VMs' numbers of a connection that opens, and lets no frame that opens it
//! leave before they were heard.
//!
//! The link gets the ISNs before any frame of the connection leaves, but sent is not acknowledged: if
//! the primary died in between, the secondary that takes over could not translate a connection that
//! its client believes in. Frames of other connections do not wait behind them.
//!
//! In: the comparator's numbers and releases, what the link's other end has acknowledged, commits.
//! Out: messages for the link, and the releases that may leave.

use std::collections::VecDeque;

use crate::compare::{Release, Synchronized};
use crate::flow::FlowKey;
use crate::frame::{Frame, Ticks};
use crate::link::{Endpoint, Message};
use crate::packet::{Kind, Packet, TcpFlags};
use crate::spread::Dispatcher;

/// Frames that may wait.
const WAITING: usize = 1024;

struct Waiting<F> {
    key: FlowKey,
    /// The control message that has to be acknowledged; `None` waits for a commit.
    control: Option<u32>,
    release: Release<F>,
}

/// Who gets the ISNs that were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendIsns {
    /// The secondary, in this epoch.
    In(u32),
    /// Nobody before a commit.
    Later,
    /// Nobody needs to be.
    Nobody,
}

/// The frames that wait, in their order.
pub(super) struct HandshakeGate<F> {
    waiting: VecDeque<Waiting<F>>,
    freed: usize,
    /// Numbers that the link has had no room for yet.
    unsent: Option<Synchronized>,
    /// Numbers were found since the last commit.
    found: bool,
    /// Some of those were not sent, or not to the present peer. It is not known whose frames are still to come out of the
    /// comparator.
    void: bool,
}

impl<F: Frame> HandshakeGate<F> {
    /// None wait.
    pub(crate) fn new() -> Self {
        Self {
            waiting: VecDeque::with_capacity(WAITING),
            freed: 0,
            unsent: None,
            found: false,
            void: false,
        }
    }

    /// Frames in here.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the frame that waits for longest arrived.
    pub(crate) fn oldest(&self) -> Option<Ticks> {
        let waits = self.waiting.get(self.freed)?;
        Some(waits.release.arrived)
    }

    /// The next frame that may leave.
    pub(crate) fn next_release(
        &mut self,
        comparator: &mut Dispatcher<F>,
        link: &mut Endpoint,
        send_isns: SendIsns,
    ) -> Option<Release<F>> {
        if let Some(release) = self.heard(link) {
            return Some(release);
        }
        loop {
            if let Some(synchronized) = self.unsent {
                match send_isns {
                    SendIsns::In(epoch) if link.send(message(epoch, synchronized)).is_err() => {
                        return None;
                    }
                    SendIsns::In(_) | SendIsns::Nobody => {}
                    SendIsns::Later => self.void = true,
                }
                self.unsent = None;
            }
            self.unsent = comparator.next_synchronized();
            if self.unsent.is_some() {
                self.found = true;
                continue;
            }
            // A frame that was released before the uncertainty still follows the one that opens its
            // connection.
            if send_isns == SendIsns::Nobody && self.waiting.is_empty() {
                return comparator.next_release();
            }
            if self.waiting.len() == WAITING {
                return None;
            }
            let release = comparator.next_release()?;
            if let Some(release) = self.admit(release, link) {
                return Some(release);
            }
        }
    }

    /// Gives the frame back, unless it opens a connection of which the peer may not have heard or
    /// follows such a frame.
    fn admit(&mut self, release: Release<F>, link: &Endpoint) -> Option<Release<F>> {
        let heard = link.is_settled() && !self.void;
        if heard && self.waiting.is_empty() {
            return Some(release);
        }
        let packet = Packet::parse(release.frame.head(), release.frame.len());
        let opens = packet.kind == Kind::Tcp && packet.tcp.flags.contains(TcpFlags::SYN);
        let waits = opens && !heard;
        if !waits && !self.waiting.iter().any(|other| other.key == packet.key) {
            return Some(release);
        }
        self.waiting.push_back(Waiting {
            key: packet.key,
            control: (!self.void).then(|| link.sent()),
            release,
        });
        None
    }

    /// The next frame that need not wait any more.
    fn heard(&mut self, link: &Endpoint) -> Option<Release<F>> {
        if self.freed == 0 {
            let control = self.waiting.front()?.control?;
            if !link.is_acknowledged(control) {
                return None;
            }
        }
        self.freed = self.freed.saturating_sub(1);
        self.waiting.pop_front().map(|waiting| waiting.release)
    }

    /// The SVM is about to load numbers that have no offset: those that were not sent are void.
    pub(crate) fn fence(&mut self, comparator: &mut Dispatcher<F>) {
        self.void |= self.unsent.take().is_some();
        while comparator.next_synchronized().is_some() {
            self.void = true;
        }
    }

    /// The sent ISNs are void. All frames wait for a commit, and so do later ones that open a connection.
    pub(crate) fn revoke(&mut self) {
        self.void |= self.found;
        for waiting in self.waiting.iter_mut().skip(self.freed) {
            waiting.control = None;
        }
    }

    /// No ISNs are needed any more: all frames may leave.
    pub(crate) fn free(&mut self) {
        self.freed = self.waiting.len();
        (self.found, self.void) = (false, false);
    }

    /// Drops all. Returns their number.
    pub(crate) fn discard(&mut self) -> usize {
        let dropped = self.waiting.len();
        self.waiting.clear();
        self.freed = 0;
        (self.found, self.void) = (false, false);
        dropped
    }
}

fn message(epoch: u32, synchronized: Synchronized) -> Message {
    Message::Synchronized {
        epoch,
        flow: synchronized.flow,
        pvm: synchronized.pvm,
        svm: synchronized.svm,
    }
}
