//! The RST of the client.
//!
//! Only output comes to a comparator by itself. A node that hands the client's input to both VMs shows
//! it those RSTs, so that what one VM has sent and the other never will is not waited for.

use super::Comparator;
use crate::frame::{Frame, Ticks};
use crate::packet::{Kind, Packet, TcpFlags};

/// The part of the timeout within which segments come that a VM sent before it got the RST: less
/// than any retransmission timer where the timeout is the default one.
const UNDER_WAY: Ticks = 16;

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
}
