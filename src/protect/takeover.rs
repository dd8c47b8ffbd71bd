//! What the VM left behind on the secondary, and the primary that its node became must respect.
//!
//! Connections that it has an offset for are translated where they meet the uplink: the comparison,
//! both VMs and the link know the guest's numbers on the one side, the client's on the other, and
//! nothing in between. What the VM sent last before it was chosen may never have left, and leaves
//! again. The next secondary gets the offsets, which its VM would need after one more takeover.
//!
//! In: the [`HandoverState`], frames of both directions, time. Out: the same frames translated, the
//! last segments, offsets for the link. To a client the bytes at one number stay the same as long as
//! the connection lives, whichever VM speaks (rule R5).

use super::Migration;
use super::retransmit_cache::{CachedSegment, RetransmitCache};
use super::svm_traffic::SvmTraffic;
use crate::flow::FlowKey;
use crate::frame::{Frame, Ticks};
use crate::link::{Endpoint, Message};
use crate::packet::Packet;
use crate::rewrite::{Offset, Outcome, Rewriter};

/// What a secondary that takes over leaves to the primary that it becomes.
pub struct HandoverState<F> {
    pub(super) link: Endpoint,
    pub(super) traffic: SvmTraffic<F>,
    pub(super) epoch: u32,
    /// The term of the primary that it followed, if it was heard.
    pub(super) term: Option<u32>,
    /// This VM led before, and another one has taken over from it since.
    pub(super) superseded: bool,
    pub(super) stops: u32,
    pub(super) migration: Migration,
    /// A node before this one has given up the lead in this place.
    pub(super) ceded: bool,
}

/// The part of it that lasts.
pub(crate) struct Takeover<F> {
    /// Offsets of connections from the time when this node was the secondary.
    rewriter: Rewriter,
    /// What the VM sent last to a primary that may not have let it out.
    last: Option<RetransmitCache<F>>,
    /// Slot of the next offset to send to the peer.
    to_send: Option<usize>,
    untranslated: u64,
}

impl<F: Frame> Takeover<F> {
    /// A VM that speaks for itself from now on.
    pub(super) fn new(mut rewriter: Rewriter, last: RetransmitCache<F>) -> Self {
        rewriter.take_over();
        Self {
            rewriter,
            last: Some(last),
            to_send: None,
            untranslated: 0,
        }
    }

    /// Frames that are in here.
    pub(crate) fn frames(&self) -> usize {
        self.last.as_ref().map_or(0, RetransmitCache::len)
    }

    /// Frames that could not be translated, dropped.
    pub(crate) fn untranslated(&self) -> u64 {
        self.untranslated
    }

    /// Connections that were given up because there was no room for their offsets.
    pub(crate) fn offsets_lost(&self) -> u64 {
        self.rewriter.counters().evicted
    }

    /// Whether a frame that was to be translated has no other owner.
    fn is_own(&mut self, outcome: Outcome) -> bool {
        let shared = outcome == Outcome::Shared;
        self.untranslated += u64::from(shared);
        !shared
    }

    /// Input in the guest's numbers; false for a frame that has another owner.
    pub(crate) fn translate_input(&mut self, frame: &mut F, now: Ticks) -> bool {
        let packet = Packet::parse(frame.head(), frame.len());
        let outcome = self.rewriter.to_guest(frame, &packet, now);
        self.is_own(outcome)
    }

    /// Output in the client's numbers; `None` for a frame that has another owner.
    pub(crate) fn translate_output(&mut self, mut frame: F, now: Ticks) -> Option<F> {
        let packet = Packet::parse(frame.head(), frame.len());
        let outcome = self.rewriter.from_guest(&mut frame, &packet, now);
        self.is_own(outcome).then_some(frame)
    }

    /// The same for what the link had got before the takeover ([`Rewriter::repeat`]).
    pub(crate) fn repeat(&mut self, mut frame: F) -> Option<F> {
        let packet = Packet::parse(frame.head(), frame.len());
        let outcome = self.rewriter.repeat(&mut frame, &packet);
        self.is_own(outcome).then_some(frame)
    }

    /// The next of the segments that the VM sent last.
    pub(crate) fn next_last(&mut self) -> Option<CachedSegment<F>> {
        let last = self.last.as_mut()?.next();
        if last.is_none() {
            self.last = None;
        }
        last
    }

    /// The VM's output is compared from now on, and none leaves beside the comparison.
    pub(crate) fn forget_last(&mut self) {
        self.last = None;
    }

    /// The offset at or behind a slot, and the next slot to ask for; `None` when there is no slot
    /// any more.
    pub(crate) fn offset_from(&self, slot: usize) -> Option<(usize, Option<(FlowKey, Offset)>)> {
        self.rewriter.offset_from(slot)
    }

    /// The peer is new and knows no offset.
    pub(crate) fn send_again(&mut self) {
        self.to_send = Some(0);
    }

    /// Sends offsets to the peer as far as the link takes them. True once it was sent all.
    pub(crate) fn send_offsets(&mut self, link: &mut Endpoint) -> bool {
        while let Some(slot) = self.to_send
            && link.has_session()
            && link.has_control_room()
        {
            let Some((next, found)) = self.offset_from(slot) else {
                self.to_send = None;
                return true;
            };
            self.to_send = Some(next);
            let Some((flow, offset)) = found else {
                // The next call goes on from there.
                return false;
            };
            let sent = link.send(Message::Inherited { flow, offset });
            debug_assert!(sent.is_ok(), "there was room");
        }
        self.to_send.is_none()
    }

    /// Forgets connections that are over.
    pub(crate) fn age(&mut self, now: Ticks) {
        self.rewriter.age(now);
    }
}
