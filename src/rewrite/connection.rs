//! What is remembered about one connection of the SVM.

use super::{Isn, Offset};
use crate::Ticks;
use crate::packet::{Packet, TcpFlags, serial};

/// The generation of connections that an earlier node learned.
const INHERITED: u64 = u64::MAX;

/// Offsets of a connection and how far it is closed.
#[derive(Debug)]
pub(super) struct Connection {
    /// The SVM's sequence numbers minus the PVM's.
    pub(super) seq: u32,
    /// The SVM's time stamps minus the PVM's.
    pub(super) timestamp: u32,
    /// How many states the SVM had loaded when the connection was learned.
    pub(super) generation: u64,
    /// When the last segment passed.
    pub(super) last_use: Ticks,
    svm_isn: u32,
    /// The client's number that the SVM acknowledged last.
    client_next: Option<u32>,
    guest: Half,
    client: Half,
    reset: bool,
    /// The handshake is complete.
    established: bool,
}

/// One direction of a connection, by its sender.
#[derive(Clone, Copy, Debug)]
enum Half {
    Open,
    /// A FIN was sent; the number is the one that acknowledges it, as its sender counts.
    Finished(u32),
    /// The FIN was acknowledged.
    Closed,
}

impl Half {
    fn finish(&mut self, packet: &Packet) {
        if packet.tcp.flags.contains(TcpFlags::FIN) && !matches!(self, Self::Closed) {
            let end = packet
                .tcp
                .seq
                .wrapping_add(packet.payload_len)
                .wrapping_add(1);
            *self = Self::Finished(end);
        }
    }

    fn acknowledge(&mut self, packet: &Packet, ack: u32) {
        if let Self::Finished(end) = *self
            && packet.tcp.flags.contains(TcpFlags::ACK)
            && serial::at_or_before(end, ack)
        {
            *self = Self::Closed;
        }
    }
}

impl Connection {
    pub(super) fn new(pvm: Isn, svm: Isn, generation: u64, now: Ticks) -> Self {
        let timestamp = match (pvm.timestamp, svm.timestamp) {
            (Some(pvm), Some(svm)) => svm.wrapping_sub(pvm),
            _ => 0,
        };
        Self {
            seq: svm.number.wrapping_sub(pvm.number),
            timestamp,
            generation,
            last_use: now,
            svm_isn: svm.number,
            client_next: None,
            guest: Half::Open,
            client: Half::Open,
            reset: false,
            established: false,
        }
    }

    /// One that an earlier node learned.
    pub(super) fn inherited(offset: Offset, now: Ticks) -> Self {
        Self {
            seq: offset.seq,
            timestamp: offset.timestamp,
            generation: INHERITED,
            last_use: now,
            svm_isn: offset.isn,
            client_next: None,
            guest: Half::Open,
            client: Half::Open,
            reset: false,
            established: true,
        }
    }

    /// Whether an earlier node learned it.
    pub(super) fn is_inherited(&self) -> bool {
        self.generation == INHERITED
    }

    /// What a later node has to know of it.
    pub(super) fn offset(&self) -> Offset {
        Offset {
            seq: self.seq,
            timestamp: self.timestamp,
            isn: self.svm_isn,
        }
    }

    /// Whether the guest opened it with this number.
    pub(super) fn began_with(&self, isn: u32) -> bool {
        self.svm_isn == isn
    }

    /// Whether both VMs chose the same numbers.
    pub(super) fn is_without_offset(&self) -> bool {
        self.seq == 0 && self.timestamp == 0
    }

    /// Whether `announced` only repeats what is known of this connection.
    pub(super) fn continues(&self, announced: &Self) -> bool {
        (self.svm_isn, self.seq, self.timestamp)
            == (announced.svm_isn, announced.seq, announced.timestamp)
    }

    /// Whether both directions are closed, or a reset has ended them.
    pub(super) fn is_closed(&self) -> bool {
        self.reset || matches!((self.guest, self.client), (Half::Closed, Half::Closed))
    }

    /// Whether more than the SYN of each side was seen: the client has acknowledged the guest's, or the guest goes on.
    pub(super) fn is_established(&self) -> bool {
        self.established
    }

    /// Follows a segment of the client, as it came.
    pub(super) fn heard_client(&mut self, packet: &Packet, now: Ticks) {
        self.last_use = now;
        // Any other number is not accepted either (RFC 9293, 3.10.7.4), and may be an attack.
        self.reset |= packet.tcp.flags.contains(TcpFlags::RST)
            && self.client_next.is_none_or(|next| next == packet.tcp.seq);
        self.client.finish(packet);
        let ack = packet.tcp.ack.wrapping_add(self.seq);
        self.established |= goes_on(packet) && serial::before(self.svm_isn, ack);
        self.guest.acknowledge(packet, ack);
    }

    /// Follows a segment of the SVM, as it came.
    pub(super) fn heard_guest(&mut self, packet: &Packet, now: Ticks) {
        self.last_use = now;
        self.reset |= packet.tcp.flags.contains(TcpFlags::RST);
        if packet.tcp.flags.contains(TcpFlags::ACK) {
            self.client_next = Some(packet.tcp.ack);
        }
        self.established |= goes_on(packet);
        self.guest.finish(packet);
        self.client.acknowledge(packet, packet.tcp.ack);
    }
}

/// Whether a segment belongs to a connection whose handshake its sender takes for complete.
fn goes_on(packet: &Packet) -> bool {
    let flags = packet.tcp.flags;
    flags.contains(TcpFlags::ACK) && !flags.intersects(TcpFlags::SYN | TcpFlags::RST)
}
