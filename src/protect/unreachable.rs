//! Tells a client that the host was unreachable until now, so that it sends again at once.
//!
//! What a client sent while nobody served waits for its retransmission timer, which has doubled with
//! each try in vain. An ICMP unreachable of host or route takes such a doubling back, and where the
//! timer is over then the client sends at once (RFC 6069, TCP-LD; Linux `tcp_ld_RTO_revert`). The
//! message quotes a segment by its sequence number; Linux heeds it only where that is the first which
//! the client lacks an acknowledgment of, and drops it without a trace else. Of a connection that is established it is a
//! soft error that ends nothing (RFC 1122, 4.2.3.9; RFC 5461), and of one that is being opened none
//! is sent: there it could be taken for a refusal.

use std::net::IpAddr;

use crate::packet::checksum::Sum;
use crate::packet::{Kind, Packet, TcpFlags};

/// Ethernet with two tags.
const LINK_MAX: usize = 14 + 8;
/// Bytes of a quoted TCP header: ports and sequence number.
const QUOTED: usize = 8;
/// ICMP: type, code, checksum, four unused bytes (RFC 792, RFC 4443).
const MESSAGE: usize = 8;
const IPV4: usize = 20;
const IPV6: usize = 40;
const LONGEST: usize = LINK_MAX + 2 * IPV6 + MESSAGE + QUOTED;
const HOPS: u8 = 64;
const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// A frame that says so for one connection.
#[derive(Clone, Copy, Debug)]
pub struct Unreachable {
    bytes: [u8; LONGEST],
    len: usize,
}

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
        let (vm, client) = (key.src_ip()?, key.dst_ip()?);
        let mut quote = [0; QUOTED];
        quote[..2].copy_from_slice(&key.dst_port()?.to_be_bytes());
        quote[2..4].copy_from_slice(&key.src_port()?.to_be_bytes());
        quote[4..].copy_from_slice(&sequence.to_be_bytes());
        let mut frame = Self {
            bytes: [0; LONGEST],
            len: 0,
        };
        frame.put(link);
        match (vm, client) {
            (IpAddr::V4(vm), IpAddr::V4(client)) => {
                let (vm, client) = (vm.octets(), client.octets());
                frame.put(&ipv4(vm, client, ICMP, MESSAGE + IPV4 + QUOTED));
                // Destination unreachable, host.
                let quoted = [&ipv4(client, vm, TCP, QUOTED)[..], &quote];
                frame.message([3, 1], Sum::default(), quoted);
            }
            (IpAddr::V6(vm), IpAddr::V6(client)) => {
                let (vm, client) = (vm.octets(), client.octets());
                let len = MESSAGE + IPV6 + QUOTED;
                frame.put(&ipv6(vm, client, ICMPV6, len));
                let mut sum = Sum::default();
                sum.add(&vm);
                sum.add(&client);
                sum.add(&[0, 0, 0, len as u8, 0, 0, 0, ICMPV6]);
                // Destination unreachable, no route.
                let quoted = [&ipv6(client, vm, TCP, QUOTED)[..], &quote];
                frame.message([1, 0], sum, quoted);
            }
            _ => return None,
        }
        Some(frame)
    }

    /// The frame, Ethernet header included, without FCS.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// `sum` is that of the pseudo-header, where the checksum has one.
    fn message(&mut self, [kind, code]: [u8; 2], mut sum: Sum, quoted: [&[u8]; 2]) {
        sum.add(&[kind, code]);
        quoted.iter().for_each(|part| sum.add(part));
        let [high, low] = sum.checksum().to_be_bytes();
        self.put(&[kind, code, high, low, 0, 0, 0, 0]);
        quoted.iter().for_each(|part| self.put(part));
    }
}

/// A header without options (RFC 791) before so many bytes.
fn ipv4(from: [u8; 4], to: [u8; 4], protocol: u8, payload: usize) -> [u8; IPV4] {
    let mut header = [0; IPV4];
    header[0] = 0x45;
    header[3] = (IPV4 + payload) as u8;
    // Never to be fragmented, so that the identification may be 0 (RFC 6864).
    header[6] = 0x40;
    (header[8], header[9]) = (HOPS, protocol);
    header[12..16].copy_from_slice(&from);
    header[16..].copy_from_slice(&to);
    let mut sum = Sum::default();
    sum.add(&header);
    header[10..12].copy_from_slice(&sum.checksum().to_be_bytes());
    header
}

/// A header (RFC 8200) before so many bytes.
fn ipv6(from: [u8; 16], to: [u8; 16], next: u8, payload: usize) -> [u8; IPV6] {
    let mut header = [0; IPV6];
    header[0] = 0x60;
    header[5] = payload as u8;
    (header[6], header[7]) = (next, HOPS);
    header[8..24].copy_from_slice(&from);
    header[24..].copy_from_slice(&to);
    header
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
            let quote = packet.quoted_tcp(bytes).expect("a segment");
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
