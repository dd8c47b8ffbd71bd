//! The headers of a frame, decoded for a divergence record. A slow path: the comparison has its
//! own reader, and this one, from another hand, shows what it may have got wrong.

use std::net::IpAddr;

use etherparse::{LaxPacketHeaders, LinkExtHeader, LinkHeader, NetHeaders, TransportHeader};
use serde::Serialize;

/// The headers of a frame, as far as they can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Headers {
    #[serde(skip_serializing_if = "Option::is_none")]
    ethernet: Option<Ethernet>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vlans: Vec<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<Ip>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<Tcp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    udp: Option<Udp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp: Option<Icmp>,
    /// Why the decoding ended early.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Ethernet {
    source: String,
    destination: String,
    ether_type: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Ip {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// TTL or hop limit.
    hops: u8,
    /// Identification of IPv4.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u16>,
    /// Whether it is a fragment of a datagram.
    fragment: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Tcp {
    source_port: u16,
    destination_port: u16,
    seq: u32,
    ack: u32,
    flags: String,
    window: u16,
    /// Each as the decoder names it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Udp {
    source_port: u16,
    destination_port: u16,
    length: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Icmp {
    r#type: u8,
    code: u8,
}

impl Headers {
    /// Decodes an Ethernet frame as far as that goes.
    pub(super) fn of(frame: &[u8]) -> Self {
        let decoded = match LaxPacketHeaders::from_ethernet(frame) {
            Ok(decoded) => decoded,
            Err(error) => {
                return Self {
                    unreadable: Some(error.to_string()),
                    ..Self::default()
                };
            }
        };
        let mut headers = Self {
            unreadable: decoded.stop_err.map(|(error, _)| error.to_string()),
            ..Self::default()
        };
        if let Some(LinkHeader::Ethernet2(ethernet)) = decoded.link {
            headers.ethernet = Some(Ethernet {
                source: mac(ethernet.source),
                destination: mac(ethernet.destination),
                ether_type: format!("0x{:04x}", ethernet.ether_type.0),
            });
        }
        headers.vlans = decoded
            .link_exts
            .iter()
            .filter_map(|header| match header {
                LinkExtHeader::Vlan(vlan) => Some(vlan.vlan_id.value()),
                LinkExtHeader::Macsec(_) => None,
            })
            .collect();
        headers.ip = match decoded.net {
            Some(NetHeaders::Ipv4(ip, _)) => Some(Ip {
                source: IpAddr::from(ip.source),
                destination: IpAddr::from(ip.destination),
                protocol: ip.protocol.0,
                hops: ip.time_to_live,
                id: Some(ip.identification),
                fragment: ip.is_fragmenting_payload(),
            }),
            Some(NetHeaders::Ipv6(ip, extensions)) => Some(Ip {
                source: IpAddr::from(ip.source),
                destination: IpAddr::from(ip.destination),
                protocol: extensions
                    .next_header(ip.next_header)
                    .unwrap_or(ip.next_header)
                    .0,
                hops: ip.hop_limit,
                id: None,
                fragment: extensions.is_fragmenting_payload(),
            }),
            Some(NetHeaders::Arp(_)) | None => None,
        };
        match decoded.transport {
            Some(TransportHeader::Tcp(tcp)) => headers.tcp = Some(Tcp::of(&tcp)),
            Some(TransportHeader::Udp(udp)) => {
                headers.udp = Some(Udp {
                    source_port: udp.source_port,
                    destination_port: udp.destination_port,
                    length: udp.length,
                });
            }
            Some(TransportHeader::Icmpv4(icmp)) => headers.icmp = Icmp::of(&icmp.to_bytes()),
            Some(TransportHeader::Icmpv6(icmp)) => headers.icmp = Icmp::of(&icmp.to_bytes()),
            Some(TransportHeader::Igmp(_)) | None => {}
        }
        headers
    }
}

impl Tcp {
    fn of(tcp: &etherparse::TcpHeader) -> Self {
        let flags = [
            (tcp.fin, "FIN"),
            (tcp.syn, "SYN"),
            (tcp.rst, "RST"),
            (tcp.psh, "PSH"),
            (tcp.ack, "ACK"),
            (tcp.urg, "URG"),
            (tcp.ece, "ECE"),
            (tcp.cwr, "CWR"),
        ];
        let set = flags
            .into_iter()
            .filter_map(|(set, name)| set.then_some(name));
        Self {
            source_port: tcp.source_port,
            destination_port: tcp.destination_port,
            seq: tcp.sequence_number,
            ack: tcp.acknowledgment_number,
            flags: set.collect::<Vec<_>>().join(","),
            window: tcp.window_size,
            options: tcp
                .options_iterator()
                .map(|option| match option {
                    Ok(option) => format!("{option:?}"),
                    Err(error) => error.to_string(),
                })
                .collect(),
        }
    }
}

impl Icmp {
    /// Type and code are the first two bytes of ICMP (RFC 792) and ICMPv6 (RFC 4443) alike.
    fn of(header: &[u8]) -> Option<Self> {
        Some(Self {
            r#type: *header.first()?,
            code: *header.get(1)?,
        })
    }
}

fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes whose EtherType is often one that leads on.
    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let ether_type = prop_oneof![
            Just([0x08, 0x00]),
            Just([0x86, 0xdd]),
            Just([0x81, 0x00]),
            Just([0x88, 0xa8]),
            Just([0x08, 0x06]),
            any::<[u8; 2]>(),
        ];
        let version = prop_oneof![Just(0x45), Just(0x60), any::<u8>()];
        let rest = proptest::collection::vec(any::<u8>(), 0..120);
        (any::<[u8; 12]>(), ether_type, version, rest)
            .prop_map(|(macs, kind, version, rest)| [&macs[..], &kind, &[version], &rest].concat())
    }

    proptest! {
        #[test]
        fn no_frame_stops_a_record(frame in frames(), keep in 0..140usize) {
            let headers = Headers::of(&frame[..frame.len().min(keep)]);
            serde_json::to_string(&headers).expect("the keys are strings");
        }
    }
}
