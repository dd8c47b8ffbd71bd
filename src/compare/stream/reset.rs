//! RSTs: those that both VMs have sent, those of a connection that is over, and the client's.
//!
//! A RST of one VM alone is a difference (rule R1), unless both VMs have closed the connection: then
//! it carries nothing and says nothing of the VM's state. A RST of the client that both VMs accept
//! ends what they have to say, and what one of them will never send is not waited for (rule R5 names
//! that exception). docs/resets.md has the reasons.

use super::Stream;
use crate::compare::Context;
use crate::compare::hold::{FlowList, Hold, ListKind, NIL, SlotId};
use crate::frame::{Frame, Ticks};
use crate::packet::serial::{at_or_before, max};
use crate::packet::{Tcp, TcpFlags};

/// RSTs that are remembered.
const KNOWN: usize = 8;

/// Position and, with ACK, acknowledgment of the PVM's last RSTs that came from both VMs or have left.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resets {
    known: [(u32, u32); KNOWN],
    /// One bit for each place that is in use, and for each whose RST has ACK.
    used: u8,
    with_ack: u8,
    next: u8,
}

impl Resets {
    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    pub(super) fn contains(&self, position: u32, ack: Option<u32>) -> bool {
        let this = (position, ack.unwrap_or(0));
        (0..KNOWN).any(|i| {
            let bit = 1 << i;
            self.used & bit != 0
                && (self.with_ack & bit != 0) == ack.is_some()
                && self.known[i] == this
        })
    }

    /// Remembers one, in the place of the one that came first.
    pub(super) fn add(&mut self, position: u32, ack: Option<u32>) {
        if self.contains(position, ack) {
            return;
        }
        let (place, bit) = (usize::from(self.next), 1 << self.next);
        self.known[place] = (position, ack.unwrap_or(0));
        self.used |= bit;
        self.with_ack = if ack.is_some() {
            self.with_ack | bit
        } else {
            self.with_ack & !bit
        };
        self.next = (self.next + 1) % KNOWN as u8;
    }
}

/// A RST of the client that both VMs got and that is exactly what both expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientReset {
    /// Its sequence number, which is what both VMs acknowledge.
    seq: u32,
    /// What a VM sent before it got the RST has come by then.
    settled: Ticks,
}

impl Stream {
    /// Notes an acknowledgment of either VM that is `ahead` of the one before: one more number may be a FIN's.
    #[inline(always)]
    pub(super) fn note_client_end(&mut self, ahead: i32, ack: u32) {
        if ahead == 1 {
            self.client_end = Some(ack);
        }
    }

    /// Whether both VMs have sent their FIN and acknowledged the client's, and the PVM's have left.
    fn is_closed(&self) -> bool {
        self.client_end.is_some()
            && self.client_end == self.primary_ack
            && self.client_end == self.secondary_ack
            && self.has_fin_left
    }

    /// Whether a RST of one VM alone only says that this VM has forgotten a closed connection.
    pub(super) fn is_late_reset(&self, flags: TcpFlags, position: u32, len: u32) -> bool {
        let end = self.primary_fin.map(|fin| fin.wrapping_add(1));
        let bare = flags.contains(TcpFlags::RST)
            && !flags.intersects(TcpFlags::ACK | TcpFlags::SYN | TcpFlags::FIN);
        bare && len == 0 && self.is_closed() && end.is_some_and(|end| at_or_before(position, end))
    }

    /// Whether a P's RST may leave as far as the SVM's is concerned.
    pub(super) fn reset_is_matched<F: Frame>(
        &mut self,
        cx: &mut Context<'_, F>,
        id: SlotId,
    ) -> bool {
        let slot = cx.hold.slot(id);
        let (flags, seq, len) = (slot.flags, slot.seq, slot.len);
        let ack = flags.contains(TcpFlags::ACK).then_some(slot.ack);
        if self.match_reset(cx.hold, id, seq, ack) || self.resets.contains(seq, ack) {
            self.resets.add(seq, ack);
            return true;
        }
        if slot_is_oldest(self, id) && self.is_late_reset(flags, seq, len) {
            cx.counts.closed_resets += 1;
            return true;
        }
        false
    }

    /// Drops the SVM's counterparts of a P's RST; false if there is none.
    fn match_reset<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        id: SlotId,
        seq: u32,
        ack: Option<u32>,
    ) -> bool {
        let (mut other, mut found) = (NIL, false);
        let mut c = self.controls.head;
        while c != NIL {
            let next = hold.next(ListKind::Flow, c);
            let slot = hold.slot(c);
            if slot.flags.contains(TcpFlags::RST) && slot.seq == seq {
                let own = slot.flags.contains(TcpFlags::ACK).then_some(slot.ack);
                if own == ack {
                    self.drop_control(hold, id, c);
                    found = true;
                } else if other == NIL && own.is_some() == ack.is_some() {
                    other = c;
                }
            }
            c = next;
        }
        if !found && other != NIL {
            // One that acknowledges more or less; rule R4 sees to that. One without ACK is no counterpart of
            // one with it: a peer in SYN-SENT takes no notice of it (RFC 9293, 3.10.7.3).
            self.drop_control(hold, id, other);
            found = true;
        }
        found
    }

    /// Takes in the client's RST, with its sequence number. Both VMs got it.
    pub(crate) fn client_reset<F: Frame>(
        &mut self,
        hold: &Hold<F>,
        epoch: u32,
        seq: u32,
        settled: Ticks,
    ) {
        if self.epoch != epoch {
            return;
        }
        let last = self.primaries.tail;
        let mut primary = self.primary_ack;
        if last != NIL && hold.slot(last).flags.contains(TcpFlags::ACK) {
            let ack = hold.slot(last).ack;
            primary = Some(primary.map_or(ack, |before| max(before, ack)));
        }
        if primary == Some(seq) && self.secondary_ack == Some(seq) {
            self.client_reset = Some(ClientReset { seq, settled });
            self.catch_up(hold);
            self.fast = false;
        }
    }

    /// A segment of either VM came: if it is none that was under way, the connection lives, or the
    /// next one of these ports does.
    pub(super) fn note_after_reset(&mut self, tcp: &Tcp, now: Ticks) {
        let under_way = |reset: &ClientReset| {
            now < reset.settled
                && !tcp.flags.contains(TcpFlags::SYN)
                && (!tcp.flags.contains(TcpFlags::ACK) || tcp.ack == reset.seq)
        };
        self.client_reset = self.client_reset.filter(under_way);
    }

    /// Whether the client has reset the connection and nothing came that says otherwise.
    fn is_reset(&self, epoch: u32, now: Ticks) -> bool {
        !self.diverged
            && self.epoch == epoch
            && self.client_reset.is_some_and(|reset| now >= reset.settled)
    }

    /// Drops the oldest P, which is overdue, if no S will ever come for it.
    pub(crate) fn drop_primary<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        id: SlotId,
        epoch: u32,
        now: Ticks,
    ) -> bool {
        if !self.is_reset(epoch, now) || self.primaries.head != id || hold.slot(id).opens {
            return false;
        }
        self.forget_overtaker(hold, id);
        hold.unlink(ListKind::Flow, &mut self.primaries, id);
        if self.cursor == id {
            self.cursor = self.primaries.head;
        }
        hold.drop_primary(id);
        true
    }

    /// Drops an S, which is overdue, if no P will ever come for it, or if it says nothing; `Some(true)`
    /// if it was a RST of a closed connection.
    pub(crate) fn drop_secondary<F: Frame>(
        &mut self,
        hold: &mut Hold<F>,
        id: SlotId,
        epoch: u32,
        now: Ticks,
    ) -> Option<bool> {
        let slot = hold.slot(id);
        let late = slot.place == FlowList::Control
            && self.epoch == epoch
            && !self.diverged
            && self.is_late_reset(slot.flags, slot.seq, slot.len);
        if slot.place == FlowList::Deferred || !(late || self.is_reset(epoch, now)) {
            return None;
        }
        self.forget(hold, id);
        hold.remove(id);
        Some(late)
    }
}

fn slot_is_oldest(stream: &Stream, id: SlotId) -> bool {
    stream.primaries.head == id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_resets_are_known_and_no_others() {
        let mut resets = Resets::default();
        assert!(resets.is_empty() && !resets.contains(0, None));
        for n in 0..KNOWN as u32 {
            resets.add(n, (n % 2 == 0).then_some(n));
            resets.add(n, (n % 2 == 0).then_some(n));
        }
        for n in 0..KNOWN as u32 {
            assert_eq!(resets.contains(n, Some(n)), n % 2 == 0);
            assert_eq!(resets.contains(n, None), n % 2 == 1);
        }
        resets.add(100, None);
        assert!(resets.contains(100, None) && !resets.contains(0, Some(0)));
    }
}
