//! Numbers that the IEEE and IANA assign, as headers carry them.

/// EtherTypes.
pub mod ether {
    /// IPv4 (RFC 894).
    pub const IPV4: u16 = 0x0800;
    /// Address resolution (RFC 826).
    pub const ARP: u16 = 0x0806;
    /// Reverse address resolution (RFC 903).
    pub const RARP: u16 = 0x8035;
    /// A tag of IEEE 802.1Q.
    pub const TAG: u16 = 0x8100;
    /// IPv6 (RFC 2464).
    pub const IPV6: u16 = 0x86dd;
    /// A service tag (IEEE 802.1ad, "QinQ").
    pub const SERVICE_TAG: u16 = 0x88a8;
    /// Link layer discovery (IEEE 802.1AB).
    pub const LLDP: u16 = 0x88cc;
}

/// Protocols over IP, and the extension headers of IPv6, which share their numbers.
pub mod ip {
    /// Options for every hop (RFC 8200, 4.3).
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP over IPv4 (RFC 792).
    pub const ICMP: u8 = 1;
    /// Group membership over IPv4 (RFC 3376).
    pub const IGMP: u8 = 2;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// Routing header (RFC 8200, 4.4).
    pub const ROUTING: u8 = 43;
    /// Fragment header (RFC 8200, 4.5).
    pub const FRAGMENT: u8 = 44;
    /// Authentication header (RFC 4302).
    pub const AUTHENTICATION: u8 = 51;
    /// ICMP over IPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// Options for the destination (RFC 8200, 4.6).
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// Kinds of a TCP option.
pub mod tcp_option {
    /// End of the list (RFC 9293, 3.2).
    pub const END: u8 = 0;
    /// Padding (RFC 9293, 3.2).
    pub const NO_OPERATION: u8 = 1;
    /// Maximum segment size (RFC 9293, 3.7.1).
    pub const MSS: u8 = 2;
    /// Window scale (RFC 7323, 2).
    pub const WINDOW_SCALE: u8 = 3;
    /// Selective acknowledgments are permitted (RFC 2018, 2).
    pub const SACK_PERMITTED: u8 = 4;
    /// Selective acknowledgments (RFC 2018, 3).
    pub const SACK: u8 = 5;
    /// Time stamps (RFC 7323, 3).
    pub const TIMESTAMPS: u8 = 8;
    /// MD5 signature (RFC 2385).
    pub const MD5_SIGNATURE: u8 = 19;
    /// Authentication, TCP-AO (RFC 5925).
    pub const AUTHENTICATION: u8 = 29;
    /// Multipath TCP (RFC 8684).
    pub const MPTCP: u8 = 30;
}
