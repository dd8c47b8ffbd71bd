//! Whether the other node's VM can still speak, and who makes sure that it cannot (rule R6).
//!
//! In: whether the peer is lost (a silent link, or a QEMU that says that COLO has ended), what a
//! fencing command came to, time. Out: whether it is certain that the peer's VM sends nothing any
//! more, and what the control thread is to do about it. Nothing is certain by silence alone.

use crate::frame::Ticks;

/// What makes it certain that a lost peer's VM sends nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPeerLost {
    /// Only QEMU's decision, after an operator's failover command.
    #[default]
    Hold,
    /// The loss itself: the operator answers for it that the peer never takes over by itself.
    Release,
    /// A fencing command that succeeds.
    Fence,
}

/// Who decides what when the peer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failover {
    /// What makes it certain.
    pub on_peer_lost: OnPeerLost,
    /// The node tells QEMU once it is certain; else an operator does.
    pub auto: bool,
    /// Pause before the second attempt at a fencing command or a failover command; each further
    /// one doubles it, 32 times at most.
    pub retry: Ticks,
}

/// What the control thread is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the fencing command and tell what it came to, with this number.
    Fence(u32),
    /// Tell QEMU that the peer is lost (`x-colo-lost-heartbeat`).
    FailOver,
    /// The same at a secondary to which the primary, which may run, has ceded the lead.
    Succeed,
}

/// What is under way against a lost peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fencing {
    Due(Ticks),
    Running,
    Done,
}

/// The peer as one node sees it.
#[derive(Debug)]
pub(super) struct Peer {
    failover: Failover,
    lost: Option<Ticks>,
    fencing: Fencing,
    certain: bool,
    /// It has given up its VM for good, and has said so.
    renounced: bool,
    /// Number of the last loss or attempt; what came of an earlier one does not count.
    number: u32,
    pause: Ticks,
    /// When the failover command may be given again.
    order_at: Ticks,
}

impl Peer {
    /// A peer that is not lost.
    pub(crate) fn new(failover: Failover) -> Self {
        Self {
            failover,
            lost: None,
            fencing: Fencing::Done,
            certain: false,
            renounced: false,
            number: 0,
            pause: failover.retry,
            order_at: 0,
        }
    }

    /// Takes in whether the peer is lost now; `fence` says whether this node may make sure of it.
    pub(crate) fn observe(&mut self, lost: bool, fence: bool, now: Ticks) {
        if lost == self.lost.is_some() {
            return;
        }
        self.number = self.number.wrapping_add(1);
        self.pause = self.failover.retry;
        self.order_at = now;
        self.lost = lost.then_some(now);
        self.certain =
            lost && (self.renounced || self.failover.on_peer_lost == OnPeerLost::Release);
        self.fencing = match self.failover.on_peer_lost {
            OnPeerLost::Fence if lost && fence && !self.renounced => Fencing::Due(now),
            _ => Fencing::Done,
        };
    }

    /// The peer has given up its VM for good: this one goes on alone, and nobody is fenced for that.
    pub(crate) fn renounce(&mut self, now: Ticks) {
        if !std::mem::replace(&mut self.renounced, true) {
            self.certain = self.lost.is_some();
            self.fencing = Fencing::Done;
            (self.pause, self.order_at) = (self.failover.retry, now);
        }
    }

    /// There is another one.
    pub(crate) fn replace(&mut self) {
        self.renounced = false;
    }

    /// The peer is lost.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// The peer is lost and its VM sends nothing any more, for certain.
    pub(crate) fn is_certain(&self) -> bool {
        self.certain
    }

    /// A fencing command has ended; `down` says that the peer certainly is.
    pub(crate) fn fenced(&mut self, number: u32, down: bool, now: Ticks) {
        if number != self.number || self.fencing != Fencing::Running {
            return;
        }
        self.certain = down;
        self.order_at = now;
        self.fencing = if down {
            Fencing::Done
        } else {
            Fencing::Due(now + self.back_off())
        };
        if down {
            self.pause = self.failover.retry;
        }
    }

    fn back_off(&mut self) -> Ticks {
        let pause = self.pause;
        self.pause = (pause * 2).min(self.failover.retry * 32);
        pause
    }

    /// What is to be done now; `able` says that this node's own VM answers and its QEMU has not
    /// got the failover command yet. A node without a VM has nobody to fence a peer for.
    pub(crate) fn next_action(&mut self, now: Ticks, able: bool) -> Option<Action> {
        if !able {
            return None;
        }
        match self.fencing {
            Fencing::Due(at) if now >= at => {
                self.number = self.number.wrapping_add(1);
                self.fencing = Fencing::Running;
                Some(Action::Fence(self.number))
            }
            _ if (self.certain && self.failover.auto || self.renounced) && now >= self.order_at => {
                self.order_at = now + self.back_off();
                Some(Action::FailOver)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(on_peer_lost: OnPeerLost, auto: bool) -> Peer {
        Peer::new(Failover {
            on_peer_lost,
            auto,
            retry: 10,
        })
    }

    #[test]
    fn silence_alone_makes_nothing_certain() {
        let mut peer = peer(OnPeerLost::Hold, true);
        peer.observe(true, true, 5);
        assert!(peer.is_lost() && !peer.is_certain());
        assert_eq!(peer.next_action(1_000, true), None);
    }

    #[test]
    fn a_fencing_command_is_tried_until_it_succeeds() {
        let mut peer = peer(OnPeerLost::Fence, true);
        peer.observe(true, true, 5);
        let mut now = 5;
        for pause in [10, 20, 40] {
            let Some(Action::Fence(number)) = peer.next_action(now, true) else {
                panic!("no command at {now}");
            };
            assert_eq!(peer.next_action(now + 1_000, true), None, "one at a time");
            peer.fenced(number.wrapping_sub(1), true, now);
            assert!(!peer.is_certain(), "another command's result");
            peer.fenced(number, false, now);
            assert!(!peer.is_certain());
            assert_eq!(peer.next_action(now + pause - 1, true), None);
            now += pause;
        }
        let Some(Action::Fence(number)) = peer.next_action(now, true) else {
            panic!("no command at {now}");
        };
        peer.fenced(number, true, now);
        assert!(peer.is_certain());
        assert_eq!(peer.next_action(now, true), Some(Action::FailOver));
        assert_eq!(peer.next_action(now + 9, true), None);
        assert_eq!(peer.next_action(now + 10, true), Some(Action::FailOver));
        assert_eq!(peer.next_action(now + 100, false), None, "QEMU has done it");
    }

    #[test]
    fn a_peer_that_comes_back_ends_what_was_under_way() {
        let mut peer = peer(OnPeerLost::Fence, true);
        peer.observe(true, true, 5);
        assert_eq!(peer.next_action(5, false), None, "there is no VM to save");
        let Some(Action::Fence(number)) = peer.next_action(5, true) else {
            panic!("no command");
        };
        peer.observe(false, true, 6);
        peer.fenced(number, true, 7);
        assert!(!peer.is_lost() && !peer.is_certain());
        peer.observe(true, true, 8);
        peer.fenced(number, true, 9);
        assert!(!peer.is_certain(), "that was the loss before");
    }

    #[test]
    fn a_peer_that_has_given_up_is_never_fenced() {
        for lost in [false, true] {
            let mut peer = peer(OnPeerLost::Fence, false);
            peer.observe(lost, true, 5);
            peer.renounce(6);
            assert_eq!(peer.is_certain(), lost);
            assert_eq!(peer.next_action(6, true), Some(Action::FailOver));
            peer.renounce(7);
            assert_eq!(peer.next_action(8, true), None, "once in a while");
            peer.observe(!lost, true, 9);
            assert_eq!(peer.is_certain(), !lost);
            assert_eq!(peer.next_action(100, true), Some(Action::FailOver));
            assert_eq!(peer.next_action(200, false), None, "QEMU has done it");
            peer.observe(false, true, 201);
            peer.replace();
            peer.observe(true, true, 202);
            assert!(!peer.is_certain());
            assert!(matches!(
                peer.next_action(202, true),
                Some(Action::Fence(_))
            ));
        }
    }

    #[test]
    fn who_may_not_fence_does_not() {
        let mut peer = peer(OnPeerLost::Fence, false);
        peer.observe(true, false, 5);
        assert_eq!(peer.next_action(1_000, true), None);
    }
}
