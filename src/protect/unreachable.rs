//! Reports to a client that the host was unreachable until now, so that it sends again at once.
//!
//! What a client sent while nobody served waits for its retransmission timer, which has doubled with
//! each try without an answer. An ICMP unreachable of host or route takes such a doubling back, and where the
//! timer is over then the client sends at once (RFC 6069, TCP-LD; Linux `tcp_ld_RTO_revert`). The
//! message quotes a segment by its sequence number; Linux heeds it only where that is the first which
//! the client lacks an acknowledgment of, and drops it without a trace else. Of a connection that is established it is a
//! soft error that ends nothing (RFC 1122, 4.2.3.9; RFC 5461), and of one that is being opened none
//! is sent: there it could be taken for a refusal.

use std::net::IpAddr;

use crate::packet::build::{self, Buffer, IPV4_HEADER, IPV6_HEADER, Ipv4, Ipv6};
use crate::packet::{Kind, Packet, TcpFlags};
use crate::proto::ip::{ICMP, ICMPV6, TCP};

/// Ethernet with two tags.
const LINK_MAX: usize = 14 + 8;
/// Bytes of a quoted TCP header: ports and sequence number.
const QUOTED: usize = 8;
/// ICMP: type, code, checksum, four unused bytes (RFC 792, RFC 4443).
const MESSAGE: usize = 8;
/// The longest message: its header and what it quotes.
const LONGEST: usize = MESSAGE + IPV6_HEADER + QUOTED;
const HOPS: u8 = 64;

/// A frame that says so for one connection.
#[derive(Clone, Copy, Debug)]
pub struct Unreachable(Buffer<{ LINK_MAX + IPV6_HEADER + LONGEST }>);

impl Unreachable {
    /// For the client to which the VM has sent this segment, in the client's numbers; `packet` was
    /// parsed from it, `head` is its first part, and `sequence` is that of the client's segment which the
    /// message is about. None where the connection is not established.
    pub fn about(head: &[u8], packet: &Packet, sequence: u32) -> Option<Self> {
        let flags = packet.tcp.flags;
        let established = packet.kind == Kind::Tcp
            && flags.contains(TcpFlags::ACK)
            && !flags.contains(TcpFlags::SYN)
            && !flags.contains(TcpFlags::RST);
        let link = head.get(..usize::from(packet.l3))?;
        if !established || link.len() > LINK_MAX {
            return None;
        }
        let key = packet.key;
        let mut quote = [0; QUOTED];
        quote[..2].copy_from_slice(&key.dst_port()?.to_be_bytes());
        quote[2..4].copy_from_slice(&key.src_port()?.to_be_bytes());
        quote[4..].copy_from_slice(&sequence.to_be_bytes());
        let mut frame = Buffer::default();
        frame.put(link);
        let mut message = [0; LONGEST];
        match (key.src_ip()?, key.dst_ip()?) {
            (IpAddr::V4(vm), IpAddr::V4(client)) => {
                let header = |from, to, protocol| Ipv4 {
                    from,
                    to,
                    protocol,
                    hops: HOPS,
                    service: 0,
                    options: &[],
                };
                let mut quoted = Buffer::<{ IPV4_HEADER + QUOTED }>::default();
                quoted.ipv4(&header(client, vm, TCP), QUOTED);
                quoted.put(&quote);
                // Destination unreachable, host.
                let message = about(&mut message, [3, 1], quoted.bytes());
                build::finish(message);
                frame.ipv4(&header(vm, client, ICMP), message.len());
                frame.put(message);
            }
            (IpAddr::V6(vm), IpAddr::V6(client)) => {
                let header = |from, to, next| Ipv6 {
                    from,
                    to,
                    next,
                    hops: HOPS,
                };
                let mut quoted = Buffer::<{ IPV6_HEADER + QUOTED }>::default();
                quoted.ipv6(&header(client, vm, TCP), QUOTED);
                quoted.put(&quote);
                // Destination unreachable, no route.
                let message = about(&mut message, [1, 0], quoted.bytes());
                build::finish_v6(message, vm, client);
                frame.ipv6(&header(vm, client, ICMPV6), message.len());
                frame.put(message);
            }
            _ => return None,
        }
        Some(Self(frame))
    }

    /// The frame, Ethernet header included, without FCS.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// The message of this type and code about what is quoted; its checksum is still to come.
fn about<'a>(message: &'a mut [u8; LONGEST], kind: [u8; 2], quoted: &[u8]) -> &'a mut [u8] {
    let message = &mut message[..MESSAGE + quoted.len()];
    message[..2].copy_from_slice(&kind);
    message[MESSAGE..].copy_from_slice(quoted);
    message
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, TcpHeader};

    use super::*;
    use crate::packet::checksum::verify;

    fn segment(v6: bool, change: impl Fn(&mut TcpHeader)) -> Vec<u8> {
        let mut tcp = TcpHeader::new(80, 40_000, 1_000, 500);
        tcp.ack = true;
        change(&mut tcp);
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let builder = match v6 {
            true => builder.ipv6([0xfd; 16], [0xfe; 16], 64),
            false => builder.ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64),
        };
        let mut bytes = Vec::new();
        builder.tcp_header(tcp).write(&mut bytes, b"data").unwrap();
        bytes
    }

    fn about(segment: &[u8]) -> Option<Unreachable> {
        let packet = Packet::parse(segment, segment.len());
        Unreachable::about(segment, &packet, 0x0102_0304)
    }

    #[test]
    fn it_quotes_the_segment_that_it_is_about() {
        for v6 in [false, true] {
            let frame = about(&segment(v6, |_| {})).unwrap();
            let bytes = frame.bytes();
            let packet = Packet::parse(bytes, bytes.len());
            assert_eq!(packet.kind, Kind::Icmp);
            assert_ne!(verify(&packet, [bytes]), Some(false));
            assert_eq!(packet.key.icmp().unwrap().0, if v6 { 1 } else { 3 });
            let quote = packet.embedded_tcp(bytes).expect("a segment");
            let sent = Packet::parse(&segment(v6, |_| {}), 200).key;
            assert_eq!(quote.key, sent.reversed());
            assert_eq!(bytes[quote.tcp + 4..quote.tcp + 8], [1, 2, 3, 4]);
            assert!(etherparse::SlicedPacket::from_ethernet(bytes).is_ok());
        }
    }

    #[test]
    fn a_connection_that_is_being_opened_or_was_reset_hears_nothing() {
        assert!(about(&segment(false, |tcp| tcp.syn = true)).is_none());
        assert!(about(&segment(true, |tcp| tcp.rst = true)).is_none());
        assert!(about(&segment(true, |tcp| tcp.ack = false)).is_none());
        let whole = segment(false, |_| {});
        for end in 0..whole.len() {
            // Whatever is there of it: no panic.
            about(&whole[..end]);
        }
    }
}
