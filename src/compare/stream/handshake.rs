//! The numbers that the two VMs opened a connection with, and the offset between them.

use crate::flow::FlowKey;
use crate::frame::Frame;
use crate::packet::{Packet, TcpOptions};

/// A SYN that was seen from one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syn {
    pub isn: u32,
    /// TSval (RFC 7323), if there was one.
    pub timestamp: Option<u32>,
}

impl Syn {
    pub(super) fn of<F: Frame>(frame: &F, packet: &Packet) -> Self {
        let options = TcpOptions::parse(packet.tcp_options(frame.head()));
        Self {
            isn: packet.tcp.seq,
            timestamp: options.timestamps.map(|(value, _)| value),
        }
    }
}

/// The numbers that both VMs opened a connection with, which the rewriter at the secondary needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synchronized {
    /// The connection, in the direction of the output.
    pub flow: FlowKey,
    /// Initial sequence number and TSval of the PVM's SYN or SYN+ACK.
    pub pvm: (u32, Option<u32>),
    /// The same of the SVM's.
    pub svm: (u32, Option<u32>),
}
