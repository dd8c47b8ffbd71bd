//! The TCP segment that an ICMP error quotes (RFC 792; RFC 4443, 2.4).

use super::parse::Ip;
use super::{Kind, Packet};
use crate::flow::{FlowClass, FlowKey};
use crate::proto::ether;
use crate::proto::ip::TCP;

/// The start of a TCP segment inside an ICMP error.
///
/// An error quotes at least 8 bytes of the transport header, so the ports and the sequence number,
/// and seldom the whole segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddedTcp {
    /// The flow of the quoted segment, in the direction in which the segment went.
    pub key: FlowKey,
    /// Offset of the quoted TCP header in the frame.
    pub tcp: usize,
    /// Offset of the first byte after what is there of the segment in the frame's first segment.
    pub end: usize,
}

/// Bytes before the quote in an ICMP error.
const ICMP_ERROR_HEADER: usize = 8;
/// Ports and sequence number.
const LEAST_QUOTE: usize = 8;

impl Packet {
    /// The TCP segment that this packet quotes, or `None` when it is no ICMP error, quotes
    /// something else or a fragment, or cuts the quote too short. `head` is the first segment of
    /// the frame that this packet was parsed from.
    pub fn embedded_tcp(&self, head: &[u8]) -> Option<EmbeddedTcp> {
        if self.kind != Kind::Icmp {
            return None;
        }
        let (icmp_type, _) = self.key.icmp()?;
        let ether_type = match (self.key.src_ip()?.is_ipv4(), icmp_type) {
            (true, 3 | 4 | 5 | 11 | 12) => ether::IPV4,
            (false, 1..=4) => ether::IPV6,
            _ => return None,
        };
        let message = head.get(..self.end().min(head.len()))?;
        let quote = usize::from(self.l4) + ICMP_ERROR_HEADER;
        // The quoted lengths speak of the whole datagram, of which this is only the start.
        let ip = Ip::read(ether_type, message, quote, usize::MAX).ok()?;
        if ip.protocol != TCP || ip.fragment != 0 {
            return None;
        }
        let end = ip.end.min(message.len());
        let segment = message
            .get(ip.l4..end)
            .filter(|segment| segment.len() >= LEAST_QUOTE)?;
        let src_port = u16::from_be_bytes([segment[0], segment[1]]);
        let dst_port = u16::from_be_bytes([segment[2], segment[3]]);
        let key = FlowKey::new(
            ip.ends,
            FlowClass::Tcp,
            src_port,
            dst_port,
            self.key.vlans(),
        );
        Some(EmbeddedTcp {
            key,
            tcp: ip.l4,
            end,
        })
    }
}
