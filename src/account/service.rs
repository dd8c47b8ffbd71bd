//! Which service a flow belongs to, and which end serves.

use crate::flow::{FlowClass, FlowKey};

/// A transport with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// The word for it, as a policy rule has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Which end has the port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// The guest.
    Served,
    /// The other end: the guest is its client.
    Used,
}

impl Direction {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Used => "used",
        }
    }
}

/// A service. There are no more than 262,401.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// A port of a transport.
    Port(Transport, Direction, u16),
    /// Another protocol over IP, or fragments, by its IANA number.
    Protocol(u8),
    /// What is not IP.
    Link,
}

impl Service {
    /// Of a flow in the direction of the guest's output. A client's port is chosen from the upper range, so the lower of
    /// both is the service's.
    pub fn of(flow: &FlowKey) -> Self {
        let transport = match flow.class() {
            FlowClass::Tcp => Transport::Tcp,
            FlowClass::Udp => Transport::Udp,
            _ => return flow.protocol().map_or(Self::Link, Self::Protocol),
        };
        let (own, other) = (
            flow.src_port().unwrap_or_default(),
            flow.dst_port().unwrap_or_default(),
        );
        match own <= other {
            true => Self::Port(transport, Direction::Served, own),
            false => Self::Port(transport, Direction::Used, other),
        }
    }

    /// The port, if it has one.
    pub fn port(self) -> Option<u16> {
        match self {
            Self::Port(_, _, port) => Some(port),
            Self::Protocol(_) | Self::Link => None,
        }
    }

    /// Which end serves, if it has a port.
    pub fn direction(self) -> Option<Direction> {
        match self {
            Self::Port(_, direction, _) => Some(direction),
            Self::Protocol(_) | Self::Link => None,
        }
    }

    /// The protocol in a word.
    pub fn protocol(self) -> String {
        match self {
            Self::Port(transport, ..) => transport.word().to_owned(),
            Self::Protocol(1) => "icmp".to_owned(),
            Self::Protocol(58) => "icmpv6".to_owned(),
            Self::Protocol(number) => format!("ip-{number}"),
            Self::Link => "ether".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Vlans;

    fn of(
        flow: fn(std::net::SocketAddr, std::net::SocketAddr) -> FlowKey,
        own: u16,
        other: u16,
    ) -> Service {
        let at = |host: u8, port| ([10, 0, 0, host], port).into();
        Service::of(&flow(at(2, own), at(1, other)))
    }

    #[test]
    fn the_lower_port_is_the_service_and_says_who_serves() {
        use Direction::{Served, Used};
        use Transport::{Tcp, Udp};
        for (service, expected) in [
            (of(FlowKey::tcp, 80, 40_000), Service::Port(Tcp, Served, 80)),
            (of(FlowKey::tcp, 40_000, 443), Service::Port(Tcp, Used, 443)),
            (of(FlowKey::udp, 123, 123), Service::Port(Udp, Served, 123)),
            (of(FlowKey::udp, 53_000, 53), Service::Port(Udp, Used, 53)),
        ] {
            assert_eq!(service, expected);
        }
    }

    #[test]
    fn what_has_no_ports_counts_by_its_protocol() {
        let link = FlowKey::link([2; 6], [4; 6], 0x88cc, Vlans::default());
        assert_eq!(Service::of(&link), Service::Link);
        assert_eq!(Service::Link.protocol(), "ether");
        assert_eq!(Service::Protocol(89).protocol(), "ip-89");
        assert_eq!(
            (Service::Link.port(), Service::Link.direction()),
            (None, None)
        );
    }
}
