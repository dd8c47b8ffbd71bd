//! Where the metrics are served.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

/// Longest path of the socket in bytes: `sun_path` less its closing zero (unix(7)), and less the longest name that a
/// socket has before it gets this one.
const PATH_MAX: usize = 80;

/// Where the metrics are served.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum MetricsAddress {
    /// On a TCP port.
    Tcp(SocketAddr),
    /// `unix:PATH`: on a unix stream socket.
    Unix(PathBuf),
}

/// A text that names no such place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricsAddressError {
    /// Neither an address with a port nor a path.
    #[error(
        "give a numeric address with a port, 127.0.0.1:9177 or [::1]:9177, or unix: and the path of a socket"
    )]
    Form,
    /// No scraper could know the port.
    #[error("the port must not be 0")]
    NoPort,
    /// The kernel takes no such path.
    #[error("the path of the socket may have 1 to {PATH_MAX} bytes, and no zero byte")]
    Path,
}

impl FromStr for MetricsAddress {
    type Err = MetricsAddressError;

    fn from_str(text: &str) -> Result<Self, MetricsAddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let is_path = (1..=PATH_MAX).contains(&path.len()) && !path.contains('\0');
            return match is_path {
                true => Ok(Self::Unix(Path::new(path).to_owned())),
                false => Err(MetricsAddressError::Path),
            };
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => Err(MetricsAddressError::NoPort),
            Ok(address) => Ok(Self::Tcp(address)),
            Err(_) => Err(MetricsAddressError::Form),
        }
    }
}

impl TryFrom<String> for MetricsAddress {
    type Error = MetricsAddressError;

    fn try_from(text: String) -> Result<Self, MetricsAddressError> {
        text.parse()
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_or_a_path() {
        for text in [
            "127.0.0.1:9177",
            "[::]:65535",
            "unix:/run/colo/metrics.sock",
            "unix:m",
        ] {
            let place: MetricsAddress = text.parse().expect(text);
            assert_eq!(place.to_string(), text);
        }
        let long = format!("unix:{}", "x".repeat(PATH_MAX + 1));
        for (text, error) in [
            ("", MetricsAddressError::Form),
            ("9177", MetricsAddressError::Form),
            ("127.0.0.1", MetricsAddressError::Form),
            ("localhost:9177", MetricsAddressError::Form),
            ("/run/metrics.sock", MetricsAddressError::Form),
            ("127.0.0.1:65536", MetricsAddressError::Form),
            ("127.0.0.1:0", MetricsAddressError::NoPort),
            ("unix:", MetricsAddressError::Path),
            ("unix:a\0b", MetricsAddressError::Path),
            (&long, MetricsAddressError::Path),
        ] {
            assert_eq!(text.parse::<MetricsAddress>(), Err(error), "{text:?}");
        }
    }
}
