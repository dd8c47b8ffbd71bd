//! Whether this node's VM is the one that speaks for the pair (rule R6).
//!
//! In: the silence of the link, QEMU's word that COLO has ended, the terms in which other nodes say
//! that they lead, what a fencing command came to, time. Out: whether the peer is lost and whether
//! that is certain, and whether another VM speaks in this one's place. A term is a number of
//! takeovers: of two nodes that lead, the one of the later term has taken over from the other.

use super::peer::{Action, Failover, Peer};
use crate::frame::Ticks;
use crate::packet::serial::before;

/// The other node as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is heard, and COLO goes on.
    Present,
    /// It was lost and is heard again: its VM may have missed what nobody sent it.
    Back,
    /// It may still speak.
    Lost,
    /// It is lost, and its VM certainly sends nothing any more.
    Gone,
}

/// What a node that leads knows of its lead.
#[derive(Debug)]
pub(super) struct Leadership {
    peer: Peer,
    /// Takeovers before this node led.
    term: u32,
    /// QEMU takes no more checkpoints of this COLO.
    ended: bool,
    /// The SVM speaks for itself: this VM never does, until another QEMU runs it.
    superseded: bool,
    losses: u64,
}

impl Leadership {
    /// Of the VM that led first.
    pub fn new(failover: Failover) -> Self {
        Self {
            peer: Peer::new(failover),
            term: 0,
            ended: false,
            superseded: false,
            losses: 0,
        }
    }

    /// This many takeovers came before.
    pub fn succeed(&mut self, term: u32) {
        self.term = term;
    }

    /// Takeovers before this node led.
    pub fn term(&self) -> u32 {
        self.term
    }

    /// Whether somebody has to say who goes on.
    pub fn is_lost(&self) -> bool {
        self.ended || self.superseded || self.is_peer_lost()
    }

    /// Whether the other node is not heard, or COLO has ended.
    pub fn is_peer_lost(&self) -> bool {
        self.peer.is_lost()
    }

    /// Times the peer was lost.
    pub fn losses(&self) -> u64 {
        self.losses
    }

    /// Whether QEMU takes no more checkpoints of this COLO.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether another VM speaks in this one's place.
    pub fn is_superseded(&self) -> bool {
        self.superseded
    }

    /// The COLO that ended is history: another begins, it goes on after all, or nobody waits for it.
    pub fn forget_end(&mut self) {
        self.ended = false;
    }

    /// QEMU takes no more checkpoints of this COLO.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Another QEMU runs the VM, or the same one got the failover command.
    pub fn start_over(&mut self) {
        (self.ended, self.superseded) = (false, false);
    }

    /// Another node says that it leads in this term: true if it has taken over from this one.
    pub fn is_behind(&self, term: u32) -> bool {
        before(self.term, term)
    }

    /// Another VM speaks in this one's place, and there is nothing more to checkpoint.
    pub fn supersede(&mut self) {
        (self.ended, self.superseded) = (true, true);
    }

    /// Looks for the other node. `watches` says that there is a pair, `silent` that the link is.
    pub fn observe(&mut self, watches: bool, silent: bool, now: Ticks) -> Found {
        let lost = watches && !self.superseded && (self.ended || silent);
        let was_lost = self.is_peer_lost();
        self.losses += u64::from(lost && !was_lost);
        self.peer.observe(lost, true, now);
        match lost {
            true if self.peer.is_certain() => Found::Gone,
            true => Found::Lost,
            false if was_lost => Found::Back,
            false => Found::Present,
        }
    }

    /// What the control thread is to do about a peer that is lost; `able` as in
    /// [`Peer::next_action`].
    pub fn next_action(&mut self, now: Ticks, able: bool) -> Option<Action> {
        self.peer.next_action(now, able)
    }

    /// What a fencing command came to.
    pub fn fenced(&mut self, number: u32, down: bool, now: Ticks) {
        self.peer.fenced(number, down, now);
    }
}
