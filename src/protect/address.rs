//! An address of the VM's, and the frames that are sent in its name.

use std::net::{IpAddr, Ipv6Addr};

use crate::packet::build::{self, Buffer, DISCOVERY, IPV6_HEADER, Ipv6};
use crate::proto::ether;
use crate::proto::ip::ICMPV6;

/// Bytes of tags that an address may have: two.
pub(super) const TAGS: usize = 8;
/// The longest frame is an MLD report of version 2.
const LONGEST: usize = 14 + TAGS + IPV6_HEADER + 8 + 28;
/// The hop limit of neighbour discovery (RFC 4861, 7.1).
const HOPS: u8 = 255;

/// A frame that announces one of the VM's addresses, reports a group, or asks for a neighbour.
pub type Announcement = Buffer<LONGEST>;

/// One of the VM's addresses and the tags under which it speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    pub mac: [u8; 6],
    pub tags: [u8; TAGS],
    pub tags_len: u8,
    pub ip: Option<IpAddr>,
}

impl Address {
    /// A frame from here that begins with an Ethernet header.
    pub(crate) fn frame(&self, to: &[u8; 6], ether_type: u16) -> Announcement {
        let mut frame = Announcement::default();
        let tags = &self.tags[..self.tags_len.into()];
        frame.ethernet(to, &self.mac, tags, ether_type);
        frame
    }

    /// A frame of neighbour discovery from here; its checksum is written.
    pub(crate) fn discovery(
        &self,
        mac: &[u8; 6],
        [from, to]: [Ipv6Addr; 2],
        mut message: [u8; DISCOVERY],
    ) -> Announcement {
        build::finish_v6(&mut message, from, to);
        let mut frame = self.frame(mac, ether::IPV6);
        let header = Ipv6 {
            from,
            to,
            next: ICMPV6,
            hops: HOPS,
        };
        frame.ipv6(&header, message.len());
        frame.put(&message);
        frame.pad();
        frame
    }
}
