//! What the two VMs opened a connection with: what must agree, and the offset between their numbers.

use crate::flow::FlowKey;
use crate::frame::Frame;
use crate::packet::{Packet, TcpOptions};

/// What the two SYNs must agree on, since the client will rely on it (RFC 9293 3.7.1, RFC 7323, RFC 2018).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Agreement {
    mss: Option<u16>,
    window_scale: Option<u8>,
    sack_permitted: bool,
    timestamps: bool,
}

impl Agreement {
    fn of(options: &TcpOptions) -> Self {
        Self {
            mss: options.mss,
            window_scale: options.window_scale,
            sack_permitted: options.sack_permitted,
            timestamps: options.timestamps.is_some(),
        }
    }
}

/// A SYN that was seen from one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syn {
    pub isn: u32,
    /// TSval (RFC 7323), if there was one.
    pub timestamp: Option<u32>,
    pub agreement: Agreement,
}

impl Syn {
    pub fn of<F: Frame>(frame: &F, packet: &Packet) -> Self {
        let options = TcpOptions::parse(packet.tcp_options(frame.head()));
        Self {
            isn: packet.tcp.seq,
            timestamp: options.timestamps.map(|(value, _)| value),
            agreement: Agreement::of(&options),
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
