//! Which SYN comes again, and which one opens the next connection of the same ports.
//!
//! As a rule the ISN differs. For a VM that always begins with the same one, what counts is what it sent
//! since: behind a FIN or a RST no stack sends the SYN of the same connection again, and a SYN+ACK
//! that comes again acknowledges the same SYN of the client.

use super::Stream;
use crate::compare::hold::{ListKind, NIL, SlotId};
use crate::compare::{Context, Numbers};
use crate::frame::Frame;
use crate::packet::{Packet, Tcp, TcpFlags};

/// What one VM has sent of an incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Begun {
    /// What its SYN acknowledges, if it is a SYN+ACK.
    ack: Option<u32>,
    /// It has sent a FIN or a RST.
    pub ended: bool,
}

impl Begun {
    /// What a SYN begins.
    pub(super) fn of(syn: &Tcp) -> Self {
        let mut begun = Self::default();
        begun.note(syn);
        begun
    }

    /// Takes in a segment.
    pub(super) fn note(&mut self, tcp: &Tcp) {
        let flags = tcp.flags;
        if flags.contains(TcpFlags::SYN | TcpFlags::ACK) {
            self.ack = Some(tcp.ack);
        }
        self.ended |= flags.intersects(TcpFlags::FIN | TcpFlags::RST);
    }

    /// Whether a SYN with the ISN of this incarnation may belong to it.
    pub(super) fn has(&self, syn: &Tcp) -> bool {
        let other = syn.flags.contains(TcpFlags::ACK) && self.ack.is_some_and(|ack| ack != syn.ack);
        !self.ended && !other
    }
}

impl Stream {
    /// The PVM's SYN came and says where the data begins, and the FIN stands, that S with a SYN carried
    /// before.
    pub(super) fn place_early_data<F: Frame>(&mut self, cx: &mut Context<'_, F>, isn: u32) {
        let Some(secondary) = self.secondary_syn else {
            return;
        };
        if cx.numbers != Numbers::Translated {
            return;
        }
        let mut c: SlotId = self.controls.head;
        while c != NIL && !self.diverged {
            let next = cx.hold.next(ListKind::Flow, c);
            let slot = cx.hold.slot(c);
            let (flags, len, arrived) = (slot.flags, slot.len, slot.came());
            if flags.contains(TcpFlags::SYN | TcpFlags::FIN) && self.secondary_fin.is_none() {
                self.secondary_fin = Some(isn.wrapping_add(1).wrapping_add(len));
            }
            if flags.contains(TcpFlags::SYN) && len > 0 {
                let frame = cx.hold.frame(c).share();
                let packet = Packet::parse(frame.head(), frame.len());
                self.witness(
                    cx,
                    frame,
                    &packet,
                    secondary.number.wrapping_sub(isn),
                    arrived,
                );
            }
            c = next;
        }
    }
}
