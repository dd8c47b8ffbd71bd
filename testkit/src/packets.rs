//! Frames for tests, built header by header with `etherparse`.

use etherparse::{IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, TcpHeader, UdpHeader};

/// The two ends of a conversation, from the VM's side.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// VLAN identifiers, outer first; at most two.
    pub vlans: Vec<u16>,
    /// Last byte of the peer's address.
    pub peer: u8,
    /// The VM's port, or the identifier of an echo.
    pub port: u16,
    /// The peer's port.
    pub peer_port: u16,
    /// The frame goes from the peer to the VM.
    pub from_peer: bool,
}

impl Ends {
    /// The same conversation in the other direction.
    pub fn reversed(&self) -> Self {
        Self {
            from_peer: !self.from_peer,
            ..self.clone()
        }
    }

    /// Last bytes of the addresses of source and destination.
    fn hosts(&self) -> [u8; 2] {
        match self.from_peer {
            false => [1, self.peer],
            true => [self.peer, 1],
        }
    }

    /// The ports of source and destination.
    fn ports(&self) -> [u16; 2] {
        match self.from_peer {
            false => [self.port, self.peer_port],
            true => [self.peer_port, self.port],
        }
    }
}

/// The fields of a TCP segment.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// The sequence number.
    pub seq: u32,
    /// The acknowledgment number; `None` without ACK.
    pub ack: Option<u32>,
    /// SYN.
    pub syn: bool,
    /// FIN.
    pub fin: bool,
    /// RST.
    pub rst: bool,
    /// The window as in the header.
    pub window: u16,
    /// Options, padded to a multiple of four bytes.
    pub options: Vec<u8>,
    /// The data.
    pub payload: Vec<u8>,
}

/// The place of a fragment in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// In units of 8 bytes.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
}

/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// EtherType of IPv4.
pub const ETHER_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHER_IPV6: u16 = 0x86dd;

/// MAC addresses, tags and EtherType.
pub fn ethernet(ends: &Ends, ether_type: u16) -> Vec<u8> {
    let (peer, vm) = ([2, 0, 0, 0, 1, ends.peer], [2, 0, 0, 0, 0, 1]);
    let mut bytes = match ends.from_peer {
        false => [peer, vm].concat(),
        true => [vm, peer].concat(),
    };
    for (i, vlan) in ends.vlans.iter().enumerate() {
        let outer_of_two = i == 0 && ends.vlans.len() == 2;
        let tag: u16 = if outer_of_two { 0x88a8 } else { 0x8100 };
        bytes.extend(tag.to_be_bytes());
        bytes.extend(vlan.to_be_bytes());
    }
    bytes.extend(ether_type.to_be_bytes());
    bytes
}

/// A frame of any protocol over IP; `trivia` fills fields that no comparison may look at.
///
/// # Panics
/// When the content is too long for a datagram.
pub fn ip(
    ends: &Ends,
    protocol: u8,
    fragment: Option<Fragment>,
    trivia: u8,
    content: &[u8],
) -> Vec<u8> {
    let protocol = IpNumber(protocol);
    let [source, destination] = ends.hosts();
    if ends.v6 {
        let mut bytes = ethernet(ends, ETHER_IPV6);
        let address = |last: u8| {
            let mut a = [0; 16];
            (a[0], a[1], a[15]) = (0xfd, 0x00, last);
            a
        };
        let extension = if fragment.is_some() { 8 } else { 0 };
        let header = Ipv6Header {
            payload_length: (content.len() + extension) as u16,
            next_header: if fragment.is_some() {
                IpNumber::IPV6_FRAGMENTATION_HEADER
            } else {
                protocol
            },
            hop_limit: 64 ^ (trivia & 1),
            source: address(source),
            destination: address(destination),
            ..Default::default()
        };
        bytes.extend(header.to_bytes());
        if let Some(Fragment { offset, more }) = fragment {
            let offset = offset.try_into().expect("13 bits");
            let header = Ipv6FragmentHeader::new(protocol, offset, more, u32::from(trivia));
            bytes.extend(header.to_bytes());
        }
        bytes.extend(content);
        bytes
    } else {
        let mut bytes = ethernet(ends, ETHER_IPV4);
        let mut header = Ipv4Header::new(
            content.len() as u16,
            64 ^ (trivia & 1),
            protocol,
            [10, 0, 0, source],
            [10, 0, 0, destination],
        )
        .expect("a datagram of less than 64 KiB");
        header.identification = u16::from(trivia);
        if let Some(Fragment { offset, more }) = fragment {
            header.dont_fragment = false;
            header.fragment_offset = offset.try_into().expect("13 bits");
            header.more_fragments = more;
        }
        bytes.extend(header.to_bytes());
        bytes.extend(content);
        bytes
    }
}

/// A TCP segment; its checksum is trivia, too.
///
/// # Panics
/// When it has more than 40 bytes of options.
pub fn tcp(ends: &Ends, segment: &Segment, trivia: u8) -> Vec<u8> {
    let [from, to] = ends.ports();
    let mut header = TcpHeader::new(from, to, segment.seq, segment.window);
    header.acknowledgment_number = segment.ack.unwrap_or(0);
    header.ack = segment.ack.is_some();
    (header.syn, header.fin, header.rst) = (segment.syn, segment.fin, segment.rst);
    header.psh = trivia & 2 != 0 && !segment.payload.is_empty();
    header.checksum = u16::from(trivia);
    header
        .set_options_raw(&segment.options)
        .expect("at most 40 bytes of options");
    let mut content = header.to_bytes().to_vec();
    content.extend(&segment.payload);
    ip(ends, TCP, None, trivia, &content)
}

/// A UDP datagram.
pub fn udp(ends: &Ends, payload: &[u8], trivia: u8) -> Vec<u8> {
    let [source_port, destination_port] = ends.ports();
    let mut content = UdpHeader {
        source_port,
        destination_port,
        length: payload.len() as u16 + 8,
        checksum: u16::from(trivia),
    }
    .to_bytes()
    .to_vec();
    content.extend(payload);
    ip(ends, UDP, None, trivia, &content)
}

/// An echo reply of the flow with this identifier; its checksum is trivia too.
pub fn echo_reply(ends: &Ends, payload: &[u8], trivia: u8) -> Vec<u8> {
    let kind = if ends.v6 { 129 } else { 0 };
    let mut content = vec![kind, 0, 0, trivia];
    content.extend(ends.port.to_be_bytes());
    content.extend([0, 1]);
    content.extend(payload);
    let protocol = if ends.v6 { ICMPV6 } else { ICMP };
    ip(ends, protocol, None, trivia, &content)
}

/// Options of a SYN: MSS, window scale, SACK permission and, if asked for, timestamps.
pub fn syn_options(mss: u16, timestamps: Option<u32>) -> Vec<u8> {
    let mut options = vec![2, 4];
    options.extend(mss.to_be_bytes());
    options.extend([1, 3, 3, 7, 4, 2]);
    match timestamps {
        Some(value) => {
            options.extend([8, 10]);
            options.extend(value.to_be_bytes());
            options.extend([0; 4]);
        }
        None => options.extend([1, 1]),
    }
    options
}

/// Options of any other segment.
pub fn timestamp_options(value: u32) -> Vec<u8> {
    let mut options = vec![1, 1, 8, 10];
    options.extend(value.to_be_bytes());
    options.extend([0; 4]);
    options
}
