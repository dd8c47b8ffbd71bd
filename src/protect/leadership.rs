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

/// Whose the word is that another node leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leader {
    /// It has taken over from this node.
    Successor,
    /// This node has taken over from it, and has counted on from its term only now.
    Predecessor,
    /// It led before this one, which it will hear.
    Former,
}

/// What a node that leads knows of its lead.
#[derive(Debug)]
pub(super) struct Leadership {
    peer: Peer,
    /// Takeovers before this node led.
    term: u32,
    /// This node took over before it had heard its predecessor's term. Who leads in any term is that predecessor
    /// then: a successor would have to be this node's secondary first.
    unheard: bool,
    /// QEMU takes no more checkpoints of this COLO.
    ended: bool,
    /// The SVM speaks for itself: this VM never does, until another QEMU runs it.
    superseded: bool,
    /// This node has given up its lead, and no other QEMU changes that.
    ceded: bool,
    losses: u64,
}

impl Leadership {
    /// Of the VM that led first.
    pub(crate) fn new(failover: Failover) -> Self {
        Self {
            peer: Peer::new(failover),
            term: 0,
            unheard: false,
            ended: false,
            superseded: false,
            ceded: false,
            losses: 0,
        }
    }

    /// This node has taken over from one of this term, if it has heard the term.
    pub(crate) fn succeed(&mut self, term: Option<u32>) {
        self.term = term.unwrap_or(0).wrapping_add(1);
        self.unheard = term.is_none();
    }

    /// This node has a secondary, which may take over.
    pub(crate) fn has_follower(&mut self) {
        self.unheard = false;
    }

    /// Takeovers before this node led.
    pub(crate) fn term(&self) -> u32 {
        self.term
    }

    /// Whether somebody has to say who goes on.
    pub(crate) fn is_lost(&self) -> bool {
        self.ended || self.is_superseded() || self.is_peer_lost()
    }

    /// Whether the other node is not heard, or COLO has ended.
    pub(crate) fn is_peer_lost(&self) -> bool {
        self.peer.is_lost()
    }

    /// Whether the peer is lost and its VM certainly sends nothing any more.
    pub(super) fn is_certain(&self) -> bool {
        self.peer.is_certain()
    }

    /// Times the peer was lost.
    pub(crate) fn losses(&self) -> u64 {
        self.losses
    }

    /// Whether QEMU takes no more checkpoints of this COLO.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether another VM speaks in this one's place, or may.
    pub(crate) fn is_superseded(&self) -> bool {
        self.superseded || self.ceded
    }

    /// Whether another VM speaks in this one's place.
    pub(crate) fn is_replaced(&self) -> bool {
        self.superseded
    }

    /// Whether this node has given up its lead.
    pub(crate) fn has_ceded(&self) -> bool {
        self.ceded
    }

    /// This VM never speaks again.
    pub(crate) fn cede(&mut self) {
        self.ceded = true;
    }

    /// It does after all, unless its successor was heard: that one certainly sends nothing, or heard nothing.
    pub(crate) fn take_back(&mut self) -> bool {
        let takes = self.ceded && !self.superseded;
        self.ceded &= !takes;
        takes
    }

    /// The COLO that ended is history: another begins, it goes on after all, or nobody waits for it.
    pub(crate) fn forget_end(&mut self) {
        self.ended = false;
    }

    /// QEMU takes no more checkpoints of this COLO.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// The other node has given up its VM for good.
    pub(crate) fn peer_renounced(&mut self, now: Ticks) {
        self.peer.renounce(now);
    }

    /// Another COLO begins, with another VM beside this one.
    pub(crate) fn begin(&mut self) {
        self.forget_end();
        self.peer.replace();
    }

    /// Another QEMU runs the VM, or the same one got the failover command.
    pub(crate) fn start_over(&mut self) {
        (self.ended, self.superseded) = (false, false);
    }

    /// Another node says that it leads in this term.
    pub(crate) fn hear(&mut self, term: u32) -> Leader {
        if self.unheard {
            self.succeed(Some(term));
            Leader::Predecessor
        } else if before(self.term, term) {
            Leader::Successor
        } else {
            Leader::Former
        }
    }

    /// Another VM speaks in this one's place, and there is nothing more to checkpoint.
    pub(crate) fn supersede(&mut self) {
        (self.ended, self.superseded) = (true, true);
    }

    /// Looks for the other node. `watches` says that there is a pair, `silent` that the link is.
    pub(crate) fn observe(&mut self, watches: bool, silent: bool, now: Ticks) -> Found {
        let lost = watches && !self.is_superseded() && (self.ended || silent);
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
    pub(crate) fn next_action(&mut self, now: Ticks, able: bool) -> Option<Action> {
        self.peer.next_action(now, able)
    }

    /// What a fencing command came to.
    pub(crate) fn fenced(&mut self, number: u32, down: bool, now: Ticks) {
        self.peer.fenced(number, down, now);
    }
}
