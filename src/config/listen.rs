//! An address at which this host's QEMU is to listen for the other host's.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::Deserialize;

/// An address of this host with a port, at which the other host reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct ListenAddress(SocketAddr);

/// Why a text is no such address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenAddressError {
    /// It is not an address with a port.
    #[error("give an address of this host with a port, 192.0.2.1:9998 or [2001:db8::1]:9998")]
    Form,
    /// The peer cannot use it, and everyone could.
    #[error(
        "the port must not be 0, and the address must be one of this host's, at which the other host reaches it: \
         QEMU listens there and nowhere else"
    )]
    Unspecified,
}

impl ListenAddress {
    /// The address.
    pub fn address(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, ListenAddressError> {
        let address: SocketAddr = text.parse().map_err(|_| ListenAddressError::Form)?;
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(ListenAddressError::Unspecified);
        }
        Ok(Self(address))
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = ListenAddressError;

    fn try_from(text: String) -> Result<Self, ListenAddressError> {
        text.parse()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_a_peer_can_use_is_read() {
        for text in ["192.0.2.1:9998", "[2001:db8::1]:1"] {
            let address: ListenAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), text);
        }
        for (text, error) in [
            ("192.0.2.1", ListenAddressError::Form),
            ("host:1", ListenAddressError::Form),
            ("", ListenAddressError::Form),
            ("0.0.0.0:1", ListenAddressError::Unspecified),
            ("[::]:1", ListenAddressError::Unspecified),
            ("192.0.2.1:0", ListenAddressError::Unspecified),
        ] {
            assert_eq!(text.parse::<ListenAddress>(), Err(error), "{text}");
        }
    }
}
