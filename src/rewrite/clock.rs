//! The PVM's last time stamps that clients have seen. At a takeover the SVM's must not be lower.
//!
//! A VM that stood still before the takeover has a clock behind the one that its clients know. They drop its segments
//! as old duplicates (PAWS; RFC 7323, section 5.3), and its first answers wait for a retransmission timer. The input
//! is the time stamps that clients echo, the output the least time stamp that a connection's next segment must bear.
//! It bears that one until the VM's own clock has reached it; then the connection is removed here.
//!
//! What the client then echoes lies ahead of the VM's clock, of which a sender makes no use (Linux
//! `tcp_rtt_tsopt_us`: no sample of a round trip).

use crate::flow::FlowTable;
use crate::packet::{Packet, TcpFlags, serial, timestamp_echo};

/// Connections that are kept; the one that has been silent for longest makes room.
const CONNECTIONS: usize = 4096;
/// How much more than it has echoed a client may have heard, in ticks of the VM's clock: 0.1 s of
/// Linux's, and at most 100 s (RFC 7323, section 5.4).
const UNHEARD: u32 = 100;
/// Bytes of a TCP header without options.
const TCP_HEADER: usize = 20;

/// The least time stamps, by the flow from the guest to the client.
pub(super) struct Clocks {
    least: FlowTable<u32>,
    hash_seed: u64,
}

impl Clocks {
    /// None yet; no more than `connections`.
    pub(super) fn new(connections: usize, hash_seed: u64) -> Self {
        Self {
            least: FlowTable::new(CONNECTIONS.min(connections)),
            hash_seed,
        }
    }

    /// Whether no connection is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.least.is_empty()
    }

    /// Takes in a segment of a client, in its own numbers, with its first part. Once the VM speaks for itself, what is
    /// echoed is the VM's own or less, so that no connection is new.
    pub(super) fn hear(&mut self, head: &[u8], packet: &Packet, taken_over: bool) {
        let key = packet.key.reversed();
        let hash = key.hash_seeded(self.hash_seed);
        let mut known = self.least.find(&key, hash);
        if packet.tcp.flags.contains(TcpFlags::SYN)
            && let Some(id) = known.take()
        {
            self.least.remove(id);
        }
        let Some(echo) = echo(head, packet) else {
            return;
        };
        match known {
            Some(id) => {
                let least = &mut self.least[id];
                let heard = echo.wrapping_add(if taken_over { 0 } else { UNHEARD });
                if serial::before(*least, heard) {
                    *least = heard;
                }
                self.least.touch(id);
            }
            None if taken_over => {}
            None => {
                if self.least.len() == self.least.capacity()
                    && let Some(oldest) = self.least.oldest()
                {
                    self.least.remove(oldest);
                }
                // A table without room has no capacity at all.
                let _ = self.least.insert(key, hash, echo.wrapping_add(UNHEARD));
            }
        }
    }

    /// The time stamp to put in the place of what the VM's clock says in a segment, if it is behind. Its SYN opens
    /// another connection.
    pub(super) fn least(&mut self, head: &[u8], packet: &Packet) -> Option<u32> {
        let key = &packet.key;
        let id = self.least.find(key, key.hash_seeded(self.hash_seed))?;
        let value = value(head, packet)?;
        let least = self.least[id];
        if packet.tcp.flags.contains(TcpFlags::SYN) || serial::at_or_before(least, value) {
            self.least.remove(id);
            return None;
        }
        Some(least)
    }
}

/// TSecr, where it says anything.
fn echo(head: &[u8], packet: &Packet) -> Option<u32> {
    let (options, at) = time_stamps(head, packet)?;
    let echo = u32::from_be_bytes(*options.get(at..)?.first_chunk()?);
    (packet.tcp.flags.contains(TcpFlags::ACK) && echo != 0).then_some(echo)
}

/// TSval.
fn value(head: &[u8], packet: &Packet) -> Option<u32> {
    let (options, at) = time_stamps(head, packet)?;
    Some(u32::from_be_bytes(
        *options.get(at.checked_sub(4)?..)?.first_chunk()?,
    ))
}

/// The options and where in them TSecr is.
fn time_stamps<'a>(head: &'a [u8], packet: &Packet) -> Option<(&'a [u8], usize)> {
    let options = head.get(usize::from(packet.l4) + TCP_HEADER..usize::from(packet.payload))?;
    Some((options, timestamp_echo(options)?))
}
