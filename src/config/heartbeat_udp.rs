//! The addresses of the datagrams that the control threads of the two nodes exchange.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::Deserialize;

/// Where this node's control thread sends from, and where the peer's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct HeartbeatUdp {
    /// An address of this host.
    pub local: SocketAddr,
    /// The peer's `local`.
    pub remote: SocketAddr,
}

/// Why a text names no two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeartbeatUdpError {
    /// It is not two addresses with ports.
    #[error(
        "give two addresses with ports, LOCAL,REMOTE: 192.0.2.1:7000,192.0.2.2:7000 or [2001:db8::1]:7000,..."
    )]
    Form,
    /// One is IPv4 and the other one is not.
    #[error("both addresses must be of one family")]
    Families,
    /// A port of 0, or the peer at any address.
    #[error("the ports must not be 0, and the peer needs an address")]
    Unspecified,
    /// One end twice.
    #[error("this node and its peer need different addresses or ports")]
    Same,
}

impl FromStr for HeartbeatUdp {
    type Err = HeartbeatUdpError;

    fn from_str(text: &str) -> Result<Self, HeartbeatUdpError> {
        let (local, remote) = text.split_once(',').ok_or(HeartbeatUdpError::Form)?;
        let address = |text: &str| {
            text.trim()
                .parse::<SocketAddr>()
                .map_err(|_| HeartbeatUdpError::Form)
        };
        let (local, remote) = (address(local)?, address(remote)?);
        if local.is_ipv4() != remote.is_ipv4() {
            return Err(HeartbeatUdpError::Families);
        }
        if local.port() == 0 || remote.port() == 0 || remote.ip().is_unspecified() {
            return Err(HeartbeatUdpError::Unspecified);
        }
        if local == remote {
            return Err(HeartbeatUdpError::Same);
        }
        Ok(Self { local, remote })
    }
}

impl TryFrom<String> for HeartbeatUdp {
    type Error = HeartbeatUdpError;

    fn try_from(text: String) -> Result<Self, HeartbeatUdpError> {
        text.parse()
    }
}

impl fmt::Display for HeartbeatUdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.local, self.remote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ends_of_one_family_are_read() {
        for text in [
            "192.0.2.1:7000,192.0.2.2:7000",
            "[2001:db8::1]:1,[2001:db8::2]:1",
            "0.0.0.0:7000,192.0.2.2:7000",
        ] {
            let ends: HeartbeatUdp = text.parse().expect(text);
            assert_eq!(ends.to_string(), text);
        }
        for (text, error) in [
            ("192.0.2.1:7000", HeartbeatUdpError::Form),
            ("192.0.2.1,192.0.2.2", HeartbeatUdpError::Form),
            ("host:1,other:1", HeartbeatUdpError::Form),
            ("192.0.2.1:1,[2001:db8::2]:1", HeartbeatUdpError::Families),
            ("192.0.2.1:0,192.0.2.2:1", HeartbeatUdpError::Unspecified),
            ("192.0.2.1:1,0.0.0.0:1", HeartbeatUdpError::Unspecified),
            ("192.0.2.1:1,192.0.2.1:1", HeartbeatUdpError::Same),
        ] {
            assert_eq!(text.parse::<HeartbeatUdp>(), Err(error), "{text}");
        }
    }
}
