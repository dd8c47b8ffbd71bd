//! The RST of the client, and what is dropped at the timeout because a connection has ended.
//!
//! Only output comes to a comparator by itself. A node that hands the client's input to both VMs shows
//! it those RSTs, so that what one VM has sent and the other never will is not waited for.

use super::Comparator;
use super::hold::NIL;
use crate::frame::{Frame, Ticks};
use crate::packet::{Kind, Packet, TcpFlags};

/// The part of the timeout within which segments come that a VM sent before it got the RST: less
/// than any retransmission timer where the timeout is the default one.
const UNDER_WAY: Ticks = 16;
/// Frames that one call drops at most.
const MOST: usize = 32;

impl<F: Frame> Comparator<F> {
    /// Takes in a RST that a client sent and that both VMs got, as it travels to the guest. It
    /// counts if its sequence number is what both VMs have acknowledged last (RFC 9293 3.10.7.4).
    pub fn client_reset(&mut self, packet: &Packet, now: Ticks) {
        if packet.kind != Kind::Tcp || !packet.tcp.flags.contains(TcpFlags::RST) || self.suspended {
            return;
        }
        let key = packet.key.reversed();
        let Some(id) = self.flows.find(&key, key.hash_seeded(self.seed)) else {
            return;
        };
        let settled = now.saturating_add(self.limits.timeout / UNDER_WAY);
        let output = &mut self.flows[id].output;
        output.client_reset(&self.hold, self.epoch, packet.tcp.seq, settled);
    }

    /// Drops overdue P of connections that have ended, as far as a call may. False if there may be more.
    pub(super) fn excuse_primaries(&mut self, now: Ticks) -> bool {
        (0..MOST).any(|_| !self.drop_primary(now))
    }

    /// The same of S; one waits on where the PVM repeats what was lost.
    pub(super) fn excuse_secondaries(&mut self, now: Ticks) -> bool {
        (0..MOST).any(|_| !self.drop_secondary(now))
    }

    /// Whether the oldest P was dropped.
    fn drop_primary(&mut self, now: Ticks) -> bool {
        let id = self.hold.held.head;
        if id == NIL || now.saturating_sub(self.hold.slot(id).arrived) < self.limits.timeout {
            return false;
        }
        let Some(flow) = self.hold.slot(id).flow else {
            return false;
        };
        let output = &mut self.flows[flow].output;
        let dropped = output.drop_primary(&mut self.hold, id, self.epoch, now);
        self.counts.reset_dropped += u64::from(dropped);
        dropped
    }

    /// Whether the oldest S that waits was dropped, or waits anew.
    fn drop_secondary(&mut self, now: Ticks) -> bool {
        let id = self.hold.pending.head;
        if id == NIL || now.saturating_sub(self.hold.slot(id).arrived) < self.limits.timeout {
            return false;
        }
        let Some(flow) = self.hold.slot(id).flow else {
            return false;
        };
        let output = &mut self.flows[flow].output;
        if output.repeats(self.epoch, now, self.limits.timeout) {
            self.hold.wait_anew(id, now);
            return true;
        }
        let dropped = output.drop_secondary(&mut self.hold, id, self.epoch, now);
        self.counts.closed_resets += u64::from(dropped == Some(true));
        dropped.is_some()
    }
}
