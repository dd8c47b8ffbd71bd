//! The numbers that a host opens a TCP connection with, and the offset between those of two hosts.

use serde::{Deserialize, Serialize};

use super::{Packet, TcpOptions};

/// The numbers that one VM opened a connection with, in its SYN or SYN+ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isn {
    /// Initial sequence number.
    pub number: u32,
    /// Time stamp (TSval, RFC 7323), if there was one. When both VMs sent one, the SVM gets the echo of its own and
    /// not of the PVM's, which Linux refuses during the handshake.
    pub timestamp: Option<u32>,
}

impl Isn {
    /// Those of a SYN or SYN+ACK, given with the bytes of its first segment.
    pub(crate) fn of(packet: &Packet, head: &[u8]) -> Self {
        let options = TcpOptions::parse(packet.tcp_options(head));
        Self {
            number: packet.tcp.seq,
            timestamp: options.timestamps.map(|(value, _)| value),
        }
    }
}

/// A SYN without a time stamp.
impl From<u32> for Isn {
    fn from(number: u32) -> Self {
        Self {
            number,
            timestamp: None,
        }
    }
}

/// The difference between the numbers that a guest has and those that its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offset {
    /// The guest's sequence numbers minus the client's, modulo 2^32.
    pub seq: u32,
    /// The guest's time stamps minus the client's, modulo 2^32.
    pub timestamp: u32,
    /// The guest's initial sequence number.
    pub isn: u32,
}
